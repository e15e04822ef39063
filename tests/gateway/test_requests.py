"""What clients write, as values: live lines and historical forms, with the vendor's own defaults and bad input."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from budget_guard.clock import instant_from_ns, ns_from_instant
from budget_guard.gateway.historical.counting import RecordCounter
from budget_guard.gateway.historical.form import FormError, parse_range_request
from budget_guard.gateway.historical.quoting import fetch_quote
from budget_guard.gateway.wire.lines import LineError
from budget_guard.gateway.wire.subscription import parse_logon, parse_subscription
from budget_guard.pricing.model import DataRange, UnitPrice
from tests.gateway.fake_gateway import metadata, order

NOW = datetime(2026, 11, 24, 15, 30, tzinfo=UTC)
FORM = {"dataset": "GLBX.MDP3", "schema": "mbo", "symbols": "NQ.v.0", "stype_in": "continuous"}
STREAM = metadata() + b"".join(order(stamp) for stamp in range(1, 301))


# --- logon --------------------------------------------------------------------------------------------------


def test_a_logon_has_the_protocols_defaults() -> None:
    logon = parse_logon({"dataset": "GLBX.MDP3"})
    assert (logon.ts_out, logon.zstd, logon.heartbeat_interval_s) == (False, False, 30)
    assert logon.slow_reader_behavior is None


def test_a_logon_is_read_as_it_is_and_unknown_fields_are_passed_over() -> None:
    fields = {
        "dataset": "GLBX.MDP3",
        "encoding": "dbn",
        "ts_out": "1",
        "compression": "zstd",
        "heartbeat_interval_s": "1800",
        "slow_reader_behavior": "skip",
        "colour": "blue",
    }
    logon = parse_logon(fields)
    assert (logon.ts_out, logon.zstd, logon.heartbeat_interval_s) == (True, True, 1800)
    assert logon.slow_reader_behavior == "skip"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "names no dataset"),
        ({"encoding": "csv"}, "encoding csv cannot be counted"),
        ({"compression": "gzip"}, "compression gzip is not known"),
        ({"heartbeat_interval_s": "4"}, "from 5 to 1800"),
        ({"heartbeat_interval_s": "1801"}, "from 5 to 1800"),
        ({"heartbeat_interval_s": "³"}, "from 5 to 1800"),
        ({"heartbeat_interval_s": "9" * 5000}, "from 5 to 1800"),
        ({"heartbeat_interval_s": "-5"}, "from 5 to 1800"),
    ],
)
def test_a_logon_that_cannot_be_served_says_why(fields: dict[str, str], reason: str) -> None:
    given_fields = {"dataset": "GLBX.MDP3", **fields} if fields else {}
    with pytest.raises(LineError, match=reason):
        parse_logon(given_fields)


# --- subscriptions ------------------------------------------------------------------------------------------


def test_a_subscription_reaches_the_guard_in_the_vendors_terms() -> None:
    line = parse_subscription(
        {"schema": "mbo", "stype_in": "parent", "symbols": "NQ.FUT,ES.FUT", "snapshot": "1", "id": "3"}
    )
    request = line.request("GLBX.MDP3", NOW)
    assert (request.schema, request.stype_in, request.symbols) == ("mbo", "parent", ("NQ.FUT", "ES.FUT"))
    assert request.snapshot and request.replay_from is None


@given(st.timedeltas(timedelta(0), timedelta(days=2)))
def test_how_far_back_a_start_reaches_is_exact(back: timedelta) -> None:
    start = ns_from_instant(NOW - back)
    line = parse_subscription({"schema": "mbo", "symbols": "NQ", "start": str(start)})
    assert line.request("GLBX.MDP3", NOW).replay_from == NOW - instant_from_ns(start)


def test_a_start_in_the_future_reaches_back_by_nothing() -> None:
    line = parse_subscription({"schema": "mbo", "symbols": "NQ", "start": str(2**63)})
    assert line.request("GLBX.MDP3", NOW).replay_from == timedelta(0)


def test_a_line_is_handed_on_as_it_came_but_for_its_start() -> None:
    fields = {
        "schema": "mbo",
        "stype_in": "raw_symbol",
        "symbols": "A,B",
        "snapshot": "1",
        "id": "3",
        "is_last": "0",
    }
    line = parse_subscription(fields)
    assert {name: str(value) for name, value in line.fields(None).items()} == fields
    resumed = line.fields(77)
    assert (resumed["start"], resumed["snapshot"]) == (77, 0)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"symbols": "NQ"}, "names no schema"),
        ({"schema": "mbo"}, "names no symbols"),
        ({"schema": "mbo", "symbols": ",".join(["NQ"] * 501)}, "has 501 symbols: the vendor takes 500"),
        ({}, "names no schema and no symbols"),
        ({"schema": "mbo", "symbols": "NQ", "start": "now"}, "start is 'now'"),
        ({"schema": "mbo", "symbols": "NQ", "start": "-1"}, "start is '-1'"),
        ({"schema": "mbo", "symbols": "NQ", "start": "٣"}, "nanoseconds since 1970"),
        ({"schema": "mbo", "symbols": "NQ", "start": "1" * 5000}, "nanoseconds since 1970"),
    ],
)
def test_a_subscription_that_cannot_be_used_says_why(fields: dict[str, str], reason: str) -> None:
    with pytest.raises(LineError, match=reason):
        parse_subscription(fields)


# --- historical forms ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [
        ("2026-11-20", "", "2026-11-20T00:00:00", "2026-11-21T00:00:00"),
        ("2026-11-20T15", "", "2026-11-20T15:00:00", "2026-11-20T16:00:00"),
        ("2026-11-20T15:30", "", "2026-11-20T15:30:00", "2026-11-20T15:31:00"),
        ("2026-11-20T15:30:07", "", "2026-11-20T15:30:07", "2026-11-20T15:30:08"),
        ("2026-11-20T15:30:00Z", "2026-11-20 16:00", "2026-11-20T15:30:00", "2026-11-20T16:00:00"),
        ("2026-11-20T10:30-05:00", "2026-11-21", "2026-11-20T15:30:00", "2026-11-21T00:00:00"),
        ("2026-11-20T10:30-0500", "2026-11-21", "2026-11-20T15:30:00", "2026-11-21T00:00:00"),
        ("1795190400000000000", "1795190400000001000", "2026-11-20T16:00:00", "2026-11-20T16:00:00.000001"),
        # Nanoseconds are pinned outward: no more is priced than asked for twice, and never less.
        ("1795190400000000999", "1795190400000001001", "2026-11-20T16:00:00", "2026-11-20T16:00:00.000002"),
        (
            "2026-11-20T15:30:00.123456789",
            "2026-11-20T15:30:00.2",
            "2026-11-20T15:30:00.123456",
            "2026-11-20T15:30:00.200000",
        ),
    ],
)
def test_a_range_is_pinned_as_the_vendor_would_fill_it(start: str, end: str, first: str, last: str) -> None:
    wanted = parse_range_request({**FORM, "start": start, "end": end})
    assert wanted.range.start_utc == datetime.fromisoformat(first + "+00:00")
    assert wanted.range.end_utc == datetime.fromisoformat(last + "+00:00")
    assert wanted.form["start"] == wanted.range.start_utc.isoformat()
    assert wanted.form["end"] == wanted.range.end_utc.isoformat()


def test_what_is_left_out_means_what_it_means_to_the_vendor() -> None:
    wanted = parse_range_request({"dataset": "GLBX.MDP3", "start": "2026-11-20"})
    assert (wanted.request.schema, wanted.request.stype_in) == ("trades", "raw_symbol")
    assert wanted.request.all_symbols and wanted.form["symbols"] == "ALL_SYMBOLS"
    assert (wanted.dbn, wanted.zstd, wanted.limit) == (False, False, None)


def test_other_fields_are_handed_on() -> None:
    wanted = parse_range_request({**FORM, "start": "2026-11-20", "stype_out": "raw_symbol", "limit": "5"})
    assert wanted.form["stype_out"] == "raw_symbol" and wanted.limit == 5


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dataset": ""}, "has no dataset"),
        ({"start": ""}, "has no start"),
        ({"start": "20.11.2026"}, "write it as 2026-11-23T14:30"),
        ({"start": "2026-13-01"}, "start is '2026-13-01'"),
        ({"start": "٢٠٢٦-١١-٢٠"}, "write it as"),
        ({"start": "9" * 21, "end": ""}, "write it as"),
        ({"end": "2026-11-20"}, "not after its start"),
        ({"symbols": "NQ.v.0,,"}, "empty symbol"),
        ({"symbols": "ALL_SYMBOLS,NQ.v.0"}, "goes alone"),
        ({"schema": "MBO"}, "is not a schema"),
        ({"limit": "-1"}, "limit is '-1'"),
        ({"limit": "1e3"}, "limit is '1e3'"),
        ({"limit": "0"}, "1 or more"),
        ({"limit": "9" * 5000}, "whole number"),
        ({"start": "9999-12-31", "end": ""}, "no such dates"),
        ({"start": "0001-01-01T00:00+14:00"}, "no such dates"),
    ],
)
def test_a_form_that_cannot_be_priced_says_what_would_be_right(change: dict[str, str], reason: str) -> None:
    with pytest.raises(FormError, match=reason):
        parse_range_request({**FORM, "start": "2026-11-20", **change})


@given(st.text(max_size=40))
def test_no_text_for_a_start_is_anything_but_a_range_or_a_form_error(text: str) -> None:
    try:
        wanted = parse_range_request({**FORM, "start": text})
    except FormError:
        return
    assert wanted.range.start_utc < wanted.range.end_utc


# --- quotes -------------------------------------------------------------------------------------------------


class Quoter:
    def fetch_billable_size(self, data_range: DataRange) -> int:
        return 5600

    def fetch_cost(self, data_range: DataRange) -> Decimal:
        return Decimal("0.01")


@pytest.mark.parametrize(("limit", "size"), [("", 5600), ("10", 560), ("100", 5600), ("1000", 5600)])
def test_a_limit_of_records_caps_what_is_quoted(limit: str, size: int) -> None:
    wanted = parse_range_request({**FORM, "start": "2026-11-20", "limit": limit})
    quote = fetch_quote(Quoter(), wanted, UnitPrice(Decimal(1800), "list", "test"))  # type: ignore[arg-type]
    assert quote.size_bytes == size
    assert quote.vendor_cost_usd <= Decimal("0.01")


# --- counting -----------------------------------------------------------------------------------------------


def compressed(frames: int) -> bytes:
    """The stream in that many zstd frames, cut at arbitrary places."""
    step = -(-len(STREAM) // frames)
    parts = [STREAM[at : at + step] for at in range(0, len(STREAM), step)]
    return b"".join(zstandard.ZstdCompressor().compress(part) for part in parts)


@given(st.integers(1, 6), st.data())
def test_bytes_are_counted_however_they_are_framed_and_cut(frames: int, data: st.DataObject) -> None:
    body = compressed(frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    counter = RecordCounter(zstd=True)
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert sum(counter.feed(piece) for piece in pieces) == 300 * 56
    assert counter.complete


def test_plain_bytes_are_counted_after_the_header() -> None:
    counter = RecordCounter(zstd=False)
    assert sum(counter.feed(STREAM[at : at + 100]) for at in range(0, len(STREAM), 100)) == 300 * 56
    assert counter.complete
    assert counter.expand(1000) == 1000


@pytest.mark.parametrize("zstd", [False, True])
def test_a_body_that_is_cut_is_not_complete(zstd: bool) -> None:
    body = compressed(2) if zstd else STREAM
    for size in (0, 5, len(body) // 2 + 3, len(body) - 1):
        counter = RecordCounter(zstd=zstd)
        counter.feed(body[:size])
        assert not counter.complete


@pytest.mark.parametrize("zstd", [False, True])
def test_a_body_of_something_else_is_an_error(zstd: bool) -> None:
    with pytest.raises(ValueError, match="not the zstd stream" if zstd else "not DBN"):
        RecordCounter(zstd=zstd).feed(b"<html>" * 10)


def test_unseen_compressed_bytes_stand_for_more_than_was_seen() -> None:
    counter = RecordCounter(zstd=True)
    assert counter.expand(1000) == 4000
    counter.feed(compressed(1))
    assert counter.expand(1000) >= 2 * 1000 * len(STREAM) // len(compressed(1))
