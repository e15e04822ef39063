"""The meter: what it counts, who may open it, and what a killed or forked owner leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.errors import LedgerError
from budget_guard.ledger.meter import Meter, meter_name, open_orphan, sweep_unfinished
from tests.ledger.processes import end, kill, read_line, start

SECOND = 10**9


def test_a_meter_counts_and_another_owner_reads_it_all(tmp_path: Path) -> None:
    meter = Meter.create(tmp_path / "meters", "h1", boot_id="boot-1")
    meter.add(1000, 0, 5 * SECOND)
    meter.add(320, 320, 6 * SECOND)
    meter.last_ts_ns = 1_700_000_000_000_000_001
    meter.close(remove=False)
    found = open_orphan(meter.path)
    assert found is not None
    assert (found.size_bytes, found.control_bytes) == (1320, 320)
    assert (found.last_read_monotonic_ns, found.last_ts_ns) == (6 * SECOND, 1_700_000_000_000_000_001)
    assert (found.hold_id, found.boot_id, found.ended) == ("h1", "boot-1", False)
    found.close(remove=True)
    assert list((tmp_path / "meters").iterdir()) == []


def test_a_living_owner_keeps_its_meter(tmp_path: Path) -> None:
    meter = Meter.create(tmp_path, "h1")
    assert open_orphan(meter.path) is None
    meter.close(remove=False)
    orphan = open_orphan(meter.path)
    assert orphan is not None
    assert open_orphan(meter.path) is None  # the finder is an owner too
    orphan.close(remove=False)


def test_a_meter_that_is_gone_is_nobodys(tmp_path: Path) -> None:
    assert open_orphan(tmp_path / "h1.meter") is None


def test_the_mark_of_a_clean_end_is_kept(tmp_path: Path) -> None:
    meter = Meter.create(tmp_path, "h1")
    meter.mark_ended()
    meter.close(remove=False)
    found = open_orphan(meter.path)
    assert found is not None
    assert found.ended
    found.close(remove=True)


def test_a_meter_is_one_page_for_its_user_alone(tmp_path: Path) -> None:
    meter = Meter.create(tmp_path / "meters", "h1")
    stat = meter.path.stat()
    assert (stat.st_size, stat.st_mode & 0o777) == (4096, 0o600)
    assert stat.st_blocks > 0  # no store can meet a full disk
    assert (tmp_path / "meters").stat().st_mode & 0o777 == 0o700
    meter.close(remove=True)


def test_a_meter_is_never_replaced(tmp_path: Path) -> None:
    meter = Meter.create(tmp_path, "h1")
    meter.add(7, 0, 1)
    with pytest.raises(LedgerError, match="exists already"):
        Meter.create(tmp_path, "h1")
    assert meter.size_bytes == 7
    assert [path.name for path in tmp_path.iterdir()] == ["h1.meter"]
    meter.close(remove=True)


@pytest.mark.parametrize("hold_id", ["", "../h1", "a/b", ".hidden", "x" * 201, "a b", "é"])
def test_a_hold_id_that_is_no_file_name_is_a_mistake(hold_id: str) -> None:
    with pytest.raises(ValueError, match="not usable as a hold's id"):
        meter_name(hold_id)


def test_closing_twice_is_closing_once_and_a_closed_meter_counts_nothing(tmp_path: Path) -> None:
    meter = Meter.create(tmp_path, "h1")
    meter.close(remove=True)
    meter.close(remove=True)
    with pytest.raises(ValueError, match="released"):
        meter.add(1, 0, 1)


@pytest.mark.parametrize("content", [b"", b"short", b"\0" * 4096, b"x" * 5000])
def test_a_file_that_is_no_meter_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "h1.meter"
    path.write_bytes(content)
    with pytest.raises(LedgerError, match="not a meter"):
        open_orphan(path)
    assert path.read_bytes() == content


def test_a_meter_of_another_version_is_refused(tmp_path: Path) -> None:
    meter = Meter.create(tmp_path, "h1")
    meter.close(remove=False)
    page = bytearray(meter.path.read_bytes())
    page[8] = 2
    meter.path.write_bytes(page)
    with pytest.raises(LedgerError, match="another version"):
        open_orphan(meter.path)


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match=r"file.* cannot be used .*local folder"):
        Meter.create(tmp_path / "file" / "meters", "h1")


def test_only_what_dead_creators_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / ".dead.new").write_bytes(b"")
    meter = Meter.create(tmp_path, "h1")
    (tmp_path / ".living.new").hardlink_to(meter.path)
    sweep_unfinished(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"h1.meter", ".living.new"}
    meter.close(remove=True)


READS = st.lists(st.tuples(st.integers(1, 10**7), st.integers(0, 3 * 10**8)), min_size=1, max_size=30)


@settings(deadline=None)  # other work on the machine is no failure
@given(reads=READS)
def test_the_peak_is_never_below_any_tenth_of_a_second_that_began_with_its_first_read(
    tmp_path_factory: pytest.TempPathFactory, reads: list[tuple[int, int]]
) -> None:
    """Against the plain way: split the reads into spans of 100 ms and take ten times the largest."""
    meter = Meter.create(tmp_path_factory.mktemp("meters"), "h1")
    now = SECOND
    spans: list[tuple[int, int]] = []
    for size_bytes, pause_ns in reads:
        now += pause_ns
        meter.add(size_bytes, 0, now)
        if spans and now - spans[-1][0] < SECOND // 10:
            spans[-1] = (spans[-1][0], spans[-1][1] + size_bytes)
        else:
            spans.append((now, size_bytes))
    fastest = 10 * max(size for _, size in spans)
    assert meter.peak_bytes_per_s == (fastest if len(spans) > 1 else None)
    assert meter.size_bytes == sum(size for size, _ in reads)
    assert meter.last_read_monotonic_ns == now
    meter.close(remove=True)


def test_what_comes_beside_it_on_the_same_connection_counts_in_the_rate_only(tmp_path: Path) -> None:
    meter = Meter.create(tmp_path, "h1")
    meter.add(0, 0, SECOND, beside_bytes=7000)
    meter.add(100, 0, SECOND + 1, beside_bytes=900)
    meter.add(0, 0, 2 * SECOND)
    assert (meter.size_bytes, meter.peak_bytes_per_s) == (100, 80_000)
    meter.close(remove=True)


OWNER = """
import os, sys
from pathlib import Path
from budget_guard.ledger.meter import Meter
meter = Meter.create(Path(sys.argv[1]), "h1")
"""


def test_the_count_outlives_a_killed_owner(tmp_path: Path) -> None:
    script = (
        OWNER
        + """
number = 0
while True:
    number += 1
    meter.add(1000, 0, number)
    if number % 1000 == 0:
        print(number * 1000, flush=True)
"""
    )
    owner = start(script, tmp_path)
    for _ in range(3):
        reported = int(read_line(owner))
    assert open_orphan(tmp_path / "h1.meter") is None
    kill(owner)
    meter = open_orphan(tmp_path / "h1.meter")
    assert meter is not None
    assert meter.size_bytes >= reported
    assert meter.size_bytes % 1000 == 0
    meter.close(remove=True)


def test_a_forked_child_does_not_keep_its_parents_meter(tmp_path: Path) -> None:
    script = (
        OWNER
        + """
child = os.fork()
if child == 0:
    print("forked", flush=True)
    sys.stdin.read()
    os._exit(0)
os.waitpid(child, 0)
"""
    )
    owner = start(script, tmp_path)
    assert read_line(owner) == "forked"
    assert open_orphan(tmp_path / "h1.meter") is None
    owner.kill()
    owner.wait(timeout=60)
    meter = open_orphan(tmp_path / "h1.meter")  # the child still waits for its input to end
    assert meter is not None
    meter.close(remove=True)
    end(owner)


def test_a_program_that_is_executed_does_not_inherit_the_lock(tmp_path: Path) -> None:
    script = (
        OWNER
        + """
import subprocess
code = "import sys; print('up', flush=True); sys.stdin.read()"
child = subprocess.Popen([sys.executable, "-c", code], close_fds=False)
child.wait()
"""
    )
    owner = start(script, tmp_path)
    assert read_line(owner) == "up"
    owner.kill()
    owner.wait(timeout=60)
    meter = open_orphan(tmp_path / "h1.meter")
    assert meter is not None
    meter.close(remove=True)
    end(owner)


def test_nobody_knows_a_rate_before_a_tenth_of_a_second_is_over(tmp_path: Path) -> None:
    """A program that dies after its first read may have left far more unread than that read says."""
    meter = Meter.create(tmp_path, "h1")
    meter.add(1000, 0, 10**9)
    meter.add(1000, 0, 10**9 + 99_999_999)
    assert meter.peak_bytes_per_s is None
    meter.add(1, 0, 10**9 + 100_000_000)
    assert meter.peak_bytes_per_s == 20_000
    meter.close(remove=True)


def test_a_read_that_took_all_that_it_might_says_nothing_of_what_waits_behind_it(tmp_path: Path) -> None:
    """A client that is slow, or a lease that is small, makes reads smaller than what has come."""
    meter = Meter.create(tmp_path, "h1")
    meter.add(1000, 0, SECOND)
    meter.add(1000, 0, 2 * SECOND, filled=True)
    assert meter.peak_bytes_per_s is None
    meter.add(10, 0, 3 * SECOND)
    assert meter.peak_bytes_per_s == 10_000
    meter.close(remove=True)


def test_a_rate_that_was_measured_before_is_known_from_the_first_read_on(tmp_path: Path) -> None:
    earlier, meter = Meter.create(tmp_path, "h1"), Meter.create(tmp_path, "h2")
    earlier.add(500, 0, SECOND)
    earlier.add(1, 0, 2 * SECOND)
    meter.go_on_from(earlier)
    meter.add(100, 0, 3 * SECOND)
    assert meter.peak_bytes_per_s == 5_000
    for one in (earlier, meter):
        one.close(remove=True)


def test_what_was_read_in_a_first_tenth_before_counts_in_the_rate_afterwards(tmp_path: Path) -> None:
    """A connection may go on with another meter before its first tenth of a second is over."""
    earlier, meter = Meter.create(tmp_path, "h1"), Meter.create(tmp_path, "h2")
    earlier.add(3000, 0, SECOND)
    meter.go_on_from(earlier)
    meter.add(2, 0, SECOND + 1)
    assert meter.peak_bytes_per_s is None
    meter.add(900, 0, 9 * SECOND)
    assert meter.peak_bytes_per_s == 30_000
    for one in (earlier, meter):
        one.close(remove=True)
