"""Running connections whose ledger goes away, comes back, answers late, or whose clock is set."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from databento import BentoError

from budget_guard.clock import ManualClock, uptime_ns
from budget_guard.gateway.live import funds
from budget_guard.gateway.live.upstream import Upstream
from budget_guard.guard.connection import LiveHold
from budget_guard.ledger.opening import open_for_use
from budget_guard.ledger.store import SqlLedger
from budget_guard.policy.model import LiveBilling, Policy
from tests.gateway.desk import (
    GLBX,
    NOW,
    TIMEOUT_S,
    Collector,
    Desk,
    budget,
    eventually,
    limit,
    policy,
    running_desk,
)
from tests.gateway.fake_gateway import NOW_NS, FakeGateway, Session, desk_before, meters_left, orders

RATE = 2_000


def free(*limits: Any) -> Policy:
    """A policy under whose plan live data costs nothing."""
    return policy(
        budgets=[budget(*(limits or (limit("1"),)))], billing={GLBX: LiveBilling("flat", "standard")}
    )


class Away:
    """The ledger's file is somewhere else for a while: nothing that needs it works."""

    def __init__(self, desk: Desk) -> None:
        self._path = Path(desk.settings.ledger_url.removeprefix("sqlite:///"))

    def go(self) -> None:
        self._path.rename(self._path.with_suffix(".away"))

    def come_back(self) -> None:
        self._path.with_suffix(".away").rename(self._path)


def settled_bytes(desk: Desk) -> int:
    found = desk.books.account_balances("desk", NOW - timedelta(days=60), NOW + timedelta(days=60))
    return sum(balance.settled for key, balance in found.items() if key.unit == "gib")


def said(caplog: pytest.LogCaptureFixture, text: str) -> int:
    return sum(text in record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING)


# --- an outage ----------------------------------------------------------------------------------------------


def test_a_metered_stream_does_not_begin_without_a_ledger(tmp_path: Path) -> None:
    with running_desk(tmp_path, rate=RATE) as desk:
        away = Away(desk)
        away.go()
        client, _ = desk.streaming()
        with pytest.raises(BentoError, match=r"ledger_unavailable.*is gone"):
            client.block_for_close(TIMEOUT_S)
        assert desk.sandbox.bill()["bytes"] == 0
        away.come_back()


def test_ten_minutes_without_a_ledger_are_said_once_and_tried_ever_less_often(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[float] = []
    renew = LiveHold.renew

    def counted(hold: LiveHold) -> bool:
        tries.append(desk.clock.monotonic_s())
        return renew(hold)

    with running_desk(tmp_path, free(), rate=100) as desk:
        client, got = desk.streaming()
        desk.begin(got)
        away = Away(desk)
        away.go()
        monkeypatch.setattr(LiveHold, "renew", counted)
        for _ in range(300):
            desk.flow(got, 2)
        assert 5 <= len(tries) <= 30
        pauses = [later - earlier for earlier, later in pairwise(tries)]
        assert max(pauses) <= funds.AWAY_PAUSE_MAX_S + 20  # time moves on in steps here
        assert said(caplog, "the ledger cannot be reached") == 1
        away.come_back()
        for _ in range(40):
            desk.flow(got, 1)
            if said(caplog, "the ledger is back"):
                break
        assert said(caplog, "the ledger is back") == 1
        client.stop()
        client.block_for_close(TIMEOUT_S)


def test_what_flowed_without_a_ledger_is_booked_when_it_is_back(tmp_path: Path) -> None:
    with running_desk(tmp_path, free(limit("1"), limit("1", unit="gib")), rate=RATE) as desk:
        client, got = desk.streaming()
        desk.begin(got)
        away = Away(desk)
        away.go()
        for _ in range(60):  # 7 MB, and a lease holds four
            desk.flow(got, 1)
        away.come_back()
        flowed = desk.sandbox.bill()["bytes"]
        for _ in range(40):
            desk.flow(got, 1)
            if settled_bytes(desk) >= flowed:
                break
        assert settled_bytes(desk) >= flowed
        client.stop()
        client.block_for_close(TIMEOUT_S)
        desk.close()
        assert sum(entry.size_bytes for entry in desk.entries()) == desk.sandbox.bill()["bytes"]


@pytest.mark.parametrize("rules", [free(), policy()], ids=["free", "metered"])
def test_a_connection_that_ends_without_its_ledger_is_booked_exactly_by_the_next_start(
    tmp_path: Path, rules: Policy
) -> None:
    """The meter remembers how it ended."""
    with running_desk(tmp_path, rules, rate=RATE) as desk:
        client, got = desk.streaming()
        desk.begin(got)
        away = Away(desk)
        away.go()
        desk.flow(got, 1)
        client.stop()
        client.block_for_close(TIMEOUT_S)
        desk.close()
        away.come_back()
        assert len(meters_left(desk)) == 2, "its hold's, and its slot's"
        opened = open_for_use(
            desk.settings.ledger_url, desk.settings.data_dir, clock=desk.clock, rehearsal=True
        )
        (found,) = opened.recovered
        opened.ledger.close()
        assert (found.outcome, found.size_bytes, found.residual_bytes) == (
            "settled",
            desk.sandbox.bill()["bytes"],
            0,
        )
        assert meters_left(desk) == []
        if rules.account.billing:
            return  # the sandbox bills every byte, whatever the plan
        assert desk.billed_nano_usd() <= desk.spent_nano_usd()


def test_a_running_program_books_what_ended_in_the_outage_when_it_is_over(tmp_path: Path) -> None:
    """Without a start of anything: the connections that go on see to those that ended."""
    with running_desk(tmp_path, free(), rate=RATE) as desk:
        running, got = desk.streaming()
        desk.begin(got)
        ended, more = desk.streaming()
        desk.begin(more)
        away = Away(desk)
        away.go()
        ended.stop()
        ended.block_for_close(TIMEOUT_S)
        for _ in range(20):
            desk.flow(got, 1)
        away.come_back()
        for _ in range(40):
            desk.flow(got, 1)
            if desk.entries():
                break
        eventually(desk.entries)
        assert len(desk.holds()) == 1
        running.stop()
        running.block_for_close(TIMEOUT_S)


def test_a_free_stream_that_the_vendor_drops_in_an_outage_waits_for_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client stays connected; nothing is asked of the vendor meanwhile."""
    monkeypatch.setattr(funds, "RENEWAL_PAUSE_S", 0.02)
    monkeypatch.setattr(funds, "AWAY_PAUSE_MAX_S", 0.05)
    first, second = orders(NOW_NS, 100), orders(NOW_NS + 10**6, 100)

    async def script(session: Session) -> None:
        session.header()
        session.send(b"".join(first if session.number == 1 else second))
        await vendor.turn()

    vendor = FakeGateway(script)
    with desk_before(vendor, tmp_path, free()) as desk:
        _, got = desk.streaming()
        got.wait_for_data(100)
        away = Away(desk)
        away.go()
        vendor.go_on()
        eventually(lambda: desk.gateway.host._shared.without_ledger)
        assert len(vendor.sessions) == 1
        away.come_back()
        got.wait_for_data(200)
        assert len(vendor.sessions) == 2
        vendor.go_on()


# --- a ledger that answers late -----------------------------------------------------------------------------


class Slow:
    """Renewals take as long as the test lets them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, wait: Callable[[], object]) -> None:
        self.renewals = 0
        restate = SqlLedger.restate

        def slowly(ledger: SqlLedger, *arguments: Any) -> Any:
            self.renewals += 1
            wait()
            return restate(ledger, *arguments)

        monkeypatch.setattr(SqlLedger, "restate", slowly)


def watched_pauses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What was left of the lease, in bytes, whenever reading was stopped for money."""
    found: list[int] = []
    pause = Upstream.pause

    def watch(upstream: Upstream, why: Any) -> None:
        if why == "money":
            found.append(upstream._listener._hold.left_bytes)  # type: ignore[attr-defined]
        pause(upstream, why)

    monkeypatch.setattr(Upstream, "pause", watch)
    return found


def test_no_read_waits_for_a_ledger_that_takes_a_fifth_of_a_second_while_money_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = watched_pauses(monkeypatch)
    slow = Slow(monkeypatch, lambda: threading.Event().wait(0.2))
    with running_desk(tmp_path, rate=20_000) as desk:
        client, got = desk.streaming()
        desk.begin(got)
        for _ in range(30):  # 34 MB: many leases
            desk.flow(got, 1)
        client.stop()
        client.block_for_close(TIMEOUT_S)
    assert slow.renewals >= 2
    assert [left for left in pauses if left > 0] == []


def test_data_flows_while_a_renewal_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    slow = Slow(monkeypatch, lambda: answer.wait(TIMEOUT_S))
    with running_desk(tmp_path, rate=RATE) as desk:
        client, got = desk.streaming()
        desk.begin(got)
        desk.flow(got, 1)
        desk.advance(15)
        eventually(lambda: slow.renewals)
        before = len(got.data)
        for _ in range(3):
            desk.flow(got, 1)
        assert len(got.data) > before and not answer.is_set()
        answer.set()
        client.stop()
        client.block_for_close(TIMEOUT_S)


# --- a clock that is set ------------------------------------------------------------------------------------


class SetClock(ManualClock):
    """A clock whose wall time can be set while its monotonic count stands still."""

    def step(self, **by: float) -> None:
        self._now += timedelta(**by)


@pytest.mark.parametrize("hours", [(9, -9), (-16, 16)], ids=["forward and back", "back and forward"])
def test_a_connection_follows_a_clock_that_is_set_into_the_period_that_it_says(
    tmp_path: Path, hours: tuple[int, int]
) -> None:
    """It goes on under a hold of that day, either way; every byte is booked once."""
    vendor_turn = orders(NOW_NS, 10)

    async def script(session: Session) -> None:
        session.header()
        for _ in range(3):
            session.send(b"".join(vendor_turn))
            await vendor.turn()
        await session.until_fin()

    vendor = FakeGateway(script)
    clock = SetClock(NOW)
    rules = policy(budgets=[budget(limit("10", "day"), limit("100"))])
    with desk_before(vendor, tmp_path, rules, clock) as desk:
        _, got = desk.streaming()
        assert isinstance(got, Collector)
        got.wait_for_data(10)
        for number, step in enumerate(hours, start=1):
            clock.step(hours=step)
            desk.settled.wait_for_length(number)
            vendor.go_on()
            got.wait_for_data(10 * (number + 1))
        desk.close()
        days = {
            key.period_start_utc.day: balance.settled
            for key, balance in desk.books.account_balances(
                "desk", NOW - timedelta(days=60), NOW + timedelta(days=60)
            ).items()
            if key.period == "day"
        }
        other = (NOW + timedelta(hours=hours[0])).day
        assert set(days) == {NOW.day, other}
        entries = desk.entries()
        assert len(entries) == 3
        assert sum(entry.size_bytes for entry in entries) == vendor.sessions[0].sent_bytes
        assert all(entry.started_utc <= entry.ended_utc for entry in entries)
        assert days[other] == entries_cost(entries, other)
        vendor.go_on()


def test_a_guard_that_was_asleep_does_not_take_its_own_silence_for_the_vendors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that wakes up, or a program that goes on, first reads what came meanwhile."""
    slept, jumped = threading.Event(), threading.Event()
    looks: list[int] = []

    def uptime() -> int:
        looks.append(1)
        if slept.is_set():
            jumped.set()
        return uptime_ns() + (3600 * 10**9 if jumped.is_set() else 0)

    async def script(session: Session) -> None:
        session.header()
        session.send(b"".join(orders(NOW_NS, 10)))
        await vendor.turn()
        session.send(b"".join(orders(NOW_NS + 10**6, 10)))
        await session.until_fin()

    vendor = FakeGateway(script)
    monkeypatch.setattr("budget_guard.gateway.live.watch.uptime_ns", uptime)
    with desk_before(vendor, tmp_path) as desk:
        # The clock and what the machine counts jump together, between two looks.
        stepped = desk.clock.monotonic_s
        monkeypatch.setattr(desk.clock, "monotonic_s", lambda: stepped() + (3600 if jumped.is_set() else 0))
        _, got = desk.streaming()
        got.wait_for_data(10)
        slept.set()
        before = len(looks)
        eventually(lambda: len(looks) > before + 5)
        vendor.go_on()
        got.wait_for_data(20)
        assert len(vendor.sessions) == 1


def entries_cost(entries: list[Any], day: int) -> int:
    return sum(entry.cost_nano_usd for entry in entries if entry.started_utc.day == day)
