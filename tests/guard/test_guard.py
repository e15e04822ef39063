"""Where a request meets policy, calendar, prices and ledger: each thing that is missing refuses with its own code."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from threading import Barrier

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from budget_guard.errors import Refused
from budget_guard.guard.guard import Guard
from budget_guard.guard.request import Request
from budget_guard.ledger import sqlite
from budget_guard.ledger.model import Balance, BalanceKey, Ledger
from budget_guard.ledger.store import SqlLedger, open_ledger
from budget_guard.markets.model import Interval
from budget_guard.money import GIB
from budget_guard.policy.model import Match, Stream
from budget_guard.pricing.model import DataRange, UnitPrice
from tests.guard.samples import (
    ALLOWANCE,
    HISTORY,
    KNOWN,
    LIVE,
    MONTH_START,
    NOW,
    OPEN,
    STREAM,
    Desk,
    OneWindow,
    PriceTable,
    always,
    budget,
    data_range,
    limit,
    not_bought_live,
    only_symbols,
    policy,
)

USD = BalanceKey("desk", "account", "month", MONTH_START, "usd")
HOUR = timedelta(hours=1)
LATER = Interval(NOW + HOUR, NOW + 2 * HOUR)


def refused_live(guard: Guard, request: Request = LIVE, only: str | None = None) -> Refused:
    with pytest.raises(Refused) as refused:
        guard.open_live(request, connection_id="c1", allowance_bytes=ALLOWANCE, only=only)
    return refused.value


def not_covered(desk: Desk) -> Guard:
    return desk.guard(policy(streams=(replace(STREAM, schema="mbp-10"),)))


def no_budget(desk: Desk) -> Guard:
    history_only = budget("account", limit("month", "usd", 200), match=Match(mode=frozenset({"historical"})))
    return desk.guard(policy(history_only))


def window_closed(desk: Desk) -> Guard:
    desk.windows = lambda _: OneWindow(window=LATER)
    return desk.guard()


def calendar_unknown(desk: Desk) -> Guard:
    desk.windows = lambda _: OneWindow(known=Interval(NOW - 2 * HOUR, NOW - HOUR))
    return desk.guard()


def session_unknown(desk: Desk) -> Guard:
    """The window is known, and the session that a limit needs is not."""

    class NoSessions(OneWindow):
        def session_interval(self, at: datetime) -> Interval:
            return OneWindow(known=Interval(NOW - 2 * HOUR, NOW - HOUR)).session_interval(at)

    desk.windows = lambda _: NoSessions()
    return desk.guard(policy(budget("account", limit("session", "usd", 8))))


def price_unknown(desk: Desk) -> Guard:
    desk.prices = PriceTable({"historical": Decimal("1.80")})
    return desk.guard()


def not_entitled(desk: Desk) -> Guard:
    return desk.guard(policy(account=not_bought_live()))


def limit_reached(desk: Desk) -> Guard:
    return desk.guard(policy(budget("account", limit("month", "usd", "0.001"))))


def frozen(desk: Desk) -> Guard:
    guard = desk.guard(policy(budget("account", limit("month", "usd", "0.1"))))
    hold = guard.open_live(LIVE, connection_id="c0", allowance_bytes=ALLOWANCE).hold
    hold.activate()
    hold.count(GIB, 0, 1)
    hold.finish("an overrun", clean=True)
    return guard


REFUSALS: list[tuple[Callable[[Desk], Guard], str]] = [
    (not_covered, "not_covered"),
    (no_budget, "not_covered"),
    (not_entitled, "not_entitled"),
    (window_closed, "window_closed"),
    (calendar_unknown, "calendar_unknown"),
    (session_unknown, "calendar_unknown"),
    (price_unknown, "price_unknown"),
    (limit_reached, "limit_reached"),
    (frozen, "frozen"),
]


@pytest.mark.parametrize(("make", "code"), REFUSALS, ids=[make.__name__ for make, _ in REFUSALS])
def test_what_is_missing_refuses_with_its_own_code_is_recorded_and_changes_nothing(
    desk: Desk, make: Callable[[Desk], Guard], code: str
) -> None:
    guard = make(desk)
    before = desk.ledger.account_balances("desk", MONTH_START, NOW)
    decision = refused_live(guard).decision
    assert decision.code == code
    assert desk.ledger.account_balances("desk", MONTH_START, NOW) == before
    assert desk.ledger.open_holds() == []
    assert not desk.meter_dir.exists() or list(desk.meter_dir.iterdir()) == []
    (recorded,) = desk.ledger.refusals("desk", "2026-11")
    assert (recorded.code, recorded.mode, recorded.dataset, recorded.schema) == (
        code,
        "live",
        "GLBX.MDP3",
        "mbo",
    )
    assert json.loads(recorded.decision) == decision.as_json()
    # Where the stream is known, the review can tell it.
    assert recorded.stream == (None if make is not_covered else "nq-mbo")


@pytest.mark.parametrize(("make", "code"), REFUSALS, ids=[make.__name__ for make, _ in REFUSALS])
def test_asking_first_gives_the_same_answer_and_leaves_no_trace(
    desk: Desk, make: Callable[[Desk], Guard], code: str
) -> None:
    guard = make(desk)
    decision = guard.decide_live(LIVE, allowance_bytes=ALLOWANCE)
    assert desk.ledger.refusals("desk", "2026-11") == []
    assert decision == refused_live(guard).decision


def test_a_closed_window_says_when_to_try_again(desk: Desk) -> None:
    decision = refused_live(window_closed(desk)).decision
    assert decision.reasons[0].retry_at_utc == LATER.start_utc
    assert "it opens next at 2026-11-23T16:00:00Z" in decision.text()


def test_a_closed_window_without_a_known_opening_says_so(desk: Desk) -> None:
    desk.windows = lambda _: OneWindow(window=Interval(NOW - 2 * HOUR, NOW - HOUR))
    decision = refused_live(desk.guard()).decision
    assert decision.code == "window_closed"
    assert decision.reasons[0].retry_at_utc is None
    assert "no opening is known" in decision.text()


def test_a_window_opens_with_its_first_instant_and_has_closed_at_its_end(desk: Desk) -> None:
    guard = desk.guard()
    desk.clock.advance((OPEN.end_utc - NOW).total_seconds() - 0.001)
    assert guard.decide_live(LIVE, allowance_bytes=ALLOWANCE).allowed
    desk.clock.advance(0.001)
    assert guard.decide_live(LIVE, allowance_bytes=ALLOWANCE).code == "window_closed"


def test_an_approval_names_the_stream_the_window_and_the_hold(desk: Desk) -> None:
    approval = desk.guard().open_live(only_symbols("NQ.v.0"), connection_id="c1", allowance_bytes=ALLOWANCE)
    assert (approval.stream, approval.window) == (STREAM, OPEN)
    assert approval.hold.terms.connection_id == "c1"
    assert approval.hold.terms.price_source == "the account's list"
    approval.hold.release()


def test_one_full_budget_is_enough_to_refuse(desk: Desk) -> None:
    small = budget("small", limit("month", "gib", "0.0001"))
    decision = refused_live(desk.guard(policy(budget("account", limit("month", "usd", 200)), small))).decision
    assert [reason.budget for reason in decision.reasons] == ["small"]


def test_a_budget_that_does_not_match_has_no_say(desk: Desk) -> None:
    other = budget("other", limit("month", "usd", 0), match=Match(dataset=frozenset({"XNAS.ITCH"})))
    guard = desk.guard(policy(budget("account", limit("month", "usd", 200)), other))
    assert guard.decide_live(LIVE, allowance_bytes=ALLOWANCE).allowed


def test_a_request_bound_to_a_stream_is_refused_for_any_other(desk: Desk) -> None:
    other = replace(STREAM, name="other", schema="mbp-10")
    guard = desk.guard(policy(streams=(STREAM, other)))
    assert refused_live(guard, only="other").decision.code == "not_covered"


# --- several streams for the same data ------------------------------------------------------------------------


def two_shifts(desk: Desk, morning: OneWindow, evening: OneWindow) -> Guard:
    shifts = {"morning": morning, "evening": evening}
    desk.windows = lambda stream: shifts[stream.name]
    streams = tuple(replace(STREAM, name=name) for name in shifts)
    return desk.guard(policy(streams=streams))


def test_of_two_streams_for_the_same_data_the_one_that_is_open_serves(desk: Desk) -> None:
    guard = two_shifts(desk, OneWindow(window=LATER), OneWindow())
    approval = guard.open_live(LIVE, connection_id="c1", allowance_bytes=ALLOWANCE)
    assert approval.stream.name == "evening"
    approval.hold.release()


def test_of_two_closed_streams_the_one_that_opens_first_says_when(desk: Desk) -> None:
    soon = Interval(NOW + timedelta(minutes=5), NOW + HOUR)
    decision = refused_live(two_shifts(desk, OneWindow(window=LATER), OneWindow(window=soon))).decision
    assert decision.reasons[0].retry_at_utc == soon.start_utc
    assert "stream evening" in decision.text()


def test_a_dataset_may_start_when_any_of_its_streams_may(desk: Desk) -> None:
    guard = two_shifts(desk, OneWindow(window=LATER), OneWindow())
    assert guard.decide_dataset("GLBX.MDP3", allowance_bytes=ALLOWANCE).allowed
    bound = guard.decide_dataset("GLBX.MDP3", allowance_bytes=ALLOWANCE, only="morning")
    assert bound.code == "window_closed"
    unknown = guard.decide_dataset("XNAS.ITCH", allowance_bytes=ALLOWANCE)
    assert unknown.code == "not_covered"
    assert "it has GLBX.MDP3" in unknown.text()


# --- a ledger that cannot be reached --------------------------------------------------------------------------


def assert_unavailable(desk: Desk, caplog: pytest.LogCaptureFixture, said: str) -> None:
    guard = desk.guard()
    decision = refused_live(guard).decision
    assert decision.code == "ledger_unavailable"
    assert said in decision.text()
    assert "a refusal could not be recorded" in caplog.text


def test_a_closed_ledger_refuses(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.ledger.close()
    assert_unavailable(desk, caplog, "has been closed")
    assert desk.guard().decide_live(LIVE, allowance_bytes=ALLOWANCE).code == "ledger_unavailable"


def test_a_ledger_that_cannot_be_written_refuses(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    ledger = desk.ledger
    assert isinstance(ledger, SqlLedger)
    engine = ledger._backend.engine
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA query_only=ON"))
    engine.dispose()
    assert_unavailable(desk, caplog, "cannot be written")


def test_a_ledger_that_another_program_keeps_locked_refuses(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import sqlite3

    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.05)
    ledger = open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    blocker = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    try:
        assert_unavailable(replace(desk, ledger=ledger), caplog, "locked by another process")
    finally:
        blocker.execute("ROLLBACK")
        blocker.close()
        ledger.close()


def test_a_ledger_that_is_none_any_more_refuses(
    desk: Desk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = desk.ledger
    assert isinstance(ledger, SqlLedger)
    ledger._backend.engine.dispose()
    for path in tmp_path.glob("ledger.sqlite*"):
        path.write_bytes(b"not a database" * 100)
    assert_unavailable(desk, caplog, "is not a ledger")


# --- asking and opening agree ---------------------------------------------------------------------------------


@given(
    settled=st.integers(0, 2_000_000),
    amount=st.none() | st.integers(0, 4_000_000),
    gib=st.none() | st.integers(0, 2 * 2**20),
    free=st.booleans(),
    minutes=st.integers(-90, 330),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_asking_first_always_agrees_with_opening(
    tmp_path_factory: pytest.TempPathFactory,
    settled: int,
    amount: int | None,
    gib: int | None,
    free: bool,
    minutes: int,
) -> None:
    folder = tmp_path_factory.mktemp("desk")
    ledger = open_ledger(f"sqlite:///{folder}/ledger.sqlite")
    try:
        desk = Desk(ledger, folder / "meters")
        written = None if amount is None else str(Decimal(amount) / 10**9)
        sized = None if gib is None else str(Decimal(gib) / GIB)
        guarded = policy(budget("account", limit("month", "usd", written), limit("month", "gib", sized)))
        spent = desk.guard(policy(budget("account", limit("month", "usd", None))))
        first = spent.open_live(LIVE, connection_id="c0", allowance_bytes=0).hold
        first.activate()
        first.count(settled, 0, 1)
        first.finish("spent before", clean=True)
        desk.clock.advance(minutes * 60)
        desk.prices = PriceTable({"live": Decimal(0)}) if free else desk.prices
        guard = desk.guard(guarded)
        asked = guard.decide_live(LIVE, allowance_bytes=ALLOWANCE)
        before = ledger.account_balances("desk", MONTH_START, NOW)
        if asked.allowed:
            guard.open_live(LIVE, connection_id="c1", allowance_bytes=ALLOWANCE).hold.release()
        else:
            assert refused_live(guard).decision == asked
            assert ledger.account_balances("desk", MONTH_START, NOW) == before
    finally:
        ledger.close()


# --- threads --------------------------------------------------------------------------------------------------


def test_windows_are_compiled_once_however_many_threads_ask(desk: Desk) -> None:
    made: list[str] = []

    def make(stream: Stream) -> OneWindow:
        made.append(stream.name)
        return always(stream)

    desk.windows = make
    guard = desk.guard()
    together = Barrier(8)

    def ask() -> bool:
        together.wait()
        return guard.decide_live(LIVE, allowance_bytes=ALLOWANCE).allowed

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(ask) for _ in range(8)]
        assert all(answer.result() for answer in answers)
    assert made == ["nq-mbo"]


def test_connections_that_race_for_the_last_money_never_hold_more_than_the_limit(desk: Desk) -> None:
    small = policy(budget("account", limit("month", "usd", "0.012")))
    guard = desk.guard(small)
    together = Barrier(8)

    def attempt(number: int) -> bool:
        together.wait()
        try:
            guard.open_live(LIVE, connection_id=f"c{number}", allowance_bytes=ALLOWANCE)
        except Refused:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(attempt, range(8)))
    held = desk.ledger.balances([USD])[USD]
    assert 1 <= sum(opened) < 8
    assert held.held <= 12_000_000
    assert len(desk.ledger.open_holds()) == sum(opened)


# --- what else is written -------------------------------------------------------------------------------------


def test_a_request_that_no_stream_covers_is_recorded_when_it_is_looked_up(desk: Desk) -> None:
    guard = desk.guard()
    assert guard.covering(LIVE) == STREAM
    with pytest.raises(Refused):
        guard.covering(only_symbols("CL.v.0"))
    assert [row.code for row in desk.ledger.refusals("desk", "2026-11")] == ["not_covered"]


def test_a_gap_is_kept_and_can_be_mended(desk: Desk) -> None:
    guard = desk.guard()
    guard.record_gap("g1", STREAM, NOW, NOW + HOUR, mended="", note="reset")
    guard.record_gap("g1", STREAM, NOW, NOW + HOUR, mended="replayed", note="reset")
    (gap,) = desk.ledger.gaps("desk", "2026-11")
    assert (gap.stream, gap.start_utc, gap.end_utc, gap.mended) == ("nq-mbo", NOW, NOW + HOUR, "replayed")


def test_a_gap_that_cannot_be_kept_is_said_and_stops_nothing(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.ledger.close()
    desk.guard().record_gap("g1", STREAM, NOW, NOW + HOUR, mended="", note="reset")
    assert "a gap could not be recorded" in caplog.text


def test_the_state_of_a_window_is_the_open_one_and_the_next_opening(desk: Desk) -> None:
    guard = desk.guard()
    assert guard.window_state(STREAM, NOW) == (OPEN, None)
    assert guard.window_state(STREAM, OPEN.start_utc - HOUR) == (None, OPEN.start_utc)


def test_a_session_limit_counts_against_the_session_that_the_calendar_names(desk: Desk) -> None:
    guard = desk.guard(policy(budget("account", limit("session", "usd", 8))))
    (one,) = guard.live_limits(STREAM, NOW)
    session = OneWindow().session
    assert (one.key.period_start_utc, one.period_end_utc) == (session.start_utc, session.end_utc)
    assert session.start_utc in KNOWN


def test_history_needs_no_window(desk: Desk) -> None:
    guard = window_closed(desk)
    assert guard.covering(HISTORY) == STREAM
    assert guard.historical_price(HISTORY).usd_per_gib == Decimal("1.80")


def test_an_unknown_historical_price_refuses_and_is_recorded(desk: Desk) -> None:
    desk.prices = PriceTable({"live": Decimal("2.16")})
    with pytest.raises(Refused) as refused:
        desk.guard().historical_price(HISTORY)
    assert refused.value.decision.code == "price_unknown"
    assert "account.prices.GLBX.MDP3.historical.mbo" in refused.value.decision.text()
    assert [row.code for row in desk.ledger.refusals("desk", "2026-11")] == ["price_unknown"]


def test_a_range_has_the_price_that_holds_for_all_of_it(desk: Desk) -> None:
    """What a plan includes depends on how far back the range reaches, so the range is asked for, not the schema."""

    class Dated(PriceTable):
        def price_whole(self, data_range: DataRange, at: datetime) -> UnitPrice | None:
            assert at == NOW
            return UnitPrice(Decimal(0), "plan", "included") if data_range.schema == "mbo" else None

    desk.prices = Dated()
    guard = desk.guard()
    assert guard.historical_price(HISTORY, data_range()).kind == "plan"
    assert guard.historical_price(HISTORY).usd_per_gib == Decimal("1.80")
    with pytest.raises(Refused) as refused:
        guard.historical_price(HISTORY, data_range("trades"))
    assert refused.value.decision.code == "price_unknown"


def test_a_fresh_month_has_fresh_balances(desk: Desk) -> None:
    desk.windows = always
    guard = desk.guard(policy(budget("account", limit("month", "usd", "0.02"))))
    hold = guard.open_live(LIVE, connection_id="c1", allowance_bytes=ALLOWANCE).hold
    hold.activate()
    hold.count(9 * 2**20, 0, 1)
    hold.finish("spent", clean=True)
    decision = refused_live(guard).decision
    retry = decision.reasons[0].retry_at_utc
    assert retry is not None
    desk.clock.advance((retry - NOW).total_seconds())
    guard.open_live(LIVE, connection_id="c2", allowance_bytes=ALLOWANCE).hold.release()


def test_two_policies_of_one_account_share_a_balance(desk: Desk, ledger: Ledger) -> None:
    first, second = desk.guard(), desk.guard(policy(streams=(replace(STREAM, name="other"),)))
    hold = first.open_live(LIVE, connection_id="c1", allowance_bytes=ALLOWANCE).hold
    again = second.open_live(LIVE, connection_id="c2", allowance_bytes=ALLOWANCE).hold
    both = ledger.balances([USD])[USD]
    hold.release()
    assert ledger.balances([USD])[USD] == Balance(0, both.held // 2)
    again.release()
