"""The kinds of records that DBN has, and how long each is: what is none of them, no client can read.

Sizes are those of DBN versions 1 to 3, without `ts_out`. Source: the DBN specification.
"""

from __future__ import annotations

from collections.abc import Mapping

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
_TS_OUT_BYTES = 8


def unknown_types(sizes: Mapping[int, int]) -> set[int]:
    """The record types, of those that came, that DBN does not have."""
    return sizes.keys() - _SIZES.keys()


def has_wrong_size(sizes: Mapping[int, int], counts: Mapping[int, int], *, ts_out: bool) -> bool:
    """Whether records of a known type came that are not as long as that type is. Bytes and records by type."""
    extra = _TS_OUT_BYTES if ts_out else 0
    for rtype, size in sizes.items():
        known = _SIZES.get(rtype)
        each, rest = divmod(size, counts[rtype])
        if known is not None and (rest or each - extra not in known):
            return True
    return False
