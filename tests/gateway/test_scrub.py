"""The key in what the vendor says: gone before it reaches a client, the log or the ledger."""

from __future__ import annotations

import base64
import logging
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode

import pytest
from aiohttp import web
from databento import BentoError
from databento.common.error import BentoClientError
from databento_dbn import SystemMsg
from hypothesis import given
from hypothesis import strategies as st

from budget_guard.clock import RehearsalClock
from budget_guard.gateway.wire.framer import RTYPE_ERROR
from budget_guard.gateway.wire.scrub import Scrubber
from budget_guard.settings import Settings
from budget_guard.streaming.assembly import open_gateway
from budget_guard.vendor.errors import vendor_error
from tests.gateway.desk import NOW, NQ, TIMEOUT_S, policy
from tests.gateway.fake_gateway import NOW_NS, FakeGateway, Session, desk_before, error, order
from tests.gateway.fake_vendor import FakeVendor, running_vendor

KEY = "db-" + "k" * 29
# An ErrorMsg that ends nothing (DBN specification): the client is given it as it is.
SYMBOL_RESOLUTION_FAILED = 4


def books_of(folder: Path) -> bytes:
    """Everything that was written."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


# --- the scrubber -------------------------------------------------------------------------------------------


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_a_text_keeps_its_length_and_loses_every_form_of_the_key(before: bytes, after: bytes) -> None:
    basic = base64.b64encode(f"{KEY}:".encode())
    for form in (KEY.encode(), basic):
        said = before + form + after
        scrubbed = Scrubber(KEY).data(said)
        assert len(scrubbed) == len(said)
        assert form not in scrubbed
        assert scrubbed.startswith(before) and scrubbed.endswith(after)


def test_what_is_no_key_is_found_nowhere() -> None:
    assert Scrubber("db-").text("db-db-") == "db-db-"
    assert Scrubber("").data(b"anything") == b"anything"


async def unused(session: Session) -> None:
    """No session comes so far."""


# --- live ---------------------------------------------------------------------------------------------------


def test_a_logon_error_that_echoes_the_key_is_told_without_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = FakeGateway(
        unused, answer=f"success=0|error=Authentication failed. key {KEY} is unknown\n".encode()
    )
    with caplog.at_level(logging.DEBUG), desk_before(gateway, tmp_path) as desk:
        client, _ = desk.streaming()
        with pytest.raises(BentoError, match="key_rejected") as refused:
            client.block_for_close(TIMEOUT_S)
        desk.close()
        assert KEY not in str(refused.value) and "*" * len(KEY) in str(refused.value)
        assert all(KEY not in str(decision) for decision in desk.gateway.host.outcome.vendor)
    assert KEY not in caplog.text
    assert KEY.encode() not in books_of(tmp_path)


def test_records_that_echo_the_key_are_passed_on_without_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(session: Session) -> None:
        session.header()
        session.send(bytes(SystemMsg(NOW_NS, f"hello {KEY}")))
        session.send(order(NOW_NS))
        session.send(error(f"No symbols for {KEY}", SYMBOL_RESOLUTION_FAILED))
        await session.until_fin()

    with caplog.at_level(logging.DEBUG), desk_before(FakeGateway(script), tmp_path) as desk:
        client, got = desk.streaming()
        got.wait_for(lambda _: got.texts(RTYPE_ERROR))
        client.terminate()
        assert KEY.encode() not in b"".join(got.records)
        assert got.texts(RTYPE_ERROR) == [f"No symbols for {'*' * len(KEY)}"]
        assert len(got.data) == 1
        desk.close()
    assert KEY not in caplog.text
    assert KEY.encode() not in books_of(tmp_path)


# --- history ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [{"detail": f"no such key: {KEY}"}, f"no such key: {KEY}".encode(), "x" * 190 + KEY]
)
def test_an_error_of_the_vendors_metadata_is_told_without_the_key(body: Any) -> None:
    """Not even the first half of it, where a long text is cut."""
    given_body: dict[str, Any] = {"json_body": body} if isinstance(body, dict) else {"http_body": body}
    error = vendor_error(BentoClientError(422, **given_body), key=KEY)
    assert KEY[:16] not in str(error)


def ask(url: str, token: str, path: str, form: dict[str, str] | None = None) -> tuple[int, str]:
    """Status, headers and body of a request, as one text."""
    data = None if form is None else urlencode(form).encode()
    basic = base64.b64encode(f"{token}:".encode()).decode()
    request = urllib.request.Request(f"{url}/v0/{path}", data, {"Authorization": f"Basic {basic}"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return answer.status, f"{answer.headers}{answer.read().decode()}"
    except HTTPError as error:
        with error:
            return error.code, f"{error.headers}{error.read().decode()}"


@pytest.mark.parametrize("status", [200, 403])
def test_an_answer_that_echoes_the_key_in_words_or_as_it_was_sent_is_passed_on_without_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    async def answer(request: web.Request) -> web.Response:
        sent = request.headers["Authorization"]
        body = {"detail": {"case": "license_not_found", "message": f"{KEY} sent {sent}"}}
        return web.json_response(body, status=status, headers={"X-Warning": f"key {KEY} is old"})

    clock = RehearsalClock(NOW)
    with caplog.at_level(logging.DEBUG), running_vendor(FakeVendor(answer)) as vendor:
        settings = Settings(
            key=KEY,
            ledger_url=f"sqlite:///{tmp_path / 'ledger.sqlite'}",
            live_gateway=("127.0.0.1", 9),
            historical_gateway=vendor.url,
            now=NOW,
            data_dir=tmp_path,
            cache_dir=tmp_path / "cache",
        )
        gateway = open_gateway(policy(), settings, clock)
        try:
            url, token = gateway.host.http_url, gateway.host.token()
            form = {"start": "2026-11-20T15:00", "end": "2026-11-20T15:10", "encoding": "dbn", **NQ}
            said = [ask(url, token, "metadata.list_datasets")]
            if status != 200:
                said.append(ask(url, token, "timeseries.get_range", form))
        finally:
            gateway.close()
    for code, text in said:
        assert code == status
        assert KEY not in text and "*" * len(KEY) in text
        assert base64.b64encode(f"{KEY}:".encode()).decode() not in text
    assert KEY not in caplog.text
    assert KEY.encode() not in books_of(tmp_path)


def test_a_vendor_that_sends_elsewhere_does_not_send_the_key_along(tmp_path: Path) -> None:
    shown: list[str | None] = []

    async def elsewhere(request: web.Request) -> web.Response:
        shown.append(request.headers.get("Authorization"))
        return web.json_response([])

    with running_vendor(FakeVendor(elsewhere)) as other:

        async def answer(request: web.Request) -> web.Response:
            raise web.HTTPTemporaryRedirect(other.url.replace("127.0.0.1", "localhost") + request.path_qs)

        with running_vendor(FakeVendor(answer)) as vendor:
            settings = Settings(
                key=KEY,
                ledger_url=f"sqlite:///{tmp_path / 'ledger.sqlite'}",
                live_gateway=("127.0.0.1", 9),
                historical_gateway=vendor.url,
                now=NOW,
                data_dir=tmp_path,
                cache_dir=tmp_path / "cache",
            )
            gateway = open_gateway(policy(), settings, RehearsalClock(NOW))
            try:
                ask(gateway.host.http_url, gateway.host.token(), "metadata.list_datasets")
            finally:
                gateway.close()
    assert all(one is None for one in shown)
