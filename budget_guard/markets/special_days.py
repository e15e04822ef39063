"""The days that are not ordinary: early closes and closed weekdays, each with its source.

Times are the exchange's wall clock. A row is combined with the library's answer in `sessions.py`: where the library
still gives the answer noted in `library`, the row decides; where it has come to say something else, the earlier close.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, time
from typing import Literal

# third parties: the exchange's published schedule as others quote it. both libraries: exchange_calendars 4.13.2 and
# pandas_market_calendars 5.5.0 agree. one library: only the second of them knows. derived: from the rule that held in
# other years.
Grade = Literal["third parties", "both libraries", "one library", "derived"]

ORDINARY = time(17)  # what CMES 4.13.2 gives as every ordinary day's close, Chicago time
NOON = time(12)
QUARTER_PAST = time(12, 15)
ONE = time(13)


@dataclass(frozen=True, slots=True)
class SpecialDay:
    """One weekday; a close of None means that there is no session with this label.

    `close` is what is right, `library` what exchange_calendars 4.13.2 says, both on the exchange's wall clock.
    """

    label: date
    name: str
    close: time | None
    library: time | None
    grade: Grade
    source: str

    @property
    def corrects(self) -> bool:
        """Whether the row says something else than the library does."""
        return self.close != self.library


def _agreed(label: str, name: str, close: time | None) -> SpecialDay:
    return SpecialDay(
        date.fromisoformat(label),
        name,
        close,
        close,
        "both libraries",
        "exchange_calendars 4.13.2 and pandas_market_calendars 5.5.0",
    )


def _row(
    label: str, name: str, close: time | None, library: time | None, grade: Grade, source: str
) -> SpecialDay:
    return SpecialDay(date.fromisoformat(label), name, close, library, grade, source)


_JUNETEENTH = "12:00 in exchange_calendars after 4.13.2 and in pandas_market_calendars"
_JUNETEENTH_2027 = f"{_JUNETEENTH}; the exchange's 2027 schedule was not seen"
_QUARTER_2026 = "CME's published 2026 Globex schedule, as third parties quote it"
_QUARTER_2025 = "pandas_market_calendars (CME Globex Equity); the rule of 2026, when NYSE closes at 13:00 ET"
_QUARTER_2027 = "the rule of 2025 and 2026: 12:15 when NYSE closes at 13:00 ET"
_NO_PAYROLLS = (
    "exchange_calendars; pandas_market_calendars says 08:15, "
    "which CME applies only in years when payrolls are published on the day"
)

CME_EQUITY_INDEX: tuple[SpecialDay, ...] = (
    _row("2025-06-19", "Juneteenth", NOON, ORDINARY, "one library", _JUNETEENTH),
    _row("2025-07-03", "day before Independence Day", QUARTER_PAST, ORDINARY, "one library", _QUARTER_2025),
    _agreed("2025-07-04", "Independence Day", NOON),
    _agreed("2025-09-01", "Labor Day", NOON),
    _agreed("2025-11-27", "Thanksgiving", NOON),
    _row("2025-11-28", "day after Thanksgiving", QUARTER_PAST, NOON, "one library", _QUARTER_2025),
    _row("2025-12-24", "Christmas Eve", QUARTER_PAST, NOON, "one library", _QUARTER_2025),
    _agreed("2025-12-25", "Christmas", None),
    _agreed("2026-01-01", "New Year's Day", None),
    _agreed("2026-01-19", "Martin Luther King Jr. Day", NOON),
    _agreed("2026-02-16", "Washington's Birthday", NOON),
    _row(
        "2026-04-03",
        "Good Friday",
        time(8, 15),
        None,
        "one library",
        "pandas_market_calendars; CME's rule for a Good Friday on which payrolls are published",
    ),
    _agreed("2026-05-25", "Memorial Day", NOON),
    _row("2026-06-19", "Juneteenth", NOON, ORDINARY, "one library", _JUNETEENTH),
    _agreed("2026-07-03", "Independence Day observed", NOON),
    _agreed("2026-09-07", "Labor Day", NOON),
    _agreed("2026-11-26", "Thanksgiving", NOON),
    _row("2026-11-27", "day after Thanksgiving", QUARTER_PAST, NOON, "third parties", _QUARTER_2026),
    _row("2026-12-24", "Christmas Eve", QUARTER_PAST, NOON, "third parties", _QUARTER_2026),
    _agreed("2026-12-25", "Christmas", None),
    _agreed("2027-01-01", "New Year's Day", None),
    _agreed("2027-01-18", "Martin Luther King Jr. Day", NOON),
    _agreed("2027-02-15", "Washington's Birthday", NOON),
    _row("2027-03-26", "Good Friday", None, None, "derived", _NO_PAYROLLS),
    _agreed("2027-05-31", "Memorial Day", NOON),
    _row("2027-06-18", "Juneteenth observed", NOON, ORDINARY, "derived", _JUNETEENTH_2027),
    _agreed("2027-07-05", "Independence Day observed", NOON),
    _agreed("2027-09-06", "Labor Day", NOON),
    _agreed("2027-11-25", "Thanksgiving", NOON),
    _row("2027-11-26", "day after Thanksgiving", QUARTER_PAST, NOON, "derived", _QUARTER_2027),
    _agreed("2027-12-24", "Christmas observed", None),
)

US_EQUITIES: tuple[SpecialDay, ...] = (
    _agreed("2025-06-19", "Juneteenth", None),
    _agreed("2025-07-03", "day before Independence Day", ONE),
    _agreed("2025-07-04", "Independence Day", None),
    _agreed("2025-09-01", "Labor Day", None),
    _agreed("2025-11-27", "Thanksgiving", None),
    _agreed("2025-11-28", "day after Thanksgiving", ONE),
    _agreed("2025-12-24", "Christmas Eve", ONE),
    _agreed("2025-12-25", "Christmas", None),
    _agreed("2026-01-01", "New Year's Day", None),
    _agreed("2026-01-19", "Martin Luther King Jr. Day", None),
    _agreed("2026-02-16", "Washington's Birthday", None),
    _agreed("2026-04-03", "Good Friday", None),
    _agreed("2026-05-25", "Memorial Day", None),
    _agreed("2026-06-19", "Juneteenth", None),
    _agreed("2026-07-03", "Independence Day observed", None),
    _agreed("2026-09-07", "Labor Day", None),
    _agreed("2026-11-26", "Thanksgiving", None),
    _agreed("2026-11-27", "day after Thanksgiving", ONE),
    _agreed("2026-12-24", "Christmas Eve", ONE),
    _agreed("2026-12-25", "Christmas", None),
    _agreed("2027-01-01", "New Year's Day", None),
    _agreed("2027-01-18", "Martin Luther King Jr. Day", None),
    _agreed("2027-02-15", "Washington's Birthday", None),
    _agreed("2027-03-26", "Good Friday", None),
    _agreed("2027-05-31", "Memorial Day", None),
    _agreed("2027-06-18", "Juneteenth observed", None),
    _agreed("2027-07-05", "Independence Day observed", None),
    _agreed("2027-09-06", "Labor Day", None),
    _agreed("2027-11-25", "Thanksgiving", None),
    _agreed("2027-11-26", "day after Thanksgiving", ONE),
    _agreed("2027-12-24", "Christmas observed", None),
)
