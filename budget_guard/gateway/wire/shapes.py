"""What the records of each schema are like, as far as their order and a replay of them are concerned.

Source: the DBN specification for record types, the vendor's pages on intraday replay and on its schemas for the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

SECOND_NS = 10**9


@dataclass(frozen=True, slots=True)
class Shape:
    """`span_ns`: how long after its timestamp a record is published, a bar when its interval is over.

    `by_receipt`: a replay's start means the index timestamp. `rare`: hours without a record say nothing.
    """

    rtype: int
    span_ns: int = 0
    by_receipt: bool = False
    rare: bool = False


SHAPES: dict[str, Shape] = {
    "mbo": Shape(0xA0),
    "trades": Shape(0x00),
    "mbp-1": Shape(0x01),
    "tbbo": Shape(0x01),
    "mbp-10": Shape(0x0A),
    "cmbp-1": Shape(0xB1),
    "tcbbo": Shape(0xC2),
    "cbbo-1s": Shape(0xC0, SECOND_NS, by_receipt=True),
    "cbbo-1m": Shape(0xC1, 60 * SECOND_NS, by_receipt=True),
    "bbo-1s": Shape(0xC3, SECOND_NS, by_receipt=True),
    "bbo-1m": Shape(0xC4, 60 * SECOND_NS, by_receipt=True),
    "ohlcv-1s": Shape(0x20, SECOND_NS),
    "ohlcv-1m": Shape(0x21, 60 * SECOND_NS),
    "ohlcv-1h": Shape(0x22, 3600 * SECOND_NS, rare=True),
    "ohlcv-1d": Shape(0x23, 86_400 * SECOND_NS, rare=True),
    "ohlcv-eod": Shape(0x24, 86_400 * SECOND_NS, rare=True),
    "status": Shape(0x12, rare=True),
    "definition": Shape(0x13, rare=True),
    "imbalance": Shape(0x14, rare=True),
    "statistics": Shape(0x18, rare=True),
}
_BY_RECEIPT = frozenset(shape.rtype for shape in SHAPES.values() if shape.by_receipt)
_SPANS_NS = {shape.rtype: shape.span_ns for shape in SHAPES.values()}


def replay_stamp(record: bytes, ts_index_ns: int) -> int:
    """What a replay's start is compared with: `ts_event`, or the index timestamp in sampled schemas."""
    return ts_index_ns if record[1] in _BY_RECEIPT else int.from_bytes(record[8:16], "little")


def published_ns(rtype: int, ts_index_ns: int) -> int:
    """The earliest instant at which a record of this timestamp can have been published."""
    return ts_index_ns + _SPANS_NS.get(rtype, 0)
