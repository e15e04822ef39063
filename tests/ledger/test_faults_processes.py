"""Owners that are stopped, forked, replaced or in containers: the kernel's lock alone says who lives."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from budget_guard.clock import SystemClock
from budget_guard.ledger.machine import boot_id
from budget_guard.ledger.model import Ledger
from budget_guard.ledger.recovery import Recovered, recover_orphans
from budget_guard.ledger.store import open_ledger
from budget_guard.money import cost_nano_usd
from tests.ledger.processes import end, kill, read_line, start, tell
from tests.ledger.samples import PRICE, usd

# Holds a dollar as the host that it is told it is, counts a page whenever it is told to, and renews.
OWNER = """
import os, sys, time
from pathlib import Path
from budget_guard.ledger.meter import Meter
from budget_guard.ledger.store import open_ledger
from budget_guard.money import cost_nano_usd
from tests.ledger.samples import PRICE, USD, claiming, terms
url, meters, host = sys.argv[1:]
ledger = open_ledger(url)
meter = Meter.create(Path(meters), "h1")
ledger.open_hold(terms("h1", host=host), [USD], claiming({USD: (0, 10**9)}))
ledger.activate("h1")
meter.mark_asked()
print("ready", flush=True)
version = 0
for line in sys.stdin:
    if line == "fork\\n":
        child = os.fork()
        if child == 0:
            print(os.getpid(), flush=True)
            time.sleep(60)
            os._exit(0)
        continue
    if line == "exec\\n":
        os.execv(sys.executable, [sys.executable, "-c", "import sys; print('executed', flush=True); sys.stdin.read()"])
    version += 1
    meter.add(4096, 0, time.monotonic_ns())
    spent = cost_nano_usd(meter.size_bytes, PRICE)
    ledger.restate("h1", version, [USD], claiming({USD: (spent, 10**9)}))
    print(meter.size_bytes, flush=True)
"""


def recover(ledger: Ledger, meters: Path, host: str = "desk-1") -> list[Recovered]:
    return recover_orphans(ledger, meters, host=host, boot_id=boot_id(), clock=SystemClock())


def test_an_owner_that_is_stopped_for_however_long_keeps_its_hold(tmp_path: Path, url: str) -> None:
    """No lease times out: as long as it exists, nobody settles for it, and it goes on where it was."""
    owner = start(OWNER, url, tmp_path / "meters", "desk-1")
    assert read_line(owner) == "ready"
    tell(owner, "count")
    assert read_line(owner) == "4096"
    os.kill(owner.pid, signal.SIGSTOP)
    ledger = open_ledger(url)
    assert recover(ledger, tmp_path / "meters") == []
    assert usd(ledger).held == 10**9
    os.kill(owner.pid, signal.SIGCONT)
    tell(owner, "count")
    assert read_line(owner) == "8192"
    assert usd(ledger).settled == cost_nano_usd(8192, PRICE)
    kill(owner)
    ledger.close()


def test_a_stopped_owner_that_is_killed_is_settled_like_any_other(tmp_path: Path, url: str) -> None:
    owner = start(OWNER, url, tmp_path / "meters", "desk-1")
    assert read_line(owner) == "ready"
    os.kill(owner.pid, signal.SIGSTOP)
    kill(owner)
    ledger = open_ledger(url)
    assert [found.outcome for found in recover(ledger, tmp_path / "meters")] == ["settled"]
    ledger.close()


def test_a_fork_that_outlives_its_parent_does_not_keep_the_hold(tmp_path: Path, url: str) -> None:
    owner = start(OWNER, url, tmp_path / "meters", "desk-1")
    assert read_line(owner) == "ready"
    tell(owner, "fork")
    child = int(read_line(owner))
    owner.kill()
    owner.wait()
    try:
        ledger = open_ledger(url)
        assert [found.outcome for found in recover(ledger, tmp_path / "meters")] == ["settled"]
        ledger.close()
    finally:
        os.kill(child, signal.SIGKILL)
        for pipe in (owner.stdin, owner.stdout):
            assert pipe is not None
            pipe.close()


def test_a_program_that_becomes_another_one_gives_its_hold_up(tmp_path: Path, url: str) -> None:
    owner = start(OWNER, url, tmp_path / "meters", "desk-1")
    assert read_line(owner) == "ready"
    tell(owner, "count")
    assert read_line(owner) == "4096"
    tell(owner, "exec")
    assert read_line(owner) == "executed"
    ledger = open_ledger(url)
    (found,) = recover(ledger, tmp_path / "meters")
    assert (found.outcome, found.size_bytes) == ("settled", 4096)
    assert end(owner) == 0
    ledger.close()


def test_containers_that_share_a_folder_of_meters_recover_for_each_other(tmp_path: Path, url: str) -> None:
    """Whatever their host names are, the kernel is one: its lock says that the one lives, and then that it is dead."""
    owner = start(OWNER, url, tmp_path / "meters", "container-a")
    assert read_line(owner) == "ready"
    tell(owner, "count")
    assert read_line(owner) == "4096"
    ledger = open_ledger(url)
    assert recover(ledger, tmp_path / "meters", host="container-b") == []
    kill(owner)
    (found,) = recover(ledger, tmp_path / "meters", host="container-b")
    assert (found.outcome, found.size_bytes) == ("settled", 4096)
    ledger.close()


def test_containers_that_share_none_leave_each_others_holds_in_full(tmp_path: Path, url: str) -> None:
    """Nothing shows whether the other one lives: only a decision closes its hold."""
    owner = start(OWNER, url, tmp_path / "a", "container-a")
    assert read_line(owner) == "ready"
    kill(owner)
    ledger = open_ledger(url)
    assert recover(ledger, tmp_path / "b", host="container-b") == []
    assert usd(ledger).held == 10**9
    ledger.close()


def test_a_meter_of_another_machines_run_proves_nothing(tmp_path: Path, url: str) -> None:
    """On a network folder the lock of another machine's owner may well be free to take."""
    owner = start(OWNER, url, tmp_path / "meters", "lab-7")
    assert read_line(owner) == "ready"
    kill(owner)
    ledger = open_ledger(url)
    (found,) = recover_orphans(
        ledger, tmp_path / "meters", host="desk-1", boot_id="another run", clock=SystemClock()
    )
    assert found.outcome == "unresolved"
    assert "its host is another machine, or has been restarted since" in found.message
    assert usd(ledger).held == 10**9
    ledger.close()
