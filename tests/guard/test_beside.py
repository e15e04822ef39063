"""What several holds of one connection count for it together: once, through every change of a period."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.clock import ManualClock
from budget_guard.guard.connection import LiveHold
from budget_guard.guard.guard import Guard
from budget_guard.guard.request import Request, whole_stream
from budget_guard.ledger.audit import audit
from budget_guard.ledger.store import open_ledger
from budget_guard.policy.model import Stream
from tests.guard.samples import ALLOWANCE, KNOWN, Desk, OneWindow, budget, limit, policy

# Two days before midnight and a week's end are near.
START = datetime(2026, 11, 21, 23, 0, tzinfo=UTC)
SCHEMAS = ("mbo", "trades", "mbp-10")
STREAMS = tuple(Stream(name, "GLBX.MDP3", name, ("NQ.v.0",), "continuous") for name in SCHEMAS)
RULES = policy(
    budget("all", limit("month", "usd", 900), limit("day", "connections", 9), limit("day", "hours", 30)),
    budget("weekly", limit("week", "connections", 9)),
    streams=STREAMS,
)
REQUESTS = {stream.schema: whole_stream(stream) for stream in STREAMS}


def opened(guard: Guard, request: Request, holds: dict[str, LiveHold]) -> LiveHold:
    """A part of the connection, new or going on in the next period."""
    before = holds.get(request.schema)
    beside = [hold for schema, hold in holds.items() if schema != request.schema]
    admission = guard.open_live(
        request, connection_id="c1", allowance_bytes=ALLOWANCE, continues=before, beside=beside
    )
    admission.hold.activate()
    holds[request.schema] = admission.hold
    if before is not None:
        before.finish("goes on", clean=True)
    return admission.hold


steps = st.lists(
    st.one_of(
        st.integers(1, 600).map(lambda minutes: ("wait", minutes)),
        st.sampled_from(SCHEMAS).map(lambda schema: ("open", schema)),
    ),
    min_size=2,
    max_size=14,
)


@given(steps, st.permutations(SCHEMAS))
@settings(max_examples=40, deadline=None)
def test_a_connection_and_its_hours_count_once_in_each_period(
    steps: list[tuple[str, object]], order: list[str]
) -> None:
    with TemporaryDirectory() as folder:
        ledger = open_ledger(f"sqlite:///{folder}/ledger.sqlite")
        clock = ManualClock(START)
        guard = Desk(ledger, Path(folder) / "meters", clock, lambda _: OneWindow(window=KNOWN)).guard(RULES)
        holds: dict[str, LiveHold] = {}
        opened(guard, REQUESTS["mbo"], holds)
        days = {clock.now().date()}
        for what, which in steps:
            if what == "wait":
                assert isinstance(which, int)
                clock.advance(which * 60)
                days.add(clock.now().date())
                for schema in order:  # as the watch looks at them, one after the other
                    if schema in holds and clock.now() >= holds[schema].period_end_utc:
                        opened(guard, REQUESTS[schema], holds)
            elif which not in holds:
                opened(guard, REQUESTS[str(which)], holds)
        for hold in holds.values():
            hold.finish("done", clean=True)
        balances = ledger.account_balances("desk", START - timedelta(days=40), START + timedelta(days=40))
        counts = {
            key.period_start_utc.date(): balance.settled
            for key, balance in balances.items()
            if (key.unit, key.period) == ("connections", "day")
        }
        assert set(counts.values()) == {1} and set(counts) <= days
        assert clock.now().date() in counts
        weeks = [
            balance.settled
            for key, balance in balances.items()
            if (key.unit, key.period) == ("connections", "week")
        ]
        assert set(weeks) == {1}
        elapsed_ms = (clock.now() - START) // timedelta(milliseconds=1)
        hours = sum(balance.settled for key, balance in balances.items() if key.unit == "hours")
        assert hours == elapsed_ms
        assert audit(ledger).findings == ()
        ledger.close()
