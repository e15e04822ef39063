"""A market made of lists of timestamps, so that a test knows every record there is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta

import numpy as np

from budget_guard.sandbox.live.symbols import midnight_ns
from budget_guard.sandbox.market.model import ALL_SYMBOLS, Instrument, Part, Selection
from budget_guard.sandbox.market.records import SPECS, Rows
from budget_guard.sandbox.market.sessions import date_of_ns

FRONT, NEXT = Instrument("NQZ6", 101), Instrument("NQH7", 102)

# Index timestamps by schema and contract.
Stamps = Mapping[str, Mapping[Instrument, Sequence[int]]]


class TapeMarket:
    """NQ.v.0 is NQZ6 until `roll`, then NQH7; NQ.FUT and ALL_SYMBOLS are both. `calls` are the snapshots asked for.

    The exchange's time lies `delay_ns` before the capture's.
    """

    def __init__(self, stamps: Stamps, *, roll: date = date.max, delay_ns: int = 0) -> None:
        self.calls: list[int] = []
        self._roll = roll
        self._rows = {
            (schema, instrument): rows_of(schema, instrument, found, delay_ns)
            for schema, tapes in stamps.items()
            for instrument, found in tapes.items()
        }

    def resolve(self, dataset: str, symbol: str, stype_in: str, day: date) -> tuple[Instrument, ...]:
        if symbol in (ALL_SYMBOLS, "NQ.FUT"):
            return (FRONT, NEXT)
        if symbol == "NQ.v.0":
            return (FRONT if day < self._roll else NEXT,)
        return tuple(one for one in (FRONT, NEXT) if symbol in (one.raw_symbol, str(one.instrument_id)))

    def describe(self, dataset: str) -> str:
        return ""

    def count(self, selection: Selection, start_ns: int, end_ns: int) -> int:
        return sum(len(part.rows) for part in self.parts(selection, start_ns, end_ns))

    def parts(self, selection: Selection, start_ns: int, end_ns: int) -> list[Part]:
        return list(self._parts(selection, start_ns, end_ns))

    def snapshot(self, selection: Selection, at_ns: int) -> list[Part]:
        self.calls.append(at_ns)
        return [
            Part("mbo", one, rows_of("mbo", one, [at_ns] * 2, 0))
            for symbol in selection.symbols
            for one in self.resolve(selection.dataset, symbol, selection.stype_in, date_of_ns(at_ns))
        ]

    def blocks(self, selection: Selection, at_ns: int, records: int) -> list[Part]:
        return []

    def _parts(self, selection: Selection, start_ns: int, end_ns: int) -> Iterator[Part]:
        field = SPECS[selection.schema].index_field
        day = date_of_ns(start_ns)
        while midnight_ns(day) < end_ns:
            found = {
                one: None
                for symbol in selection.symbols
                for one in self.resolve(selection.dataset, symbol, selection.stype_in, day)
            }
            first_ns, last_ns = (
                max(start_ns, midnight_ns(day)),
                min(end_ns, midnight_ns(day + timedelta(days=1))),
            )
            for one in found:
                rows = self._rows.get((selection.schema, one))
                if rows is not None:
                    first, last = np.searchsorted(rows[field].astype(np.int64), [first_ns, last_ns])
                    if last > first:
                        yield Part(selection.schema, (selection.schema, one), rows[first:last])
            day += timedelta(days=1)


def rows_of(schema: str, instrument: Instrument, stamps: Sequence[int], delay_ns: int) -> Rows:
    """A record at each timestamp."""
    spec = SPECS[schema]
    rows = np.zeros(len(stamps), dtype=spec.dtype)
    rows["length"] = spec.size // 4
    rows["rtype"] = spec.rtype
    rows["instrument_id"] = instrument.instrument_id
    rows["ts_event"] = stamps
    if spec.index_field == "ts_recv":
        rows["ts_recv"] = stamps
        rows["ts_event"] = np.array(stamps, dtype=np.int64) - delay_ns
    return rows
