"""How a session's volume lies over its minutes, and how days differ.

The intraday shapes are assumed, not measured: shares of a full session's records, by product group. On top of them lie
bursts, most of them common to a whole dataset, and factors by day: one of the dataset's, one of the group's and one
of the product's own, so that busy days and busy minutes come together.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache

import numpy as np

from budget_guard.sandbox.market.seeds import Int64s, cut, mix, mix_many, seed_of
from budget_guard.sandbox.market.sessions import MINUTE_NS, Session

Pieces = tuple[tuple[int, int], ...]

# (minutes, percent of the session) from the ordinary open on: 17:00 CT or 04:00 ET. Nothing is closed.
SHAPES: dict[str, Pieces] = {
    "equity-index": ((480, 8), (450, 17), (30, 10), (300, 48), (60, 15), (60, 2)),
    "energy": ((540, 10), (300, 17), (60, 7), (90, 17), (210, 34), (30, 9), (150, 6)),
    "metals": ((540, 22), (320, 24), (100, 19), (210, 26), (210, 9)),
    "rates": ((540, 9), (320, 18), (100, 20), (240, 30), (60, 13), (120, 10)),
    "fx": ((540, 20), (300, 31), (180, 28), (240, 16), (120, 5)),
    # 19:00 to 07:45 and 08:30 to 13:20 CT.
    "grains": ((120, 0), (765, 18), (45, 0), (60, 26), (195, 40), (35, 16), (160, 0)),
    # 08:30 to 13:05 CT.
    "livestock": ((930, 0), (30, 20), (215, 60), (30, 20), (175, 0)),
    "crypto": ((540, 24), (390, 26), (390, 42), (60, 8)),
    "us-equities": ((330, 4), (30, 14), (330, 62), (30, 17), (240, 3)),
    # 09:30 to 16:00 ET.
    "us-options": ((330, 0), (30, 17), (330, 63), (30, 20), (240, 0)),
}
US_GROUPS = ("us-equities", "us-options")
# In minutes from 04:00 ET: the early close at 13:00, the ordinary one at 16:00.
_US_EARLY, _US_CLOSE = 540, 720


def calendar_of_group(group: str) -> str:
    """The calendar that a product group trades by."""
    return "us" if group in US_GROUPS else "cme"


@lru_cache(maxsize=64)
def base_weights(group: str, minutes: int) -> Int64s:
    """What each minute of a session of that length weighs before any noise; a full session weighs 10**7.

    A short CME session is the first part of a full one; a short US one has the hours after 16:00 after its close.
    """
    full = np.concatenate(
        [np.full(length, percent * 100_000 // length, dtype=np.int64) for length, percent in SHAPES[group]]
    )
    if minutes >= len(full):
        return full
    if group in US_GROUPS:
        after = minutes - _US_EARLY
        return np.concatenate([full[:_US_EARLY], full[_US_CLOSE : _US_CLOSE + after]])
    return full[:minutes].copy()


@lru_cache(maxsize=64)
def open_minutes(group: str, minutes: int) -> tuple[tuple[int, int], ...]:
    """The runs of minutes in which a group trades, in a session of that length: `[first, last)` from its start."""
    trades = np.concatenate([[0], base_weights(group, minutes) > 0, [0]]).astype(np.int8)
    edges = np.flatnonzero(np.diff(trades))
    return tuple((int(first), int(last)) for first, last in zip(edges[::2], edges[1::2], strict=True))


def open_hours(group: str, session: Session) -> tuple[tuple[int, int], ...]:
    """The intervals in which a group trades in a session, in nanoseconds."""
    return tuple(
        (session.start_ns + first * MINUTE_NS, session.start_ns + last * MINUTE_NS)
        for first, last in open_minutes(group, session.minutes)
    )


def session_permille(group: str, minutes: int) -> int:
    """A session's volume in thousandths of a full one's: less after an early close."""
    full = sum(length for length, _ in SHAPES[group])
    return 1000 * int(base_weights(group, minutes).sum()) // int(base_weights(group, full).sum())


def minute_weights(seed: int, dataset: str, group: str, session: Session, own: int) -> Int64s:
    """What each minute of a session weighs: shape, bursts and noise; `own` is the stream's seed."""
    noise = 700 + mix_many(own ^ 0xFF, np.arange(session.minutes)) % np.uint64(601)
    weights: Int64s = _busy_minutes(seed, dataset, group, session) * noise.astype(np.int64) // 1000
    return weights


@lru_cache(maxsize=256)
def _busy_minutes(seed: int, dataset: str, group: str, session: Session) -> Int64s:
    common = _bursts(seed_of(seed, dataset, session.label, "bursts"), session.minutes, 7)
    grouped = _bursts(seed_of(seed, dataset, group, session.label, "bursts"), session.minutes, 8)
    weights: Int64s = base_weights(group, session.minutes) * (common + grouped) // 2000
    return weights


def _bursts(seed: int, minutes: int, rarity: int) -> Int64s:
    """Thousandths by minute: mostly 1000, in one of `2**rarity` minutes up to 12 times that, fading over three more."""
    bits = mix_many(seed, np.arange(minutes))
    starts = np.where(cut(bits, 0, rarity) == 0, 3000 + cut(bits, 20, 13), 0)
    raised = np.full(minutes, 1000)
    for delay in range(min(4, minutes)):
        raised[delay:] += starts[: minutes - delay] >> delay
    return raised


def day_permille(seed: int, dataset: str, group: str, product: str, label: date) -> int:
    """How busy a product's day is, in thousandths of the ordinary.

    The dataset's factor is 800 to 1199, and 1.5 times that on one day in sixteen; the group's 900 to 1099, the
    product's 920 to 1079.
    """
    of_dataset = seed_of(seed, dataset, label)
    busy = 3 if mix(of_dataset) % 16 == 0 else 2
    factor = (800 + of_dataset % 400) * busy // 2
    of_group = 900 + seed_of(seed, dataset, group, label) % 200
    of_product = 920 + seed_of(seed, dataset, product, label, "day") % 160
    return factor * of_group * of_product // 10**6
