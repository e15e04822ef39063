"""pandas-market-calendars as a second opinion: where it disagrees with our sessions, the reason is written down."""

from __future__ import annotations

import warnings
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from budget_guard.markets.sessions import sessions
from budget_guard.policy.model import SessionKind

FIRST, LAST = date(2026, 11, 22), date(2027, 12, 31)

GOOD_FRIDAY = "it closes at 08:15 every Good Friday; CME did so only when payrolls were published on the day"
NOON = (
    "CME_Equity has 12:00 where CME's schedule for equity-index products has 12:15 (CME Globex Equity agrees)"
)

# (calendar, label) -> (ours, theirs, why ours), on the exchange's wall clock.
DISAGREEMENTS: dict[tuple[str, str], tuple[str | None, str | None, str]] = {
    ("CME_Equity", "2026-11-27"): ("12:15", "12:00", NOON),
    ("CME_Equity", "2026-12-24"): ("12:15", "12:00", NOON),
    ("CME_Equity", "2027-11-26"): ("12:15", "12:00", NOON),
    ("CME_Equity", "2027-03-26"): (None, "08:15", GOOD_FRIDAY),
    ("CME Globex Equity", "2027-03-26"): (None, "08:15", GOOD_FRIDAY),
}


@pytest.mark.parametrize(
    ("calendar", "market", "kind"),
    [
        ("CME_Equity", "cme-equity-index", "full"),
        ("CME Globex Equity", "cme-equity-index", "full"),
        ("NYSE", "us-equities", "regular"),
    ],
)
def test_every_disagreement_with_the_other_library_is_explained(
    calendar: str, market: str, kind: SessionKind
) -> None:
    """Neither an unexplained difference nor an explanation that has become idle is left."""
    theirs, zone = _their_closes(calendar)
    ours = {
        str(session.label): f"{session.close_utc.astimezone(zone):%H:%M}"
        for session in sessions(market, kind, FIRST, LAST)
    }
    found = {
        (calendar, label): (ours.get(label), theirs.get(label))
        for label in {*ours, *theirs}
        if ours.get(label) != theirs.get(label)
    }
    explained = {key: row[:2] for key, row in DISAGREEMENTS.items() if key[0] == calendar}
    assert found == explained


def _their_closes(calendar: str) -> tuple[dict[str, str], ZoneInfo]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import pandas_market_calendars

        theirs = pandas_market_calendars.get_calendar(calendar)
        schedule = theirs.schedule(FIRST.isoformat(), LAST.isoformat())
    zone = ZoneInfo(str(theirs.tz))
    closes: dict[str, str] = {}
    for label, close in schedule["market_close"].items():
        instant: datetime = close.to_pydatetime().astimezone(UTC)
        closes[str(label.date())] = f"{instant.astimezone(zone):%H:%M}"
    return closes, zone
