"""The journal of a bill: one line of JSON for each thing that happened to it, appended as it happens.

What `write()` took survives the process; a crash of the whole machine may lose what its kernel had not stored yet.
Beside FILE, which others read, stand FILE.journal and FILE.counters, which together are the bill.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from budget_guard.sandbox.billing.counters import BillError

VERSION = 1


def journal_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.journal")


def counters_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.counters")


class Journal:
    """Appends events. Without a path it keeps nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._descriptor: int | None = None

    def write(self, *event: Any) -> None:
        """Append an event: its name and what belongs to it."""
        if self._descriptor is not None:
            data = json.dumps(event, separators=(",", ":")).encode() + b"\n"
            while data:
                data = data[os.write(self._descriptor, data) :]

    def start_over(self, *event: Any) -> None:
        """Begin a journal that holds one event only, which stands for all before; then append to it."""
        if self._path is None:
            return
        fresh = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with fresh.open("w", encoding="utf-8") as file:
            file.write(json.dumps(event, separators=(",", ":")) + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        self.close()
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def read_events(path: Path) -> Iterator[list[Any]]:
    """The events of a journal; none when there is no such file. A last line that was cut short is left out.

    Raises BillError for a line that is no event.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                event = json.loads(line)
            except ValueError:
                event = None
            if not isinstance(event, list) or not event:
                raise BillError(f"{path}:{number}: not an event of a bill's journal")
            yield event
