"""A database server that restarts, refuses or falls silent: calls fail in a bounded time, and then work again."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from budget_guard.errors import LedgerError
from budget_guard.ledger import bounded, postgres
from budget_guard.ledger.model import Balance
from budget_guard.ledger.store import open_ledger
from tests.ledger.proxy import Proxy
from tests.ledger.samples import USD, claiming, terms, usd
from tests.postgres import fresh_database
from tests.team.server import team_server

# What a call may take in these tests: an answer that does not come, and one new connection that is not made.
ANSWER_S, MARGIN_S, CONNECT_S = 1, 0.5, 2
BOUND_S = ANSWER_S + MARGIN_S + CONNECT_S + 3


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.setattr(postgres, "BUSY_TIMEOUT_S", ANSWER_S)
    monkeypatch.setattr(postgres, "CONNECT_TIMEOUT_S", CONNECT_S)
    monkeypatch.setattr(bounded, "MARGIN_S", MARGIN_S)
    with Proxy(fresh_database()) as made:
        yield made


def test_a_network_that_falls_silent_is_waited_for_no_longer_than_it_may_take(proxy: Proxy) -> None:
    """TCP is answered all the time, so only the caller itself can tell; when it flows again, so does the ledger."""
    ledger = open_ledger(proxy.url)
    ledger.open_hold(terms(), [USD], claiming({USD: (0, 7)}))
    proxy.hang()
    for call in (lambda: ledger.activate("h1"), lambda: usd(ledger)):
        began = time.monotonic()
        with pytest.raises(LedgerError, match="cannot be reached: check that the server runs"):
            call()
        assert time.monotonic() - began < BOUND_S
    proxy.flow()
    ledger.activate("h1")
    assert usd(ledger) == Balance(0, 7)
    ledger.close()


def test_a_server_that_refuses_fails_at_once_and_works_again_by_itself(proxy: Proxy) -> None:
    ledger = open_ledger(proxy.url)
    ledger.open_hold(terms(), [USD], claiming({USD: (0, 7)}))
    proxy.refuse()
    began = time.monotonic()
    with pytest.raises(LedgerError, match="cannot be reached"):
        ledger.activate("h1")
    assert time.monotonic() - began < 1
    proxy.flow()
    ledger.activate("h1")
    ledger.close()


def test_a_connection_that_broke_is_made_anew_without_anybody_noticing(proxy: Proxy) -> None:
    ledger = open_ledger(proxy.url)
    ledger.open_hold(terms(), [USD], claiming({USD: (0, 7)}))
    for version in range(1, 4):
        proxy.drop()
        ledger.restate("h1", version, [USD], claiming({USD: (version, 7)}))
    assert usd(ledger) == Balance(3, 7)
    ledger.close()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_that_was_restarted_is_used_again_by_the_next_call(mode: str) -> None:
    server = team_server()
    ledger = open_ledger(server.url(server.make_database("guard"), "guard"))
    ledger.open_hold(terms(), [USD], claiming({USD: (0, 7)}))
    ledger.activate("h1")
    server.restart(mode)  # type: ignore[arg-type]
    ledger.restate("h1", 1, [USD], claiming({USD: (1, 7)}))
    assert usd(ledger) == Balance(1, 7)
    ledger.close()


def test_a_server_that_is_down_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    server = team_server()
    ledger = open_ledger(server.url(server.make_database("guard"), "guard"))
    ledger.open_hold(terms(), [USD], claiming({USD: (0, 7)}))
    server.stop("fast")
    try:
        with pytest.raises(LedgerError, match="cannot be reached"):
            ledger.activate("h1")
    finally:
        server.start()
    ledger.activate("h1")
    ledger.close()
