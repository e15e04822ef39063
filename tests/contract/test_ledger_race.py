"""The last dollar: threads and processes that ask for it at the same instant never get it twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from budget_guard.ledger.model import Balance, Ledger
from tests.ledger.processes import end, read_line, start, tell
from tests.ledger.samples import USD, terms, usd, within

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
