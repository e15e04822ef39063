"""DBN v3 records in bulk: numpy arrays whose rows are records as they go over the wire.

Every field of a row is a function of its draw: 36 random bits that belong to the record's place in the market. What
the synthetic values are worth is their size, their order and their uniqueness; nobody should trade on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import databento_dbn as dbn
import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.void]
Int64s = npt.NDArray[np.int64]
Draws = npt.NDArray[np.uint64]
Kind = Literal["tick", "grid", "day"]

SECOND_NS = 10**9
F_LAST = 128
F_SNAPSHOT = 32


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run of records stands: whose it is, in which session, and what its prices hang on (1e-9 USD).

    `day` numbers the session.
    """

    publisher_id: int
    instrument_id: int
    tick: int
    raw_symbol: str
    day: int


@dataclass(frozen=True, slots=True)
class Draw:
    """A run of records before it has bytes: arrays of equal length.

    `stamps` are index timestamps (ns), in order; `bits` 36 random bits each; `mids` the mid prices; `first` the index
    of the first record in its session.
    """

    stamps: Int64s
    bits: Draws
    mids: Int64s
    first: int

    def __len__(self) -> int:
        return len(self.stamps)


@dataclass(frozen=True, slots=True)
class Spec:
    """One schema: its record type, whether it ticks, lies on a grid of `step_ns` or comes once a day.

    A record is published `lag_ns` after its index timestamp: a bar when its interval is over.
    """

    schema: str
    kind: Kind
    dtype: np.dtype[np.void]
    rtype: int
    fill: Callable[[Rows, Draw, Place], None]
    step_ns: int = 0
    lag_ns: int = 0

    @property
    def size(self) -> int:
        return int(self.dtype.itemsize)

    @property
    def index_field(self) -> str:
        return "ts_recv" if "ts_recv" in (self.dtype.names or ()) else "ts_event"

    def encode(self, draw: Draw, place: Place) -> Rows:
        """The rows of a run."""
        rows = np.zeros(len(draw), dtype=self.dtype)
        rows["length"] = self.size // 4
        rows["rtype"] = self.rtype
        rows["publisher_id"] = place.publisher_id
        rows["instrument_id"] = place.instrument_id
        rows["ts_event"] = draw.stamps
        if self.index_field == "ts_recv":
            rows["ts_recv"] = draw.stamps
        self.fill(rows, draw, place)
        return rows


def _bits(draw: Draw, shift: int, width: int) -> Int64s:
    return ((draw.bits >> np.uint64(shift)) & np.uint64((1 << width) - 1)).astype(np.int64)


def _sides(draw: Draw) -> npt.NDArray[np.bytes_]:
    return np.array([b"A", b"B"])[_bits(draw, 17, 1)]


# How often each order action comes, of 64: assumed.
_ACTIONS = np.array([b"A"] * 28 + [b"C"] * 26 + [b"M"] * 6 + [b"T"] * 2 + [b"F"] * 2)


def _fill_delay(rows: Rows, draw: Draw) -> None:
    """The exchange's own time lies 2 to 18 microseconds before the capture's."""
    rows["ts_event"] = draw.stamps - 2000 - _bits(draw, 0, 14)


def _fill_event(rows: Rows, draw: Draw, place: Place) -> None:
    _fill_delay(rows, draw)
    rows["size"] = 1 + _bits(draw, 14, 3)
    rows["flags"] = F_LAST
    rows["side"] = _sides(draw)
    rows["price"] = draw.mids + place.tick * (_bits(draw, 24, 4) - 8)
    if "ts_in_delta" in (rows.dtype.names or ()):
        rows["ts_in_delta"] = 1000 + _bits(draw, 0, 10)
    if "sequence" in (rows.dtype.names or ()):
        rows["sequence"] = (draw.first + 1 + np.arange(len(draw))) & 0xFFFF_FFFF


def _fill_mbo(rows: Rows, draw: Draw, place: Place) -> None:
    _fill_event(rows, draw, place)
    rows["action"] = _ACTIONS[_bits(draw, 18, 6)]
    rows["order_id"] = (place.day << 40) + draw.first + np.arange(len(draw))


def _fill_trade(rows: Rows, draw: Draw, place: Place) -> None:
    _fill_event(rows, draw, place)
    rows["action"] = b"T"


def _fill_levels(rows: Rows, draw: Draw, place: Place, levels: int) -> None:
    for level in range(levels):
        away = place.tick * (level + 1)
        rows[f"bid_px_{level:02d}"] = draw.mids - away
        rows[f"ask_px_{level:02d}"] = draw.mids + away
        rows[f"bid_sz_{level:02d}"] = 1 + level + _bits(draw, 14, 6)
        rows[f"ask_sz_{level:02d}"] = 1 + level + _bits(draw, 20, 6)
        if f"bid_ct_{level:02d}" in (rows.dtype.names or ()):
            rows[f"bid_ct_{level:02d}"] = rows[f"ask_ct_{level:02d}"] = 1 + level


def _fill_book(rows: Rows, draw: Draw, place: Place) -> None:
    _fill_event(rows, draw, place)
    rows["action"] = _ACTIONS[_bits(draw, 18, 6)]
    _fill_levels(rows, draw, place, 10 if "bid_px_09" in (rows.dtype.names or ()) else 1)


def _fill_quoted_trade(rows: Rows, draw: Draw, place: Place) -> None:
    _fill_trade(rows, draw, place)
    _fill_levels(rows, draw, place, 1)


def _fill_sampled(rows: Rows, draw: Draw, place: Place) -> None:
    _fill_event(rows, draw, place)
    _fill_levels(rows, draw, place, 1)


def _fill_bar(rows: Rows, draw: Draw, place: Place) -> None:
    opened = draw.mids
    closed = draw.mids + place.tick * (_bits(draw, 24, 4) - 8)
    rows["open"] = opened
    rows["close"] = closed
    rows["high"] = np.maximum(opened, closed) + place.tick
    rows["low"] = np.minimum(opened, closed) - place.tick
    rows["volume"] = 1 + _bits(draw, 14, 10)


def _fill_definition(rows: Rows, draw: Draw, place: Place) -> None:
    rows["raw_symbol"] = place.raw_symbol.encode()
    rows["min_price_increment"] = place.tick
    rows["display_factor"] = SECOND_NS
    for name in ("high_limit_price", "low_limit_price", "max_price_variation", "strike_price", "price_ratio"):
        rows[name] = dbn.UNDEF_PRICE
    rows["expiration"] = rows["activation"] = np.uint64(dbn.UNDEF_TIMESTAMP)
    rows["currency"] = b"USD"
    rows["instrument_class"] = b"F"
    rows["match_algorithm"] = b"F"
    rows["security_update_action"] = b"A"
    rows["user_defined_instrument"] = b"N"
    rows["leg_side"] = b"N"


def _fill_status(rows: Rows, draw: Draw, place: Place) -> None:
    _fill_delay(rows, draw)
    rows["action"] = 7  # trading
    for name in ("is_trading", "is_quoting"):
        rows[name] = b"Y"
    rows["is_short_sell_restricted"] = b"N"


def _fill_statistic(rows: Rows, draw: Draw, place: Place) -> None:
    _fill_delay(rows, draw)
    rows["ts_ref"] = np.uint64(dbn.UNDEF_TIMESTAMP)
    rows["price"] = draw.mids
    rows["quantity"] = dbn.UNDEF_STAT_QUANTITY
    rows["stat_type"] = 1 + _bits(draw, 14, 2)
    rows["update_action"] = 1


def _spec(schema: str, kind: Kind, message: Any, fill: Callable[..., None], step_s: int = 0) -> Spec:
    step_ns = step_s * SECOND_NS
    lag_ns = step_ns if schema.startswith("ohlcv") else 0
    rtype = dbn.RType.from_schema(dbn.Schema.from_str(schema)).__index__()
    return Spec(schema, kind, np.dtype(message._dtypes), rtype, fill, step_ns, lag_ns)


SPECS: dict[str, Spec] = {
    spec.schema: spec
    for spec in (
        _spec("mbo", "tick", dbn.MBOMsg, _fill_mbo),
        _spec("mbp-1", "tick", dbn.MBP1Msg, _fill_book),
        _spec("mbp-10", "tick", dbn.MBP10Msg, _fill_book),
        _spec("trades", "tick", dbn.TradeMsg, _fill_trade),
        _spec("tbbo", "tick", dbn.MBP1Msg, _fill_quoted_trade),
        _spec("cmbp-1", "tick", dbn.CMBP1Msg, _fill_book),
        _spec("tcbbo", "tick", dbn.CMBP1Msg, _fill_quoted_trade),
        _spec("bbo-1s", "grid", dbn.BBOMsg, _fill_sampled, 1),
        _spec("bbo-1m", "grid", dbn.BBOMsg, _fill_sampled, 60),
        _spec("cbbo-1s", "grid", dbn.CBBOMsg, _fill_sampled, 1),
        _spec("cbbo-1m", "grid", dbn.CBBOMsg, _fill_sampled, 60),
        _spec("ohlcv-1s", "grid", dbn.OHLCVMsg, _fill_bar, 1),
        _spec("ohlcv-1m", "grid", dbn.OHLCVMsg, _fill_bar, 60),
        _spec("ohlcv-1h", "grid", dbn.OHLCVMsg, _fill_bar, 3600),
        _spec("ohlcv-1d", "day", dbn.OHLCVMsg, _fill_bar, 86_400),
        _spec("definition", "day", dbn.InstrumentDefMsg, _fill_definition, 86_400),
        _spec("status", "grid", dbn.StatusMsg, _fill_status, 4 * 3600),
        _spec("statistics", "grid", dbn.StatMsg, _fill_statistic, 3600),
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
