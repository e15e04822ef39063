"""What is known of a market: its calendar in the library, hours by kind, special days, how far it was checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, time
from functools import cached_property
from zoneinfo import ZoneInfo

from budget_guard.errors import CalendarUnknown
from budget_guard.markets.special_days import Grade, SpecialDay
from budget_guard.policy.model import SessionKind

KINDS: tuple[SessionKind, ...] = ("regular", "extended", "full")


@dataclass(frozen=True, slots=True)
class Hours:
    """Hours of one session kind on an ordinary day, on the exchange's wall clock, with what they are worth.

    `open_day_before` opens on the calendar day before the label. After an early close the kind ends at `after_early`,
    or, when that is None, at the early close itself.
    """

    open: time
    close: time
    grade: Grade
    source: str
    open_day_before: bool = False
    after_early: time | None = None

    def __str__(self) -> str:
        before = " the day before" if self.open_day_before else ""
        return f"{self.open:%H:%M}{before} to {self.close:%H:%M}"


@dataclass(frozen=True, slots=True)
class Halt:
    """A scheduled break inside each session, on the exchange's wall clock and the label's own date."""

    start: time
    end: time


@dataclass(frozen=True, slots=True)
class Usual:
    """What the library says of an ordinary day: nothing to follow where it says just that."""

    open: time
    close: time
    open_day_before: bool = False


@dataclass(frozen=True)
class Market:
    """One market. `close` is the ordinary close that the special days' closes replace.

    A kind of hours that could not be sourced is absent from `hours`, and `missing` says why. `regular_days` names the
    market on whose sessions alone there are regular hours; None means all of this market's own. `what` says which
    contracts the row speaks of.
    """

    name: str
    what: str
    calendar: str
    usual: Usual
    timezone: str
    zone_label: str
    close: time
    hours: Mapping[SessionKind, Hours]
    special_days: tuple[SpecialDay, ...]
    checked_from: date
    checked_through: date
    datasets: tuple[str, ...] = ()
    missing: Mapping[SessionKind, str] = field(default_factory=dict)
    halts: tuple[Halt, ...] = ()
    regular_days: str | None = None
    remark: str = ""

    @cached_property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @cached_property
    def special(self) -> Mapping[date, SpecialDay]:
        """The special days by label."""
        return {day.label: day for day in self.special_days}

    @property
    def widest(self) -> SessionKind:
        """The kind that contains all others that are known: what windows are cut to."""
        return next(kind for kind in reversed(KINDS) if kind in self.hours)

    def require(self, kind: SessionKind) -> None:
        """Raise CalendarUnknown, with what is known instead, unless the hours of a kind are."""
        if kind not in self.hours:
            known = "; ".join(self.describe_hours())
            raise CalendarUnknown(
                f"the {kind} hours of {self.name} are not known: {self.missing[kind]}; known: {known}"
            )

    def describe_hours(self) -> Iterator[str]:
        """The hours that are known, alike ones together: `extended and full 17:00 the day before to 16:00 CT`."""
        kinds: dict[str, list[str]] = {}
        for kind in KINDS:
            if kind in self.hours:
                kinds.setdefault(f"{self.hours[kind]} {self.zone_label}", []).append(kind)
        for hours, named in kinds.items():
            yield f"{' and '.join(named)} {hours}"
