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
    part = Market(0).parts(chosen(schema), START, START + span)[0]
    records = decoded(part.rows[:50].tobytes())
    assert [record.ts_index for record in records] == part.rows[spec.index_field][:50].tolist()
    assert {record.rtype.__index__() for record in records} == {spec.rtype}
    assert "ERROR" not in "".join(str(record) for record in records)


@pytest.mark.parametrize(("schema", "size"), sorted(SIZES.items()))
def test_record_sizes_are_the_vendors(schema: str, size: int) -> None:
    """The published sizes of DBN version 3."""
    assert SPECS[schema].size == size


def test_order_ids_are_never_repeated() -> None:
    """No two mbo records of a stream have the same order id."""
    parts = Market(0).parts(chosen("mbo"), START, START + 20 * 10**9)
    ids = parts[0].rows["order_id"].tolist()
    assert len(set(ids)) == len(ids) > 100


def test_prices_keep_to_the_tick() -> None:
    """Every price is a multiple of the contract's tick."""
    part = Market(0).parts(chosen("trades"), START, START + 60 * 10**9)[0]
    assert set((part.rows["price"] % 250_000_000).tolist()) == {0}


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
