"""Whose each byte of a live connection is: parts are told apart by the types of their records, and counted apart.

Several schemas may share a record type, and two streams of one schema share everything: what shares a type is one
part. Control records, and types that no part has, count on the dearest part.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from budget_guard.gateway.wire.framer import CONTROL_RTYPES, Framed
from budget_guard.gateway.wire.shapes import SHAPES
from budget_guard.guard.connection import LiveHold
from budget_guard.policy.model import NotBilled
from budget_guard.pricing.sheet import TS_OUT_BYTES


def counted_alike(schemas: Iterable[str]) -> list[frozenset[str]]:
    """The schemas in groups whose records can be told apart, in the order in which they were given.

    Nothing is known of the records of a schema that is not known: with one of them there is one group.
    """
    names = list(dict.fromkeys(schemas))
    if any(name not in SHAPES for name in names):
        return [frozenset(names)]
    groups: dict[int, set[str]] = {}
    for name in names:
        groups.setdefault(SHAPES[name].rtype, set()).add(name)
    return [frozenset(group) for group in groups.values()]


def rtypes_of(schemas: Iterable[str]) -> frozenset[int]:
    """The types of the records of some schemas, as far as they are known."""
    return frozenset(SHAPES[name].rtype for name in schemas if name in SHAPES)


class Counting:
    """Counts what one connection to the vendor sends, on the hold of the part that it belongs to.

    Every byte is counted with the read that brought it, but for the first byte of a record that came alone: nobody
    knows yet whose it is. It is counted with the next read, or by `finish`.
    """

    def __init__(self, not_billed: Collection[NotBilled] = (), *, ts_out: bool = False) -> None:
        """`not_billed` is seen and not counted; `ts_out` says that each record ends with the time of its sending."""
        self.holds: list[LiveHold] = []
        self._by_rtype: dict[int, LiveHold] = {}
        self._rtypes: dict[int, frozenset[int]] = {}  # by the place of the hold
        self._dearest: LiveHold
        self._begun = (0, 0)  # of a record whose end has not come: its type, and what is counted of it
        self._alone = 0  # bytes that are counted nowhere yet
        self._filled = False  # whether the last read took all that it might
        self._no_control = "control" in not_billed
        self._tail_bytes = TS_OUT_BYTES if ts_out and "ts_out" in not_billed else 0

    def add(self, hold: LiveHold, rtypes: frozenset[int]) -> None:
        """One more part, from the next byte on."""
        self.holds.append(hold)
        self._rtypes[len(self.holds) - 1] = rtypes
        self._look()

    def swap(self, old: LiveHold, new: LiveHold, rtypes: frozenset[int]) -> None:
        """A part counts on another hold from the next byte on."""
        place = self.holds.index(old)
        self.holds[place] = new
        self._rtypes[place] = rtypes
        self._look()

    def _look(self) -> None:
        self._dearest = max(self.holds, key=lambda hold: hold.terms.unit_price_usd)
        self._by_rtype = {
            rtype: self.holds[place]
            for place, rtypes in self._rtypes.items()
            for rtype in rtypes
            if rtype not in CONTROL_RTYPES
        }

    def count(self, framed: Framed, now_ns: int, *, filled: bool = False) -> None:
        """One read: the records that it completed, and the part of a record that is there without its end.

        `filled` says that it took all that it might: more may be waiting.
        """
        before, alone, begun = self._begun, self._alone, framed.begun
        self._filled = filled
        self._begun = self._billed_of(begun) if begun else (0, 0)
        self._alone = 1 if len(begun) == 1 else 0
        came = framed.billable_bytes + alone - self._alone
        if len(self.holds) == 1 and not self._tail_bytes and not self._no_control:
            self._dearest.count(came, framed.control_bytes, now_ns, filled=filled)
            return
        sizes: dict[int, int] = {}
        for kind, records in framed.count_by_kind.items():
            sizes[kind[1]] = sizes.get(kind[1], 0) + records * self._billed(kind)
        control_bytes = sum(sizes.get(rtype, 0) for rtype in CONTROL_RTYPES)
        for (rtype, counted), sign in ((before, -1), (self._begun, 1)):
            sizes[rtype] = sizes.get(rtype, 0) + sign * counted
        self._share(sizes, control_bytes, now_ns)
        if (left_out := came - sum(sizes.values())) and (self._no_control or self._tail_bytes):
            self._dearest.leave_out(left_out)

    def _billed(self, kind: bytes) -> int:
        """What of a record of a kind is counted."""
        if self._no_control and kind[1] in CONTROL_RTYPES:
            return 0
        return kind[0] * 4 - self._tail_bytes

    def _billed_of(self, begun: bytes) -> tuple[int, int]:
        """The type of a record whose end has not come, and what of it is counted."""
        return (0, 0) if len(begun) < 2 else (begun[1], min(len(begun), self._billed(begun)))

    def _share(self, sizes: dict[int, int], control_bytes: int, now_ns: int) -> None:
        dearest = self._dearest
        shares = {id(hold): 0 for hold in self.holds}
        for rtype, size in sizes.items():
            shares[id(self._by_rtype.get(rtype, dearest))] += size
        came = sum(shares.values())
        for hold in self.holds:
            # Also where nothing came: that the connection was read says how little can be on its way, and what came of
            # the others how much. What is on its way may be of any part.
            share = shares[id(hold)]
            control = control_bytes if hold is dearest else 0
            hold.count(share, control, now_ns, came - share, filled=self._filled)

    def count_unknown(self, size_bytes: int, now_ns: int, *, filled: bool = False) -> None:
        """Bytes that are no records."""
        self._filled = filled
        self._dearest.count(size_bytes, 0, now_ns, filled=filled)

    def finish(self, now_ns: int) -> None:
        """The connection has ended: count what was counted nowhere yet."""
        alone, self._alone = self._alone, 0
        if alone:
            self._dearest.count(alone, 0, now_ns, filled=self._filled)

    @property
    def left_bytes(self) -> int | None:
        """What a read may take so that each part's lease still covers an ending after it; None for no bound.

        Where reading goes on although nothing is left, another byte is known to cost nothing.
        """
        least: int | None = None
        for hold in self.holds:
            left = hold.left_bytes
            if left is not None and left > 0 and (least is None or left < least):
                least = left
        return least
