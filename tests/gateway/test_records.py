"""What the relay says itself decodes in the vendor's own decoder, in every version and with or without ts_out."""

from __future__ import annotations

import databento_dbn as dbn
import pytest

from budget_guard.gateway.wire.records import (
    error_code,
    error_record,
    message_text,
    metadata_version,
    session_metadata,
    system_code,
    system_record,
)
from tests.gateway.fake_gateway import error, metadata, order, replay_completed
from tests.gateway.versions import decode, in_version

NOW_NS = 1_795_534_200_000_000_000
VERSIONS = pytest.mark.parametrize("version", [1, 2, 3])
TS_OUT = pytest.mark.parametrize("ts_out", [False, True])


@VERSIONS
@TS_OUT
def test_errors_notices_and_heartbeats_decode_between_market_data(version: int, ts_out: bool) -> None:
    said = [
        error_record("it is over", NOW_NS, version=version, ts_out=ts_out),
        system_record("by the way", NOW_NS, version=version, ts_out=ts_out),
        system_record("", NOW_NS, version=version, ts_out=ts_out, heartbeat=True),
    ]
    data = in_version(order(NOW_NS), ts_out=ts_out)
    stream = metadata(version, ts_out=ts_out) + b"".join(data + one for one in said) + data
    records = decode(stream)
    assert [type(one) for one in records[::2]] == [dbn.MBOMsg] * 4
    failure, notice, heartbeat = records[1::2]
    assert isinstance(failure, dbn.ErrorMsg) and failure.err == "it is over"
    assert isinstance(notice, dbn.SystemMsg) and notice.msg == "by the way" and not notice.is_heartbeat()
    assert isinstance(heartbeat, dbn.SystemMsg) and heartbeat.is_heartbeat()
    assert {one.ts_event for one in (failure, notice, heartbeat)} == {NOW_NS}
    if ts_out:
        assert failure.ts_out == NOW_NS


@VERSIONS
@pytest.mark.parametrize("text", ["x" * 1000, "größer als ein Byte: " + "ü" * 400, ""])
def test_a_text_of_any_length_and_alphabet_fits(version: int, text: str) -> None:
    for record in (
        error_record(text, 1, version=version, ts_out=False),
        system_record(text, 1, version=version, ts_out=False),
    ):
        (decoded,) = decode(metadata(version) + record)
        said = decoded.err if isinstance(decoded, dbn.ErrorMsg) else decoded.msg
        assert said.isascii()
        assert text.isascii() is False or text.startswith(said)
        assert len(said) >= min(len(text), 60)


@TS_OUT
def test_a_session_that_the_vendor_never_opened_has_a_header_of_its_own(ts_out: bool) -> None:
    header = session_metadata("GLBX.MDP3", NOW_NS, ts_out=ts_out)
    decoded = dbn.Metadata.decode(header)
    assert (decoded.dataset, decoded.schema, decoded.ts_out) == ("GLBX.MDP3", None, ts_out)
    assert metadata_version(header) == decoded.version == 3


@VERSIONS
def test_the_version_stands_in_the_header(version: int) -> None:
    assert metadata_version(metadata(version)) == version


def test_codes_are_read_where_records_have_them() -> None:
    assert system_code(replay_completed(), version=3) == 3
    assert system_code(replay_completed(), version=1) is None
    assert system_code(order(1), version=3) is None
    assert error_code(error("no", 5)) == 5
    assert error_code(bytes(dbn.ErrorMsgV1(1, "no"))) is None
    assert error_code(order(1)) is None


def test_the_text_of_an_error_is_read_in_every_version() -> None:
    assert message_text(error("no such schema", 5)) == "no such schema"
    assert message_text(bytes(dbn.ErrorMsgV1(1, "no such schema"))) == "no such schema"
