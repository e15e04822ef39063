"""A ledger whose disk is full, read-only or locked: every call says what is wrong, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from budget_guard.errors import LedgerError
from budget_guard.ledger import sqlite
from budget_guard.ledger.meter import Meter
from budget_guard.ledger.model import Balance, Ledger
from budget_guard.ledger.store import open_ledger
from tests.ledger.processes import end, kill, read_line, start
from tests.ledger.samples import USD, claiming, entry, refusal, terms, usd

# Everything that a running program asks of its ledger.
WRITES: dict[str, Callable[[Ledger], object]] = {
    "open": lambda ledger: ledger.open_hold(terms("h2"), [USD], claiming({USD: (0, 1)})),
    "renew": lambda ledger: ledger.restate("h1", 1, [USD], claiming({USD: (1, 5)})),
    "settle": lambda ledger: ledger.settle("h1", {USD: 7}, [entry()]),
    "refuse": lambda ledger: ledger.record_refusal(refusal()),
}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for a megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.getuid() != 0 or subprocess.run(mount, stderr=subprocess.DEVNULL).returncode != 0:
        pytest.skip("only root may mount a small disk; a full one is also tested by SQLite's own limit")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> Path:
    """Use up all the room that there is."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)) == 4096:
                pass
        except OSError:
            pass
    return filler


def with_large_pages(folder: Path) -> None:
    """A file whose pages are as large as the disk's blocks: no write fits into what is left of a block."""
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as file:
        file.execute("PRAGMA page_size=4096")
        file.execute("VACUUM")


def opened(folder: Path) -> Ledger:
    """A ledger with one running hold."""
    ledger = open_ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
    ledger.open_hold(terms(), [USD], claiming({USD: (0, 7)}))
    ledger.activate("h1")
    return ledger


def test_on_a_full_disk_every_write_says_so_and_goes_through_once_there_is_room(small_disk: Path) -> None:
    with_large_pages(small_disk)
    ledger = opened(small_disk)
    filler = fill(small_disk)
    for write in WRITES.values():
        with pytest.raises(LedgerError, match="the disk is full: free some space; nothing was lost"):
            write(ledger)
    assert usd(ledger) == Balance(0, 7)
    filler.unlink()
    for write in WRITES.values():
        write(ledger)
    assert usd(ledger) == Balance(7, 1)
    ledger.close()


def test_a_ledger_cannot_be_begun_on_a_full_disk(small_disk: Path) -> None:
    fill(small_disk)
    with pytest.raises(LedgerError, match="the disk is full"):
        open_ledger(f"sqlite:///{small_disk / 'ledger.sqlite'}")


def test_a_meter_is_not_begun_on_a_full_disk_and_leaves_nothing(small_disk: Path) -> None:
    filler = fill(small_disk)
    with pytest.raises(LedgerError, match=r"No space left.*room on its disk"):
        Meter.create(small_disk, "h1")
    assert list(small_disk.iterdir()) == [filler]


def test_a_meter_goes_on_counting_when_its_disk_is_full(small_disk: Path) -> None:
    """Its page has its room from the beginning: a store into a page without any would kill the program."""
    script = """
import sys
from pathlib import Path
from budget_guard.ledger.meter import Meter
meters = [Meter.create(Path(sys.argv[1]), f"h{n}") for n in range(20)]
print("ready", flush=True)
sys.stdin.readline()
for meter in meters:
    meter.add(4096, 0, 1)
    meter.mark_asked()
print(sum(meter.size_bytes for meter in meters), flush=True)
"""
    owner = start(script, small_disk)
    assert read_line(owner) == "ready"
    fill(small_disk)
    assert owner.stdin is not None
    owner.stdin.write("go\n")
    owner.stdin.flush()
    assert read_line(owner) == str(20 * 4096)
    assert end(owner) == 0


def test_a_limit_on_the_size_of_files_counts_as_a_disk_that_cannot_be_written(tmp_path: Path) -> None:
    """What a disk takes of a page may be less than the page: then there is no meter, and no half of one."""
    script = """
import resource, sys
from pathlib import Path
from budget_guard.errors import LedgerError
from budget_guard.ledger.meter import Meter
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    Meter.create(Path(sys.argv[1]), "h1")
except LedgerError as error:
    print(error, flush=True)
"""
    owner = start(script, tmp_path)
    assert "File too large" in read_line(owner)
    assert end(owner) == 0
    assert list(tmp_path.iterdir()) == []


# --- read-only ----------------------------------------------------------------------------------------------

STRANGER = """
import os, sys
from pathlib import Path
from budget_guard.errors import LedgerError
from budget_guard.ledger.meter import Meter
from budget_guard.ledger.recovery import recover_orphans
from budget_guard.ledger.store import open_ledger
from budget_guard.clock import SystemClock
from tests.ledger.samples import *
from tests.ledger.test_faults_disk import WRITES
folder, spare = sys.argv[1:]
other = open_ledger(f"sqlite:///{spare}/other.sqlite")
Meter.create(Path(spare), "h1").close(remove=True)  # everything is imported by now
if os.getuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
try:
    ledger = open_ledger(f"sqlite:///{folder}/ledger.sqlite")
except LedgerError as error:
    print("open:", error, flush=True)
else:
    for name, write in WRITES.items():
        try:
            print(name, write(ledger), flush=True)
        except LedgerError as error:
            print(f"{name}:", error, flush=True)
for attempt in (lambda: Meter.create(Path(folder), "h9"),
                lambda: recover_orphans(other, Path(folder) / "meters", host="x", boot_id="x", clock=SystemClock())):
    try:
        print(attempt(), flush=True)
    except LedgerError as error:
        print("meter:", error, flush=True)
"""


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that every user can reach; a test's own is its user's alone."""
    folder = Path(tempfile.mkdtemp(prefix="bgro"))
    yield folder
    for place in (folder, *folder.rglob("*")):
        place.chmod(0o700)
    shutil.rmtree(folder)


def said_to_a_stranger(folder: Path, spare: Path) -> list[str]:
    """What a program hears that may read this folder and not write it."""
    spare.mkdir()
    process = start(STRANGER, folder, spare)
    assert process.stdout is not None
    lines = process.stdout.read().splitlines()
    assert end(process) == 0, lines
    return lines


def test_in_a_folder_that_may_not_be_written_everything_says_so(shared_folder: Path) -> None:
    ledger_folder = shared_folder / "ledger"
    opened(ledger_folder).close()
    (ledger_folder / "meters").mkdir()
    for file in ledger_folder.iterdir():
        file.chmod(0o444)
    (ledger_folder / "meters").chmod(0)
    shared_folder.chmod(0o755)
    ledger_folder.chmod(0o555)
    spare = shared_folder / "spare"
    lines = said_to_a_stranger(ledger_folder, spare)
    *ledger, meter, meters = lines
    assert ledger
    assert all("writable for this user" in line for line in ledger), lines
    assert meter.startswith("meter:") and "that this user may write" in meter
    assert meters.startswith("meter:") and "Permission denied" in meters


# --- locked -------------------------------------------------------------------------------------------------

LOCKER = """
import sqlite3, sys
held = sqlite3.connect(sys.argv[1], isolation_level=None)
held.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("name", sorted(WRITES))
def test_a_ledger_that_another_program_has_locked_says_so_and_is_there_when_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0)
    ledger = opened(tmp_path)
    locker = start(LOCKER, tmp_path / "ledger.sqlite")
    assert read_line(locker) == "held"
    again = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")  # one that is up to date is only read
    again.close()
    with pytest.raises(LedgerError, match="locked by another process"):
        WRITES[name](ledger)
    assert usd(ledger) == Balance(0, 7)
    kill(locker)
    WRITES[name](ledger)
    ledger.close()
