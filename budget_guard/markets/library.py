"""What the calendar library says, day by day, and a copy of it on disk.

The library brings pandas along, which costs half a second and 80 MB that `budget-guard status` should not pay. What is
kept is the library's bare answer (wall-clock open and close per label): the table's corrections are applied after
reading, so the copy depends on nothing but the library's version, the calendar and the range.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class LibraryDay:
    """One session of a library calendar: open and close on the exchange's wall clock, without a zone."""

    open_local: datetime
    close_local: datetime


@dataclass(frozen=True, slots=True)
class Range:
    """Which part of which library calendar: labels `first` to `last`, both included."""

    calendar: str
    timezone: str
    first: date
    last: date


def library_days(wanted: Range, cache_dir: Path | None = None) -> Mapping[date, LibraryDay]:
    """The library's sessions by label, from the copy in `cache_dir` when there is a sound one.

    A copy that is missing, damaged or of another library version is replaced; a folder that cannot be written
    costs nothing but time.
    """
    key = _key(wanted)
    path = (
        None if cache_dir is None else cache_dir / "calendars" / f"{wanted.calendar}-{_digest(key)[:16]}.json"
    )
    days = None if path is None else _read_copy(path, key)
    if days is None:
        days = _ask_library(wanted)
        if path is not None:
            with suppress(OSError):
                _write_copy(path, key, days)
    return days


def _ask_library(wanted: Range) -> dict[date, LibraryDay]:
    import exchange_calendars

    zone = ZoneInfo(wanted.timezone)
    with warnings.catch_warnings():
        # The library's own use of pandas, which newer pandas calls deprecated, is no concern of the caller's.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        calendar = exchange_calendars.get_calendar(
            wanted.calendar, start=wanted.first.isoformat(), end=wanted.last.isoformat()
        )
    schedule = calendar.schedule
    return {
        label.date(): LibraryDay(_wall_clock(opened, zone), _wall_clock(closed, zone))
        for label, opened, closed in zip(schedule.index, schedule["open"], schedule["close"], strict=True)
    }


def _wall_clock(timestamp: Any, zone: ZoneInfo) -> datetime:
    local: datetime = timestamp.to_pydatetime().astimezone(zone)
    return local.replace(tzinfo=None)


def _key(wanted: Range) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "exchange_calendars": version("exchange_calendars"),
        "calendar": wanted.calendar,
        "timezone": wanted.timezone,
        "first": wanted.first.isoformat(),
        "last": wanted.last.isoformat(),
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _read_copy(path: Path, key: dict[str, Any]) -> dict[date, LibraryDay] | None:
    """The days in a copy; None for one that is not there, not whole or not what was asked for."""
    try:
        copy = json.loads(path.read_text(encoding="utf-8"))
        if copy["key"] != key or copy["sha256"] != _digest(copy["days"]):
            return None
        return {
            date.fromisoformat(label): LibraryDay(
                datetime.fromisoformat(opened), datetime.fromisoformat(closed)
            )
            for label, opened, closed in copy["days"]
        }
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _write_copy(path: Path, key: dict[str, Any], days: Mapping[date, LibraryDay]) -> None:
    rows = [
        [label.isoformat(), day.open_local.isoformat(), day.close_local.isoformat()]
        for label, day in days.items()
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"key": key, "sha256": _digest(rows), "days": rows}, file)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
