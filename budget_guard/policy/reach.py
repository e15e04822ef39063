"""Whether one window, as it is written, allows all that another does: told from the text, without a calendar."""

from __future__ import annotations

from datetime import timedelta

from budget_guard.policy.model import AlwaysClause, HoursClause, SessionClause, WindowClause


def reaches(wide: WindowClause, narrow: WindowClause, *, same_clock: bool) -> bool:
    """Whether a clause plainly allows all that another does."""
    if isinstance(wide, AlwaysClause):
        return True
    if isinstance(wide, SessionClause) and isinstance(narrow, SessionClause):
        return _same_days(wide, narrow) and _session_reaches(wide, narrow)
    if isinstance(wide, HoursClause) and isinstance(narrow, HoursClause):
        return same_clock and _same_days(wide, narrow) and _hours_reach(wide, narrow)
    return False


def _same_days(wide: SessionClause | HoursClause, narrow: SessionClause | HoursClause) -> bool:
    """Whether every day of the narrow clause is one of the wide one."""
    return (
        (not wide.days or (bool(narrow.days) and narrow.days <= wide.days))
        and all(day in narrow.skip or (narrow.only and day not in narrow.only) for day in wide.skip)
        and (not wide.only or (bool(narrow.only) and narrow.only <= wide.only))
    )


def _session_reaches(wide: SessionClause, narrow: SessionClause) -> bool:
    anchors = (wide.start.anchor, wide.end.anchor)
    whole = wide.session == "full" and anchors == ("open", "close")
    if whole and wide.start.offset <= timedelta(0) <= wide.end.offset:
        return True  # the whole session, to which every clause is cut
    return (
        wide.session == narrow.session
        and anchors == (narrow.start.anchor, narrow.end.anchor)
        and wide.start.offset <= narrow.start.offset
        and wide.end.offset >= narrow.end.offset
    )


def _hours_reach(wide: HoursClause, narrow: HoursClause) -> bool:
    (wide_start, wide_end), (start, end) = _minutes(wide), _minutes(narrow)
    return wide_start <= start and end <= wide_end


def _minutes(clause: HoursClause) -> tuple[int, int]:
    """Minutes after midnight of the day on which it opens; an end on the next day is past 24 hours."""
    start, end = (part.hour * 60 + part.minute for part in (clause.start, clause.end))
    return start, end if end > start else end + 24 * 60
