"""The limits on requests: as many as the vendor publishes, then 429 with the seconds to wait."""

from __future__ import annotations

import asyncio
import base64
import urllib.error
import urllib.request
from contextlib import ExitStack
from datetime import UTC, datetime

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.clock import ManualClock
from budget_guard.sandbox.config import Limits, SandboxConfig
from budget_guard.sandbox.historical.limits import TooManyRequests, Turnstile, Window
from budget_guard.sandbox.server import Sandbox, running_sandbox

NOW = datetime(2026, 11, 20, 21, tzinfo=UTC)


@settings(max_examples=100, deadline=None)
@given(
    count=st.integers(1, 5),
    steps=st.lists(st.floats(0, 0.6), min_size=1, max_size=60),
)
def test_no_second_ever_holds_more_than_its_count(count: int, steps: list[float]) -> None:
    """Wherever a second begins; and who waits as long as told is let in."""
    window, now, admitted = Window(count, 1.0), 0.0, list[float]()
    for step in steps:
        now += step
        wait = window.take("here", now)
        if wait == 0:
            admitted.append(now)
        else:
            assert 0 < wait <= 1
    for moment in admitted:
        assert sum(1 for other in admitted if moment <= other < moment + 1.0) <= count
    refused = window.take("here", now)
    if refused:
        # A hair more, as adding is not exact.
        assert window.take("here", now + refused + 1e-9) == 0


def test_addresses_do_not_share() -> None:
    """One that has used its second up does not shut another out."""
    window = Window(1, 1.0)
    assert [window.take(address, 5.0) for address in ("a", "b")] == [0, 0]
    assert window.take("a", 5.25) == 0.75


def take(turnstile: Turnstile, limit: str | None) -> int | None:
    """None when it lets through, or the seconds that it says."""
    try:
        with turnstile.admitted("here", limit):
            return None
    except TooManyRequests as error:
        return error.retry_after_s


@pytest.mark.parametrize(
    ("limit", "count", "retry_after_s"),
    [
        ("metadata", 20, 1),
        ("timeseries", 100, 1),
        ("symbology", 100, 1),
        ("list_jobs", 20, 1),
        ("submit_jobs", 20, 60),
    ],
)
def test_the_defaults_are_the_vendors(limit: str, count: int, retry_after_s: int) -> None:
    """Its published counts, for each kind of request apart; the next second, or minute, begins anew."""
    clock = ManualClock(NOW)
    turnstile = Turnstile(Limits(), clock)
    assert [take(turnstile, limit) for _ in range(count)] == [None] * count
    assert take(turnstile, limit) == retry_after_s
    assert take(turnstile, None) is None
    clock.advance(retry_after_s)
    assert take(turnstile, limit) is None


def test_no_limits_are_no_limits() -> None:
    """Thousands in a standing second."""
    turnstile = Turnstile(Limits.none(), ManualClock(NOW))
    assert {take(turnstile, "metadata") for _ in range(5000)} == {None}


def test_requests_in_work_are_counted() -> None:
    """As many at once as there may be connections; each that ends makes room."""
    turnstile = Turnstile(Limits(http_connections=2), ManualClock(NOW))
    with ExitStack() as inside:
        for _ in range(2):
            inside.enter_context(turnstile.admitted("here", "timeseries"))
        assert take(turnstile, "timeseries") == 1
    assert take(turnstile, "timeseries") is None


def authorization(sandbox: Sandbox) -> str:
    return "Basic " + base64.b64encode(f"{sandbox.key}:".encode()).decode()


def get(sandbox: Sandbox, path: str) -> tuple[int, str | None]:
    """Status and `Retry-After`."""
    request = urllib.request.Request(
        f"{sandbox.http_url}/v0/{path}", headers={"Authorization": authorization(sandbox)}
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers["Retry-After"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Retry-After"]


def test_the_twenty_first_metadata_request_of_a_second_is_429() -> None:
    """And symbology, with a limit of its own, goes on; so does metadata a second later."""
    clock = ManualClock(NOW)
    with running_sandbox(SandboxConfig(clock=clock)) as sandbox:
        answers = [get(sandbox, "metadata.list_datasets") for _ in range(21)]
        assert answers == [(200, None)] * 20 + [(429, "1")]
        assert get(sandbox, "symbology.resolve")[0] == 422
        clock.advance(1)
        assert get(sandbox, "metadata.list_datasets") == (200, None)


def test_a_hundred_and_first_download_at_once_is_429() -> None:
    """Downloads that are not read keep their places."""

    async def downloads(sandbox: Sandbox) -> list[int]:
        url = f"{sandbox.http_url}/v0/timeseries.get_range"
        form = {
            "dataset": "GLBX.MDP3",
            "schema": "mbo",
            "encoding": "dbn",
            "start": "2026-11-19",
            "end": "2026-11-20",
        }
        pool = aiohttp.TCPConnector(limit=0)
        headers = {"Authorization": authorization(sandbox)}
        async with aiohttp.ClientSession(connector=pool, headers=headers, read_bufsize=1024) as session:
            answers = [await session.post(url, data=form) for _ in range(4)]
            statuses = [answer.status for answer in answers]
            for answer in answers:
                answer.close()
            return statuses

    # Three places stand for the hundred.
    limits = Limits(http_connections=3, timeseries_per_s=None)
    with running_sandbox(SandboxConfig(clock=ManualClock(NOW), limits=limits)) as sandbox:
        assert asyncio.run(downloads(sandbox)) == [200, 200, 200, 429]
