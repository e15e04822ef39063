"""A run: consecutive records of a stream before they have bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from budget_guard.sandbox.market.contracts import Contract
from budget_guard.sandbox.market.paths import asks_at
from budget_guard.sandbox.market.seeds import Bits, Int64s, mix_many
from budget_guard.sandbox.market.sessions import Session
from budget_guard.sandbox.market.tapes import Tape

Rows = npt.NDArray[np.void]

F_LAST = 128
F_SNAPSHOT = 32
SECOND_NS = 10**9


@dataclass(frozen=True, slots=True)
class Scene:
    """Whose records: a contract's, in a session. `seed` is the market's, `own` the stream's in this session.

    `trades_by_minute` counts the ordinary market's trades up to each minute of a session of the calendar; a bar's
    volume hangs on them.
    """

    dataset: str
    publisher_id: int
    contract: Contract
    session: Session
    seed: int
    own: int
    trades_by_minute: Callable[[Session], Int64s]


@dataclass(frozen=True)
class Run:
    """Records `[first, last)` of a tape, which `stamps` are the index timestamps of (ns, in order)."""

    scene: Scene
    tape: Tape
    first: int
    last: int
    stamps: Int64s

    def __len__(self) -> int:
        return self.last - self.first

    @cached_property
    def indexes(self) -> Int64s:
        return np.arange(self.first, self.last)

    @cached_property
    def bits(self) -> Bits:
        """36 random bits of each record; what lies above them places it within its minute."""
        return mix_many(self.scene.own, self.indexes)

    @cached_property
    def asks(self) -> Int64s:
        """The best ask at each record; the best bid is a tick lower."""
        return asks_at(self.scene.seed, self.scene.contract, self.stamps)
