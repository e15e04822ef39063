"""Records: the bytes are what the vendor's own decoder reads."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import databento_dbn as dbn
import pytest

from budget_guard.clock import ns_from_instant
from budget_guard.sandbox.live.outgoing import lay_out
from budget_guard.sandbox.market.model import Selection
from budget_guard.sandbox.market.records import SPECS, as_wire
from budget_guard.sandbox.market.synthetic import Market

START = ns_from_instant(datetime(2026, 11, 18, 15, tzinfo=UTC))
PRICES = ("price", "open", "high", "low", "close")
SIZES = {
    "mbo": 56,
    "trades": 48,
    "tbbo": 80,
    "mbp-1": 80,
    "mbp-10": 368,
    "bbo-1s": 80,
    "cmbp-1": 80,
    "ohlcv-1s": 56,
    "status": 40,
    "definition": 520,
    "statistics": 80,
    "imbalance": 112,
}


def decoded(data: bytes, *, ts_out: bool = False) -> list[Any]:
    header = dbn.Metadata("GLBX.MDP3", 0, None, dbn.SType.from_str("instrument_id"), None, ts_out=ts_out)
    decoder = dbn.DBNDecoder()
    _, *records = decoder.write_and_decode(header.encode() + data)
    return records


def chosen(schema: str, symbols: tuple[str, ...] = ("NQ.FUT",)) -> Selection:
    return Selection("GLBX.MDP3", schema, symbols, "parent")


@pytest.mark.parametrize("schema", sorted(SPECS))
def test_the_official_decoder_reads_every_schema(schema: str) -> None:
    """Each record decodes to its own type, with its own index timestamp and printable fields."""
    spec = SPECS[schema]
    span = 86_400 * 10**9 if spec.kind != "tick" else 10**9
    selection = chosen(schema)
    if schema == "imbalance":
        selection = Selection("XNAS.ITCH", schema, ("AAPL",), "raw_symbol")
    part = Market(0).parts(selection, START, START + span)[0]
    records = decoded(part.rows[:50].tobytes())
    assert [record.ts_index for record in records] == part.rows[spec.index_field][:50].tolist()
    assert {record.rtype.__index__() for record in records} == {spec.rtype}
    assert "ERROR" not in "".join(str(record) for record in records)


@pytest.mark.parametrize(("schema", "size"), sorted(SIZES.items()))
def test_record_sizes_are_the_vendors(schema: str, size: int) -> None:
    """The published sizes of DBN version 3."""
    assert SPECS[schema].size == size


@pytest.mark.parametrize("schema", ["mbo", "trades", "mbp-10", "bbo-1m", "ohlcv-1h", "statistics"])
@pytest.mark.parametrize("symbol", ["NQ.FUT", "6J.FUT", "ZN.FUT", "OZC.OPT", "EUU.OPT"])
def test_prices_keep_to_the_tick(schema: str, symbol: str) -> None:
    """Every price is a positive multiple of the contract's tick."""
    selection = chosen(schema, (symbol,))
    definitions = {
        part.rows["instrument_id"][0]: part.rows["min_price_increment"][0]
        for part in Market(0).parts(chosen("definition", (symbol,)), START - 86_400 * 10**9, START)
    }
    for part in Market(0).parts(selection, START, START + 1800 * 10**9):
        tick = definitions[part.rows["instrument_id"][0]]
        fields = [name for name in part.rows.dtype.names or () if name in PRICES or "_px_" in name]
        for name in fields:
            prices = part.rows[name][part.rows[name] != dbn.UNDEF_PRICE]
            assert prices.min(initial=tick) > 0
            assert not (prices % tick).any()


def test_mixed_records_are_laid_out_in_time_order() -> None:
    """Records of different sizes interleave by index timestamp, and the runs say whose bytes are whose."""
    selections = [chosen("mbo"), chosen("trades", ("ES.FUT",)), chosen("bbo-1s")]
    parts = [part for one in selections for part in Market(0).parts(one, START, START + 5 * 10**9)]
    outgoing = lay_out(parts, None)
    records = decoded(bytes(outgoing.data))
    stamps = [record.ts_index for record in records]
    assert stamps == sorted(stamps)
    assert len(records) == sum(len(part.rows) for part in parts)
    starts = [0, *(run.end for run in outgoing.runs)]
    billed = dict.fromkeys(("mbo", "trades", "bbo-1s"), 0)
    for start, run in zip(starts, outgoing.runs, strict=False):
        assert run.schema is not None
        billed[run.schema] += run.end - start
    for schema, size in billed.items():
        rows = sum(len(part.rows) for part in parts if part.schema == schema)
        assert size == rows * SPECS[schema].size


def test_ts_out_adds_eight_bytes() -> None:
    """With the time of sending each record is 8 bytes longer and says so in its length."""
    part = Market(0).parts(chosen("mbo"), START, START + 10**9)[0]
    wire = as_wire(part.rows, 42)
    records = decoded(wire.tobytes(), ts_out=True)
    assert wire.shape == (len(part.rows), 64)
    assert {record.ts_out for record in records} == {42}
