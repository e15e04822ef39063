"""What a day that is not ordinary looks like in the table, and how much its row is worth.

The rows themselves are in `days_us.py`, `days_cme.py` and `days_europe.py`. Times are the exchange's wall clock. A row
is combined with the library's answer in `sessions.py`: where the library still gives the answer noted in `library`, the
row decides; where it has come to say something else, the earlier close.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, time
from typing import Literal

# How much a figure is worth, best first:
# exchange       the exchange's own page or notice
# vendor         Databento's own page
# third parties  the exchange's published schedule, as others quote it
# both libraries exchange_calendars 4.13.2 and pandas_market_calendars 5.5.0 agree
# one library    only one of them knows
# derived        from the rule that held in other years
# earlier        sources of this very market disagree and nothing decides: the earliest close that any of them gives
Grade = Literal["exchange", "vendor", "third parties", "both libraries", "one library", "derived", "earlier"]

BOTH = "exchange_calendars 4.13.2 and pandas_market_calendars 5.5.0"


@dataclass(frozen=True, slots=True)
class SpecialDay:
    """One weekday; a close of None means that there is no session with this label.

    `close` is what is right, `library` what exchange_calendars 4.13.2 says, both on the exchange's wall clock. `opens`
    is a late opening on the label's own date.
    """

    label: date
    name: str
    close: time | None
    library: time | None
    grade: Grade
    source: str
    opens: time | None = None

    @property
    def corrects(self) -> bool:
        """Whether the row says something else than the library does."""
        return self.close != self.library or self.opens is not None


def agreed(labels: str, close: time | None) -> Iterator[SpecialDay]:
    """The rows of days on which both libraries say the same; labels are separated by spaces."""
    return rows(labels, close, close, "both libraries", BOTH)


def rows(
    labels: str,
    close: time | None,
    library: time | None,
    grade: Grade,
    source: str,
    *,
    opens: time | None = None,
) -> Iterator[SpecialDay]:
    """One row for each label, all alike."""
    for text in labels.split():
        label = date.fromisoformat(text)
        yield SpecialDay(label, _NAMES[label], close, library, grade, source, opens)


def in_order(*parts: Iterator[SpecialDay]) -> tuple[SpecialDay, ...]:
    """The rows of one market, by label. Raises ValueError for a label that has two."""
    found = sorted((row for part in parts for row in part), key=lambda row: row.label)
    if len({row.label for row in found}) != len(found):
        raise ValueError("a label has two rows")
    return tuple(found)


_NAMES = {
    date.fromisoformat(line[:10]): line[11:]
    for line in """
2025-06-19 Juneteenth
2025-07-03 day before Independence Day
2025-07-04 Independence Day
2025-09-01 Labor Day
2025-11-27 Thanksgiving
2025-11-28 day after Thanksgiving
2025-12-24 Christmas Eve
2025-12-25 Christmas
2026-01-01 New Year's Day
2026-01-19 Martin Luther King Jr. Day
2026-02-16 Washington's Birthday
2026-04-03 Good Friday
2026-04-06 Easter Monday
2026-05-01 Labour Day
2026-05-25 Memorial Day
2026-06-19 Juneteenth
2026-07-03 Independence Day observed
2026-09-07 Labor Day
2026-11-26 Thanksgiving
2026-11-27 day after Thanksgiving
2026-12-24 Christmas Eve
2026-12-25 Christmas
2026-12-28 Monday after Christmas
2026-12-31 New Year's Eve
2027-01-01 New Year's Day
2027-01-18 Martin Luther King Jr. Day
2027-02-15 Washington's Birthday
2027-03-26 Good Friday
2027-03-29 Easter Monday
2027-05-31 Memorial Day
2027-06-18 Juneteenth observed
2027-07-05 Independence Day observed
2027-09-06 Labor Day
2027-11-25 Thanksgiving
2027-11-26 day after Thanksgiving
2027-12-24 Christmas observed
2027-12-27 Monday after Christmas
2027-12-28 Tuesday after Christmas
2027-12-31 New Year's Eve
""".strip().splitlines()
}
