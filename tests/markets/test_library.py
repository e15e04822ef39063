from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from budget_guard.markets import library
from budget_guard.markets.library import Range, library_days

WANTED = Range("XNYS", "America/New_York", date(2026, 11, 23), date(2026, 12, 4))

ASK = """
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from budget_guard.markets.windows import WindowBook, list_windows
from budget_guard.policy.model import SessionClause, Stream
stream = Stream("nq", "GLBX.MDP3", "mbo", ("NQ.v.0",), windows=(SessionClause("regular"),))
cache = Path(sys.argv[1])
book = WindowBook(stream, "America/New_York", cache_dir=cache)
print(book.covering(datetime(2026, 11, 24, 15, tzinfo=UTC)))
print(list_windows(stream, "America/New_York", date(2026, 11, 23), date(2026, 11, 27), cache_dir=cache))
print(sorted({"pandas", "numpy", "exchange_calendars"} & set(sys.modules)), file=sys.stderr)
"""


def ask(cache: Path) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(cache)], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout, done.stderr.strip()


def test_a_second_process_answers_without_the_calendar_library(tmp_path: Path) -> None:
    """With a warm cache neither pandas nor exchange_calendars is imported, and the answer is the same."""
    cold, imported = ask(tmp_path)
    warm, nothing = ask(tmp_path)
    assert imported == "['exchange_calendars', 'numpy', 'pandas']"
    assert (warm, nothing) == (cold, "[]")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The file that a first question leaves."""
    library_days(WANTED, tmp_path)
    [path] = (tmp_path / "calendars").iterdir()
    return path


def refuse(wanted: Range) -> None:
    raise AssertionError("the library was asked")


def test_a_sound_copy_is_read_instead_of_asking(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = library_days(WANTED)
    monkeypatch.setattr(library, "_ask_library", refuse)
    assert library_days(WANTED, tmp_path) == fresh


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def not_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")


def other_json(path: Path) -> None:
    path.write_text("[1, 2]")


def too_deep(path: Path) -> None:
    path.write_text("[" * 100_000)


def changed_day(path: Path) -> None:
    path.write_text(path.read_text().replace("16:00:00", "23:00:00", 1))


def other_version(path: Path) -> None:
    content = json.loads(path.read_text())
    content["key"]["exchange_calendars"] = "4.5.0"
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("damage", [cut, empty, not_text, other_json, too_deep, changed_day, other_version])
def test_a_copy_that_is_not_sound_is_written_anew(
    damage: Callable[[Path], None], copy: Path, tmp_path: Path
) -> None:
    whole = copy.read_bytes()
    damage(copy)
    assert library_days(WANTED, tmp_path) == library_days(WANTED)
    assert copy.read_bytes() == whole
    assert list(copy.parent.iterdir()) == [copy]


def test_another_range_has_another_copy(copy: Path, tmp_path: Path) -> None:
    longer = Range(WANTED.calendar, WANTED.timezone, WANTED.first, date(2026, 12, 11))
    assert len(library_days(longer, tmp_path)) == len(library_days(WANTED, tmp_path)) + 5
    assert len(list(copy.parent.iterdir())) == 2


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "calendars").write_text("a file where the folder should be")
    assert library_days(WANTED, tmp_path) == library_days(WANTED)


def test_an_interrupted_write_leaves_no_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, target: Path) -> None:
        raise OSError("no space")

    monkeypatch.setattr(Path, "replace", fail)
    assert library_days(WANTED, tmp_path) == library_days(WANTED)
    assert list((tmp_path / "calendars").iterdir()) == []
