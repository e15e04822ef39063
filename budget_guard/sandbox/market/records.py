"""DBN v3 records in bulk: numpy arrays whose rows are records as they go over the wire.

Every field of a row is a function of its place in the market and the seed. What the synthetic values are worth is their
size, their order and that they agree with each other; nobody should trade on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import databento_dbn as dbn
import numpy as np
import numpy.typing as npt

from budget_guard.sandbox.market.bars import fill_bars
from budget_guard.sandbox.market.orders import fill_orders
from budget_guard.sandbox.market.reference import (
    IMBALANCE_STEP_NS,
    fill_definition,
    fill_imbalances,
    fill_statistics,
    fill_status,
)
from budget_guard.sandbox.market.runs import F_LAST, F_SNAPSHOT, SECOND_NS, Rows, Run
from budget_guard.sandbox.market.seeds import Int64s
from budget_guard.sandbox.market.ticks import fill_book, fill_quoted_trades, fill_sampled, fill_trades

__all__ = ["F_LAST", "F_SNAPSHOT", "SECOND_NS", "SPECS", "Int64s", "Rows", "Spec", "as_wire", "merged"]

Kind = Literal["tick", "grid", "day", "event"]


@dataclass(frozen=True, slots=True)
class Spec:
    """One schema: its record type, and whether it ticks, lies on a grid of `step_ns`, comes once a day or at events.

    A record is published `lag_ns` after its index timestamp: a bar when its interval is over. Schemas of one `family`
    are records of the same events.
    """

    schema: str
    kind: Kind
    dtype: np.dtype[np.void]
    rtype: int
    fill: Callable[[Rows, Run], None]
    step_ns: int = 0
    lag_ns: int = 0
    family: str = ""

    @property
    def size(self) -> int:
        return int(self.dtype.itemsize)

    @property
    def index_field(self) -> str:
        return "ts_recv" if "ts_recv" in (self.dtype.names or ()) else "ts_event"

    def encode(self, run: Run) -> Rows:
        """The rows of a run."""
        rows = np.zeros(len(run), dtype=self.dtype)
        rows["length"] = self.size // 4
        rows["rtype"] = self.rtype
        rows["publisher_id"] = run.scene.publisher_id
        rows["instrument_id"] = run.scene.contract.instrument_id
        rows["ts_event"] = run.stamps
        if self.index_field == "ts_recv":
            rows["ts_recv"] = run.stamps
        self.fill(rows, run)
        return rows


def _spec(
    schema: str,
    kind: Kind,
    message: Any,
    fill: Callable[[Rows, Run], None],
    step_ns: int = 0,
    family: str = "",
) -> Spec:
    rtype = dbn.RType.from_schema(dbn.Schema.from_str(schema)).__index__()
    return Spec(schema, kind, np.dtype(message._dtypes), rtype, fill, step_ns, 0, family or schema)


def _bar(schema: str, kind: Kind, seconds: int) -> Spec:
    step_ns = seconds * SECOND_NS
    rtype = dbn.RType.from_schema(dbn.Schema.from_str(schema)).__index__()
    dtype: np.dtype[np.void] = np.dtype(dbn.OHLCVMsg._dtypes)
    return Spec(schema, kind, dtype, rtype, partial(fill_bars, step_ns=step_ns), step_ns, step_ns, schema)


SPECS: dict[str, Spec] = {
    spec.schema: spec
    for spec in (
        _spec("mbo", "tick", dbn.MBOMsg, fill_orders),
        _spec("mbp-1", "tick", dbn.MBP1Msg, fill_book),
        _spec("mbp-10", "tick", dbn.MBP10Msg, fill_book),
        _spec("trades", "tick", dbn.TradeMsg, fill_trades),
        _spec("tbbo", "tick", dbn.MBP1Msg, fill_quoted_trades, family="trades"),
        _spec("cmbp-1", "tick", dbn.CMBP1Msg, fill_book),
        _spec("tcbbo", "tick", dbn.CMBP1Msg, fill_quoted_trades, family="trades"),
        _spec("bbo-1s", "grid", dbn.BBOMsg, fill_sampled, SECOND_NS),
        _spec("bbo-1m", "grid", dbn.BBOMsg, fill_sampled, 60 * SECOND_NS),
        _spec("cbbo-1s", "grid", dbn.CBBOMsg, fill_sampled, SECOND_NS),
        _spec("cbbo-1m", "grid", dbn.CBBOMsg, fill_sampled, 60 * SECOND_NS),
        _bar("ohlcv-1s", "grid", 1),
        _bar("ohlcv-1m", "grid", 60),
        _bar("ohlcv-1h", "grid", 3600),
        _bar("ohlcv-1d", "day", 86_400),
        _spec("definition", "day", dbn.InstrumentDefMsg, fill_definition, 86_400 * SECOND_NS),
        _spec("status", "event", dbn.StatusMsg, fill_status),
        _spec("statistics", "event", dbn.StatMsg, fill_statistics),
        _spec("imbalance", "grid", dbn.ImbalanceMsg, fill_imbalances, IMBALANCE_STEP_NS),
    )
}


def as_wire(rows: Rows, ts_out: int | None) -> npt.NDArray[np.uint8]:
    """The rows as a matrix of bytes, one record a row; with `ts_out` each record is 8 bytes longer."""
    size = rows.dtype.itemsize
    plain = rows.view(np.uint8).reshape(len(rows), size)
    if ts_out is None:
        return plain
    wide = np.empty((len(rows), size + 8), dtype=np.uint8)
    wide[:, :size] = plain
    wide[:, 0] += 2
    wide[:, size:] = np.frombuffer(ts_out.to_bytes(8, "little"), dtype=np.uint8)
    return wide


def merged(
    specs: Sequence[Spec], parts: Sequence[Rows], orders: Sequence[Int64s | None] = ()
) -> npt.NDArray[np.intp]:
    """The order of all rows by their index timestamps, as positions in the parts laid end to end.

    `orders`, one for each part, decide between equal timestamps where every part has one.
    """
    stamps = np.concatenate([rows[spec.index_field] for spec, rows in zip(specs, parts, strict=True)])
    known = [order for order in orders if order is not None]
    if len(known) < len(parts):
        return np.argsort(stamps, kind="stable")
    return np.lexsort((np.concatenate(known), stamps))
