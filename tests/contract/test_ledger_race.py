"""The last dollar: threads and processes that ask for it at the same instant never get it twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import pytest

from budget_guard.ledger import plain
from budget_guard.ledger.model import Balance, Balances, Ledger, Posting
from budget_guard.ledger.store import open_ledger
from tests.ledger.processes import end, read_line, start, tell
from tests.ledger.samples import USD, claiming, key, terms, usd, within

ROUNDS = 20
LIMIT = 100

RACER = """
import sys
from budget_guard.ledger.store import open_ledger
from tests.ledger.samples import USD, terms, within
url, name = sys.argv[1:]
ledger = open_ledger(url)
print("ready", flush=True)
for line in sys.stdin:
    number = int(line)
    decide = within(100 * (number + 1), 0, 60)
    hold = ledger.open_hold(terms(f"{name}-{number}"), [USD], decide)
    if hold is not None:
        ledger.settle(hold.terms.id, {USD: 100}, [])
    print("no" if hold is None else "yes", flush=True)
ledger.close()
"""


def test_two_processes_never_both_get_the_last_dollar(ledger: Ledger, url: str) -> None:
    """Each round leaves room for one hold of 60; its winner settles 100, which is what the round adds."""
    racers = [start(RACER, url, name) for name in ("a", "b")]
    for racer in racers:
        assert read_line(racer) == "ready"
    for number in range(ROUNDS):
        for racer in racers:
            tell(racer, str(number))
        answers = sorted(read_line(racer) for racer in racers)
        assert answers == ["no", "yes"]
        assert usd(ledger) == Balance(100 * (number + 1), 0)
    assert [end(racer) for racer in racers] == [0, 0]


def test_threads_that_share_a_ledger_never_pass_a_limit_together(ledger: Ledger) -> None:
    barrier = Barrier(4)

    def ask(name: str) -> bool:
        barrier.wait(timeout=60)
        return ledger.open_hold(terms(name), [USD], within(LIMIT, 0, 30)) is not None

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(ask, ["a", "b", "c", "d"]))
    assert sorted(won) == [False, True, True, True]
    assert usd(ledger) == Balance(0, 90)


def test_a_restatement_that_waited_for_another_of_its_hold_starts_from_the_claims_of_that_one(
    ledger: Ledger, url: str
) -> None:
    """The first adds a claim that the second does not speak of: what that held is given back."""
    added = key("glbx")
    other = open_ledger(url)
    with ThreadPoolExecutor(1) as pool:
        for number in range(ROUNDS):
            hold = terms(f"h{number}")
            ledger.open_hold(hold, [USD], claiming({USD: (0, 10)}))
            ledger.activate(hold.id)
            begun, going = Event(), Event()

            def wait_for_the_second(
                balances: Balances, begun: Event = begun, going: Event = going
            ) -> Posting:
                begun.set()
                assert going.wait(60)
                return claiming({USD: (0, 20), added: (0, 20)})(balances)

            first = pool.submit(ledger.restate, hold.id, 1, [USD, added], wait_for_the_second)
            assert begun.wait(60)
            going.set()
            other.restate(hold.id, 2, [USD], claiming({USD: (1, 0)}))
            first.result(60)
            assert usd(ledger) == Balance(number + 1, 0)
            assert ledger.balances([added])[added] == Balance(0, 0)
    other.close()


def test_a_write_that_is_interrupted_writes_nothing_and_the_next_one_works(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.open_hold(terms(), [USD], claiming({USD: (0, 10)}))
    ledger.activate("h1")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(plain.Plain, "rows", interrupt)
        with pytest.raises(KeyboardInterrupt):
            ledger.restate("h1", 1, [USD], claiming({USD: (5, 5)}))
    assert usd(ledger) == Balance(0, 10)
    ledger.restate("h1", 1, [USD], claiming({USD: (5, 5)}))
    assert usd(ledger) == Balance(5, 5)
