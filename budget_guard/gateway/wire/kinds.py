"""The kinds of records that DBN has, and how long each is: what is none of them, no client can read.

Sizes are those of DBN versions 1 to 3, without `ts_out`. Source: the DBN specification.
"""

from __future__ import annotations

from collections.abc import Mapping

from budget_guard.pricing.sheet import TS_OUT_BYTES

_OHLCV = frozenset({56})
_QUOTE = frozenset({80})
_SIZES: Mapping[int, frozenset[int]] = {
    0x00: frozenset({48}),  # trades
    0x01: _QUOTE,  # mbp-1, tbbo
    0x0A: frozenset({368}),  # mbp-10
    0x11: _OHLCV,
    0x12: frozenset({40}),  # status
    0x13: frozenset({360, 400, 520}),  # definition
    0x14: frozenset({112}),  # imbalance
    0x15: frozenset({80, 320}),  # error
    0x16: frozenset({80, 176}),  # symbol mapping
    0x17: frozenset({80, 320}),  # system
    0x18: frozenset({64, 80}),  # statistics
    **dict.fromkeys(range(0x20, 0x25), _OHLCV),
    0xA0: frozenset({56}),  # mbo
    **dict.fromkeys((0xB1, 0xC0, 0xC1, 0xC2, 0xC3, 0xC4), _QUOTE),
}


def is_known(kind: bytes) -> bool:
    """Whether DBN has the type of a record of this kind."""
    return kind[1] in _SIZES


def has_wrong_size(kind: bytes, *, ts_out: bool) -> bool:
    """Whether records of this kind are of a known type, and not as long as that type is."""
    sizes = _SIZES.get(kind[1])
    return sizes is not None and kind[0] * 4 - (TS_OUT_BYTES if ts_out else 0) not in sizes
