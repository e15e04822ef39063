"""The template of the mbo order flow: what the record at each place of a block does, and to which order.

An order of a block is either "near", which lives and dies within the block, makes the best price and is what trades
hit; or "far", which rests until the template cancels it in the next block.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from budget_guard.sandbox.market.seeds import GOLDEN, MASK, Int64s, mix

ROUNDS = 8
_FAR = 10  # far orders added in a round, and of the last block's cancelled
_CHANGES = 4
BLOCK = ROUNDS * 32
OPENING = 1 + ROUNDS * _FAR  # records before the first block: a Clear and the far orders of a block before it

# What an order's price hangs on: the block's best ask, or what is out of the way of the next block's too.
AT_ASK, BELOW_BOTH, ABOVE_BOTH = 0, 1, 2
_DEEPEST = 10


@dataclass(frozen=True, slots=True)
class _Step:
    """What a place does to the order that was added at place `born`, `back` blocks before.

    `changed` says whether a modify has reached that order by then, this one included. `tail` is how many records of
    the same event came before.
    """

    action: str
    born: int
    back: int = 0
    changed: bool = False
    tail: int = 0


@dataclass(frozen=True, slots=True)
class Template:
    """The places of a block as arrays; `offsets` are prices in ticks from their anchor.

    `far` are the places at which far orders are added, `far_changed` whether a modify has reached each by the end of
    its block, `far_number` their numbers by place.
    """

    action: np.ndarray[tuple[int], np.dtype[np.bytes_]]
    order_side: np.ndarray[tuple[int], np.dtype[np.bytes_]]
    born: Int64s
    back: Int64s
    changed: Int64s
    tail: Int64s
    ends_event: np.ndarray[tuple[int], np.dtype[np.bool_]]
    anchor: Int64s
    offset: Int64s
    far: Int64s
    far_changed: Int64s
    far_number: Int64s


def _draw(number: int, below: int) -> int:
    return mix((number * GOLDEN) & MASK) % below


def _shuffled(items: list[str], salt: int) -> list[str]:
    return [items[at] for at in sorted(range(len(items)), key=lambda at: _draw(salt + at, 2**32))]


def _round(number: int) -> list[str]:
    """The kinds of a round's 32 places. Enough far orders come first for every change to find one."""
    rest = ["far"] * (_FAR - _CHANGES) + ["old"] * _FAR + ["change"] * _CHANGES + ["extra", "trade"]
    kinds = ["struck", "kept", *["far"] * _CHANGES]
    for kind in _shuffled(rest, 1000 * (number + 1)):
        kinds += ["trade", "fill", "gone"] if kind == "trade" else [kind]
    return [*kinds, "drop extra", "drop kept"]


def _steps(kinds: list[str]) -> list[_Step]:
    far = [at for at, kind in enumerate(kinds) if kind == "far"]
    # Cancelled in another order than added, and changed ones told apart: that is known once a block is walked.
    leaving = sorted(range(len(far)), key=lambda number: _draw(number + 50_000, 2**32))
    near: dict[str, int] = {}
    unchanged: list[int] = []
    changed: set[int] = set()
    steps: list[_Step] = []
    for at, kind in enumerate(kinds):
        if kind in ("struck", "kept", "extra", "far"):
            near[kind] = at
            unchanged += [at] if kind == "far" else []
            steps.append(_Step("A", at))
        elif kind == "change":
            born = unchanged.pop(_draw(at + 90_000, len(unchanged)))
            changed.add(born)
            steps.append(_Step("M", born, changed=True))
        elif kind == "old":
            steps.append(_Step("C", far[leaving.pop()], back=1))
        elif kind in ("trade", "fill", "gone"):
            tail = ("trade", "fill", "gone").index(kind)
            steps.append(_Step("TFC"[tail], near["struck"], tail=tail))
        else:
            steps.append(_Step("C", near[kind.removeprefix("drop ")]))
    return [_Step(step.action, step.born, 1, step.born in changed) if step.back else step for step in steps]


@lru_cache(maxsize=1)
def template() -> Template:
    """The one template."""
    kinds = [kind for number in range(ROUNDS) for kind in _round(number)]
    steps = _steps(kinds)
    sides = {born: _side(kinds, born) for born, step in enumerate(steps) if step.action == "A"}
    anchors = {
        born: (AT_ASK if kinds[born] != "far" else BELOW_BOTH if side == "B" else ABOVE_BOTH)
        for born, side in sides.items()
    }
    levels = {
        born: {"struck": 0, "kept": 0, "extra": 1}.get(kinds[born], 1 + _draw(born, _DEEPEST))
        for born in sides
    }
    far = [born for born in sides if kinds[born] == "far"]
    changed = {step.born for step in steps if step.action == "M"}
    numbers = np.zeros(BLOCK, dtype=np.int64)
    numbers[far] = np.arange(len(far))
    return Template(
        action=np.array([step.action.encode() for step in steps]),
        order_side=np.array([sides[step.born].encode() for step in steps]),
        born=np.array([step.born for step in steps]),
        back=np.array([step.back for step in steps]),
        changed=np.array([int(step.changed) for step in steps]),
        tail=np.array([step.tail for step in steps]),
        ends_event=np.array([step.action not in "TF" for step in steps]),
        anchor=np.array([anchors[step.born] for step in steps]),
        offset=np.array([offset_of(sides[step.born], levels[step.born] + step.changed) for step in steps]),
        far=np.array(far),
        far_changed=np.array([int(born in changed) for born in far]),
        far_number=numbers,
    )


def offset_of(side: str, level: int) -> int:
    """Ticks from the best ask to a level: the best bid is one below it. A changed order lies one deeper."""
    return level if side == "A" else -1 - level


def _side(kinds: list[str], born: int) -> str:
    """Trades hit bids and asks in turn; far orders take turns too."""
    hit, other = ("B", "A") if born // 32 % 2 else ("A", "B")
    if kinds[born] == "far":
        return "AB"[sum(kind == "far" for kind in kinds[:born]) % 2]
    return other if kinds[born] == "kept" else hit
