"""The cache saves requests and never lies."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from budget_guard.vendor.cache import MetadataCache, cache_key

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "metadata.sqlite"


@pytest.fixture
def cache(path: Path) -> Iterator[MetadataCache]:
    opened = MetadataCache(path)
    yield opened
    opened.close()


def test_an_answer_outlives_the_program(path: Path, cache: MetadataCache) -> None:
    """What was stored is there for the next one that opens the file, with the time it was stored."""
    cache.put("k", {"mbo": "1.80"}, NOW)
    again = MetadataCache(path)
    cached = again.get("k", NOW)
    again.close()
    assert cached is not None
    assert (cached.value, cached.stored_utc) == ({"mbo": "1.80"}, NOW)


def test_an_answer_expires(cache: MetadataCache) -> None:
    """An answer is used until just before its greatest age."""
    cache.put("k", 1, NOW)
    day = timedelta(hours=24)
    assert cache.get("k", NOW + day - timedelta(seconds=1), day) is not None
    assert cache.get("k", NOW + day, day) is None


def test_a_final_answer_never_expires(cache: MetadataCache) -> None:
    """Without a greatest age an answer is good for ever."""
    cache.put("k", 1, NOW)
    assert cache.get("k", NOW + timedelta(days=10_000)) is not None


def test_an_answer_from_the_future_is_not_young(cache: MetadataCache) -> None:
    """A clock that was ahead once does not keep a price alive."""
    cache.put("k", 1, NOW + timedelta(days=400))
    assert cache.get("k", NOW, timedelta(hours=24)) is None


@pytest.mark.parametrize("damage", [b"not a database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_damaged_file_is_replaced(path: Path, damage: bytes) -> None:
    """Damage costs the answers, not the program."""
    path.parent.mkdir(parents=True)
    path.write_bytes(damage)
    cache = MetadataCache(path)
    assert cache.get("k", NOW) is None
    cache.put("k", 2, NOW)
    cache.close()
    again = MetadataCache(path)
    cached = again.get("k", NOW)
    again.close()
    assert cached is not None
    assert cached.value == 2


def test_a_file_damaged_while_it_is_open_is_replaced(path: Path, cache: MetadataCache) -> None:
    """The file may be overwritten under a running program."""
    cache.put("k", "x" * 20_000, NOW)
    path.write_bytes(b"garbage" * 5000)
    assert cache.get("k", NOW) is None
    cache.put("k", 3, NOW)
    cached = cache.get("k", NOW)
    assert cached is not None
    assert cached.value == 3


def test_a_digit_changed_on_the_disk_is_not_believed(path: Path, cache: MetadataCache) -> None:
    """SQLite notices a broken page, not a changed value: each answer is sealed."""
    cache.put("k", 123_456, NOW)
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("UPDATE answers SET value = '923456'")
    assert cache.get("k", NOW) is None


def test_a_thread_that_is_late_does_no_harm(path: Path, cache: MetadataCache) -> None:
    """An answer that comes after the cache was closed is dropped; the file keeps what it had."""
    cache.put("k", 1, NOW)
    cache.close()
    cache.put("late", 2, NOW)
    assert cache.get("k", NOW) is None
    again = MetadataCache(path)
    kept = again.get("k", NOW), again.get("late", NOW)
    again.close()
    assert kept[0] is not None
    assert kept[1] is None


def test_a_file_of_another_version_is_replaced(path: Path) -> None:
    """Everything in it can be asked again."""
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("CREATE TABLE answers (key TEXT PRIMARY KEY, value TEXT)")
        raw.execute("PRAGMA user_version = 1")
    cache = MetadataCache(path)
    cache.put("k", 1, NOW)
    found = cache.get("k", NOW)
    cache.close()
    assert found is not None


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path: Path) -> None:
    """Where nothing can be written the answers live as long as the program."""
    (tmp_path / "file").write_text("in the way")
    cache = MetadataCache(tmp_path / "file" / "metadata.sqlite")
    cache.put("k", 1, NOW)
    assert cache.get("k", NOW) is not None
    cache.close()


def test_keys_tell_different_questions_apart() -> None:
    """The same parts give the same key, other parts another, and the parts cannot be read from it."""
    assert cache_key("a", ("b",)) == cache_key("a", ["b"])
    assert cache_key("a", "b") != cache_key("ab")
    assert "secret" not in cache_key("secret")
