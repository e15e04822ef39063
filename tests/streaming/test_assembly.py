"""Putting a guard together: prices, windows and ledger, and nothing left open when a part is missing."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from budget_guard.clock import ManualClock
from budget_guard.errors import CalendarUnknown, KeyRejected, LedgerError, SettingsError, VendorUnavailable
from budget_guard.gateway.historical.door import Door
from budget_guard.ledger.store import SqlLedger
from budget_guard.markets import library, sessions
from budget_guard.policy.model import LiveBilling
from budget_guard.settings import Settings
from budget_guard.streaming.assembly import (
    fetch_prices,
    open_gateway,
    require_safe_rehearsal,
    stream_windows,
)
from tests.streaming.rehearsal import NOW, read_policy


class PriceList:
    """What the vendor answers when it is asked for prices."""

    def __init__(self, answer: Any, kept: Any = None) -> None:
        self._answer = answer
        self._kept = kept

    def fetch_unit_prices(self, dataset: str) -> Any:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    def kept_unit_prices(self, dataset: str) -> Any:
        return self._kept

    def unit_prices_read_utc(self, dataset: str) -> None:
        return None


# --- prices ---------------------------------------------------------------------------------------------------


def test_the_accounts_own_price_comes_before_the_bundled_sheets() -> None:
    book = fetch_prices(read_policy(), PriceList({"live": {"mbo": Decimal("9.99")}}))  # type: ignore[arg-type]
    price = book.price("GLBX.MDP3", "mbo", "live")
    assert price is not None
    assert (price.usd_per_gib, price.kind) == (Decimal("9.99"), "vendor")


def test_without_the_vendors_list_the_bundled_sheet_is_used_and_said_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    book = fetch_prices(read_policy(), PriceList(VendorUnavailable("no answer", advice="")))  # type: ignore[arg-type]
    price = book.price("GLBX.MDP3", "mbo", "live")
    assert price is not None and price.kind == "sheet"
    assert "prices of GLBX.MDP3 come from the bundled sheet: no answer" in caplog.text


def test_without_the_vendors_list_what_it_said_in_the_last_day_comes_before_the_sheet(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept = {"live": {"mbo": Decimal("9.99")}}
    book = fetch_prices(read_policy(), PriceList(VendorUnavailable("no answer", advice=""), kept))  # type: ignore[arg-type]
    price = book.price("GLBX.MDP3", "mbo", "live")
    assert price is not None and price.usd_per_gib == Decimal("9.99")
    assert "prices of GLBX.MDP3 come from the last day's answer: no answer" in caplog.text


def test_a_wrong_key_is_no_reason_to_go_on_with_list_prices() -> None:
    with pytest.raises(KeyRejected):
        fetch_prices(read_policy(), PriceList(KeyRejected("wrong", advice="")))  # type: ignore[arg-type]


def test_a_flat_plan_makes_live_data_free_whatever_the_vendor_lists() -> None:
    policy = read_policy()
    flat = replace(
        policy, account=replace(policy.account, billing={"GLBX.MDP3": LiveBilling("flat", "standard")})
    )
    book = fetch_prices(flat, PriceList({"live": {"mbo": Decimal("9.99")}}))  # type: ignore[arg-type]
    price = book.price("GLBX.MDP3", "mbo", "live")
    assert price is not None
    assert (price.usd_per_gib, price.kind) == (Decimal(0), "plan")


# --- windows --------------------------------------------------------------------------------------------------


def test_the_calendars_are_read_once_however_many_threads_ask_first(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The calendar library is not made for threads; the gateway asks from several."""
    asked: list[int] = []
    inside = threading.Semaphore(1)
    original = library.library_days

    def library_days(*arguments: Any) -> Any:
        assert inside.acquire(blocking=False), "two threads at once in the calendar library"
        asked.append(1)
        try:
            return original(*arguments)
        finally:
            inside.release()

    monkeypatch.setattr(sessions, "library_days", library_days)
    policy = read_policy()
    stream = policy.streams["nq"]
    together = threading.Barrier(6)

    def ask(number: int) -> bool:
        windows = stream_windows(policy, settings, stream)
        together.wait()
        return windows.covering(NOW) is not None and NOW in windows.session_interval(NOW)

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(ask, range(6)))
    assert len(asked) == 2  # the stream's market, and the one whose days its regular hours follow


def test_a_streams_windows_answer_in_intervals(settings: Settings) -> None:
    policy = read_policy()
    windows = stream_windows(policy, settings, policy.streams["nq"])
    session = windows.session_interval(NOW)
    open_now = windows.covering(NOW)
    assert open_now is not None
    assert session.start_utc <= open_now.start_utc <= NOW < open_now.end_utc <= session.end_utc
    assert windows.next_open(NOW) == open_now.start_utc + timedelta(days=1)
    with pytest.raises(CalendarUnknown):
        windows.covering(NOW.replace(year=2040))


# --- the whole ------------------------------------------------------------------------------------------------


def test_a_gateway_is_open_until_it_is_closed_and_may_be_closed_twice(settings: Settings) -> None:
    gateway = open_gateway(read_policy(), settings, ManualClock(NOW))
    assert gateway.host.live_port > 0
    assert gateway.host.http_url.startswith("http://127.0.0.1:")
    gateway.close()
    gateway.close()
    with pytest.raises(LedgerError, match="has been closed"):
        gateway.opened.ledger.balances([])


def test_nothing_stays_open_when_the_gateway_cannot_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the ledger nor a thread, nor the port that was opened first."""
    closed: list[SqlLedger] = []
    close = SqlLedger.close

    def noted(ledger: SqlLedger) -> None:
        closed.append(ledger)
        close(ledger)

    async def start(_: Door, *__: object) -> None:
        raise OSError("no port is free")

    monkeypatch.setattr(SqlLedger, "close", noted)
    monkeypatch.setattr(Door, "start", start)
    with pytest.raises(OSError, match="no port is free"):
        open_gateway(read_policy(), settings, ManualClock(NOW))
    assert len(closed) == 1
    assert "budget-guard" not in {thread.name for thread in threading.enumerate()}


def test_a_gateway_that_does_not_end_in_time_says_so_and_closes_its_ledger(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = open_gateway(read_policy(), settings, ManualClock(NOW))
    stop = gateway.host.stop

    def late() -> None:
        stop()
        raise TimeoutError

    monkeypatch.setattr(gateway.host, "stop", late)
    gateway.close()
    assert "settled at the next start" in caplog.text
    with pytest.raises(LedgerError, match="has been closed"):
        gateway.opened.ledger.balances([])


def test_without_a_key_there_is_nothing_to_guard(settings: Settings) -> None:
    with pytest.raises(KeyRejected, match="DATABENTO_API_KEY is not set"):
        open_gateway(read_policy(), replace(settings, key=None), ManualClock(NOW))
    assert not settings.data_dir.exists()


@pytest.mark.parametrize(
    ("left_out", "named"),
    [
        ("live_gateway", "BUDGET_GUARD_LIVE_GATEWAY"),
        ("historical_gateway", "BUDGET_GUARD_HISTORICAL_GATEWAY"),
    ],
)
def test_a_rehearsal_must_not_reach_the_vendor(settings: Settings, left_out: str, named: str) -> None:
    incomplete = replace(settings, **{left_out: None})  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=named):
        require_safe_rehearsal(incomplete)
    require_safe_rehearsal(settings)
    require_safe_rehearsal(replace(incomplete, now=None))
