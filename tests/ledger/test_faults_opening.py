"""What is said when a ledger is opened: another one than last time, a network folder, one that was swapped in use."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from budget_guard.clock import ManualClock
from budget_guard.errors import LedgerError
from budget_guard.ledger import machine
from budget_guard.ledger.machine import file_system_at, network_file_system
from budget_guard.ledger.opening import open_for_use
from budget_guard.ledger.store import open_ledger
from budget_guard.ledger.whereabouts import Whereabouts, note_ledger
from tests.ledger.samples import OPENED, USD, claiming, terms

ONE = Whereabouts("id-1", "/home/me/ledger.sqlite")
TWO = Whereabouts("id-2", "postgresql://db/ledger")


# --- two ledgers by mistake ---------------------------------------------------------------------------------


def test_the_first_use_and_every_use_of_the_same_ledger_say_nothing(tmp_path: Path) -> None:
    assert [note_ledger(tmp_path, "desk", ONE, OPENED) for _ in range(3)] == [None, None, None]


def test_another_ledger_than_last_time_is_said_with_both_places_and_what_to_do(tmp_path: Path) -> None:
    note_ledger(tmp_path, "desk", ONE, OPENED)
    said = note_ledger(tmp_path, "desk", TWO, OPENED)
    assert said is not None
    for part in (
        "desk",
        ONE.place,
        TWO.place,
        "2026-11-23T14:30:00",
        "may pass every limit",
        "BUDGET_GUARD_LEDGER",
    ):
        assert part in said
    assert note_ledger(tmp_path, "desk", TWO, OPENED) is None
    assert note_ledger(tmp_path, "desk", ONE, OPENED) is not None


def test_a_ledger_that_was_replaced_where_it_was_is_another_one(tmp_path: Path) -> None:
    note_ledger(tmp_path, "desk", ONE, OPENED)
    said = note_ledger(tmp_path, "desk", Whereabouts("id-9", ONE.place), OPENED)
    assert said is not None and "deleted or replaced" in said


def test_a_ledger_that_was_moved_is_the_same_one(tmp_path: Path) -> None:
    note_ledger(tmp_path, "desk", ONE, OPENED)
    assert note_ledger(tmp_path, "desk", Whereabouts("id-1", "/elsewhere"), OPENED) is None


def test_accounts_have_ledgers_of_their_own(tmp_path: Path) -> None:
    note_ledger(tmp_path, "desk", ONE, OPENED)
    assert note_ledger(tmp_path, "lab", TWO, OPENED) is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"desk": 7}', '{"desk": {}}'])
def test_a_memory_that_was_damaged_is_begun_again(tmp_path: Path, text: str) -> None:
    (tmp_path / "ledgers.json").write_text(text)
    assert note_ledger(tmp_path, "desk", ONE, OPENED) is None
    assert note_ledger(tmp_path, "desk", TWO, OPENED) is not None


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert note_ledger(tmp_path / "file", "desk", ONE, OPENED) is None


# --- network folders ----------------------------------------------------------------------------------------

MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:44 / /home rw,relatime shared:1 - nfs4 filer:/home rw,vers=4.2
31 30 0:45 / /home/me/local\\040disk rw - xfs /dev/sdb rw
32 22 0:46 / /mnt/ssh rw - fuse.sshfs lab: rw
33 22 0:47 / /mnt/share rw - cifs //filer/share rw
34 22 0:48 / /mnt/plan rw - 9p hostshare rw
broken
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/x", "ext4"),
        ("/home/me/ledger", "nfs4"),
        ("/homes/me", "ext4"),
        ("/home/me/local disk/ledger", "xfs"),
        ("/mnt/ssh/x", "fuse.sshfs"),
        ("/mnt/share", "cifs"),
        ("/mnt/plan/x", "9p"),
    ],
)
def test_the_mount_that_a_folder_lies_under_names_its_file_system(path: str, kind: str) -> None:
    assert file_system_at(MOUNTS, Path(path)) == kind


def test_of_two_mounts_on_one_folder_the_later_one_shows() -> None:
    assert file_system_at(MOUNTS + "40 22 0:50 / /home rw - tmpfs tmpfs rw\n", Path("/home/me")) == "tmpfs"


def test_a_folder_of_meters_on_a_network_file_system_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"{MOUNTS}50 22 0:60 / {tmp_path.resolve()} rw - nfs4 filer:/x rw\n")
    monkeypatch.setattr(machine, "_MOUNTS", mounts)
    open_for_use(
        f"sqlite:///{tmp_path / 'ledger.sqlite'}", tmp_path, clock=ManualClock(OPENED), rehearsal=False
    ).ledger.close()
    assert "on a network file system (nfs4)" in caplog.text
    assert "use PostgreSQL" in caplog.text


def test_a_system_that_cannot_tell_its_mounts_is_not_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_MOUNTS", tmp_path / "nothing")
    assert network_file_system(tmp_path) is None


# --- files that change under a running program --------------------------------------------------------------


def swap(path: Path) -> None:
    """Another, whole ledger takes the place of the file."""
    other = path.with_suffix(".other")
    open_ledger(f"sqlite:///{other}").close()
    path.rename(path.with_suffix(".away"))
    other.rename(path)


@pytest.mark.parametrize(
    ("happens", "says"),
    [(Path.unlink, r"is gone .*put it back"), (swap, r"is another file .*put the first one back")],
)
def test_a_ledger_that_is_deleted_or_swapped_in_use_is_not_written_to(
    tmp_path: Path, happens: Callable[[Path], None], says: str
) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = open_ledger(f"sqlite:///{path}")
    ledger.open_hold(terms(), [USD], claiming({USD: (0, 7)}))
    happens(path)
    for call in (
        lambda: ledger.activate("h1"),
        lambda: ledger.balances([USD]),
        lambda: ledger.settle("h1", {}, []),
    ):
        with pytest.raises(LedgerError, match=says):
            call()
    ledger.close()


# --- what is left of a ledger -------------------------------------------------------------------------------


def test_an_empty_file_is_not_taken_for_a_new_ledger(tmp_path: Path) -> None:
    """A copy that failed, or a `>` too many: every budget would be whole again."""
    path = tmp_path / "ledger.sqlite"
    open_ledger(f"sqlite:///{path}").close()
    path.write_bytes(b"")
    with pytest.raises(LedgerError, match="is empty, which a ledger never is: it was cut off"):
        open_ledger(f"sqlite:///{path}")
    assert path.read_bytes() == b""


def test_a_log_without_its_ledger_is_not_made_a_new_one(tmp_path: Path) -> None:
    """What was spent last is in the log: it is left as it is."""
    path = tmp_path / "ledger.sqlite"
    log = tmp_path / "ledger.sqlite-wal"
    log.write_bytes(b"what was spent last")
    with pytest.raises(LedgerError, match=r"is gone, and its log ledger\.sqlite-wal is still there"):
        open_ledger(f"sqlite:///{path}")
    assert (log.read_bytes(), path.exists()) == (b"what was spent last", False)


def test_a_ledger_in_use_that_is_moved_away_without_its_log_is_said_to_be_gone(tmp_path: Path) -> None:
    """To another command, which makes nothing in its place; put back, everything is there."""
    path = tmp_path / "ledger.sqlite"
    ledger = open_ledger(f"sqlite:///{path}")
    ledger.open_hold(terms(), [USD], claiming({USD: (1, 2)}))
    path.rename(tmp_path / "elsewhere")
    with pytest.raises(LedgerError, match="is gone, and its log"):
        open_ledger(f"sqlite:///{path}")
    (tmp_path / "elsewhere").rename(path)
    assert open_ledger(f"sqlite:///{path}").balances([USD])[USD].held == 2
    ledger.close()


def test_a_new_ledger_leaves_nothing_else_behind(tmp_path: Path) -> None:
    open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}").close()
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.sqlite"]


def test_a_file_system_without_links_gets_its_ledger_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}").close()
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.sqlite"]


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "cannot grow, the disk is full: free some space; nothing was lost"),
        (errno.EDQUOT, "cannot grow, the disk is full"),
        (errno.EROFS, "cannot be written: make the file and its folder writable for this user"),
        (errno.EACCES, "cannot be written"),
    ],
)
def test_a_ledger_that_cannot_be_made_is_named_by_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    """Not by that of the file which was to become it; and nothing is left of that."""
    real = os.open

    def refuse(path: Path, flags: int, mode: int) -> int:
        if Path(path).parent == tmp_path:
            raise OSError(number, os.strerror(number), str(path))
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(LedgerError) as caught:
        open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    assert str(caught.value).startswith(f"the ledger {tmp_path / 'ledger.sqlite'} {says}")
    assert "/.ledger" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
