"""kill -9 in the middle of everything, and what two recoveries at once make of it."""

from __future__ import annotations

from pathlib import Path

from budget_guard.clock import SystemClock
from budget_guard.ledger.backends import meter_directory
from budget_guard.ledger.machine import boot_id, host_name
from budget_guard.ledger.model import Ledger
from budget_guard.ledger.recovery import recover_orphans
from budget_guard.ledger.store import open_ledger
from budget_guard.money import cost_nano_usd
from tests.ledger.processes import end, kill, read_line, start, tell
from tests.ledger.samples import PRICE, usd

WRITER = """
import sys, time
from pathlib import Path
from budget_guard.ledger.machine import host_name
from budget_guard.ledger.meter import Meter
from budget_guard.ledger.store import open_ledger
from budget_guard.money import cost_nano_usd
from tests.ledger.samples import PRICE, USD, claiming, terms
url, meters, hold_id = sys.argv[1:]
ledger = open_ledger(url)
meter = Meter.create(Path(meters), hold_id)
ledger.open_hold(terms(hold_id, host=host_name()), [USD], claiming({USD: (0, 10**9)}))
ledger.activate(hold_id)
version = 0
while True:
    version += 1
    for _ in range(50):
        meter.add(4096, 0, time.monotonic_ns())
    spent = cost_nano_usd(meter.size_bytes, PRICE)
    ledger.restate(hold_id, version, [USD], claiming({USD: (spent, 10**9)}))
    print(meter.size_bytes, flush=True)
"""

RECOVERER = """
import sys
from pathlib import Path
from budget_guard.clock import SystemClock
from budget_guard.ledger.machine import boot_id, host_name
from budget_guard.ledger.recovery import recover_orphans
from budget_guard.ledger.store import open_ledger
ledger = open_ledger(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
found = recover_orphans(ledger, Path(sys.argv[2]), host=host_name(), boot_id=boot_id(), clock=SystemClock())
print(*[recovered.hold_id for recovered in found], "done", flush=True)
"""


def crash(url: str, meters: Path, hold_id: str) -> int:
    """Start a writer, let it count, kill it; the bytes that it said it had counted."""
    writer = start(WRITER, url, meters, hold_id)
    for _ in range(5):
        reported = int(read_line(writer))
    kill(writer)
    return reported


def entry_cost(ledger: Ledger) -> int:
    return sum(entry.cost_nano_usd + entry.residual_nano_usd for entry in ledger.entries("desk", "2026-11"))


def test_a_killed_writer_is_settled_at_no_less_than_it_counted(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    meters = meter_directory(url, tmp_path)
    reported = crash(url, meters, "h1")
    ledger = open_ledger(url)
    (found,) = recover_orphans(ledger, meters, host=host_name(), boot_id=boot_id(), clock=SystemClock())
    assert found.outcome == "settled"
    assert found.size_bytes >= reported
    assert usd(ledger).held == 0
    assert usd(ledger).settled >= cost_nano_usd(reported, PRICE)
    assert (
        usd(ledger).settled
        == entry_cost(ledger)
        == cost_nano_usd(found.size_bytes + found.residual_bytes, PRICE)
    )
    assert list(meters.iterdir()) == []
    ledger.close()


def test_two_recoveries_at_once_settle_each_orphan_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    meters = meter_directory(url, tmp_path)
    holds = ["h1", "h2", "h3"]
    for hold_id in holds:
        crash(url, meters, hold_id)
    recoverers = [start(RECOVERER, url, meters) for _ in range(2)]
    for recoverer in recoverers:
        assert read_line(recoverer) == "ready"
    for recoverer in recoverers:
        tell(recoverer, "go")
    settled = [name for recoverer in recoverers for name in read_line(recoverer).split() if name != "done"]
    assert [end(recoverer) for recoverer in recoverers] == [0, 0]
    assert sorted(settled) == holds
    ledger = open_ledger(url)
    assert ledger.open_holds() == []
    assert usd(ledger).held == 0
    assert usd(ledger).settled == entry_cost(ledger)
    ledger.close()
