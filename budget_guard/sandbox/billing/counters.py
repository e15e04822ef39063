"""Counters that outlive a killed process: 64-bit words of a memory-mapped file, or of plain memory.

A counter is two words: whose it is (0: nobody's) and how much. A store into the mapping belongs to the file at once, so
it is there after `kill -9`; it is not flushed to the disk, so a crash of the whole machine may lose the last of it.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from budget_guard.errors import BudgetGuardError

_CELL_BYTES = 16
# The file grows by this much: 4096 cells, a multiple of every page size.
_CHUNK_BYTES = 64 * 1024


class BillError(BudgetGuardError):
    """A bill on disk that cannot be kept or read."""


class Cell:
    """One counter: `words[at]` is its value, and stays so until it is given back."""

    __slots__ = ("at", "words")

    def __init__(self, words: memoryview, at: int) -> None:
        self.words = words
        self.at = at


class Counters:
    """All counters of a bill, in plain memory."""

    def __init__(self) -> None:
        self._free: list[Cell] = []

    def take(self, owner: int) -> Cell:
        """A counter at 0, under its owner's number (not 0)."""
        if not self._free:
            words = memoryview(self._chunk()).cast("Q")
            self._free = [Cell(words, at) for at in range(len(words) - 1, 0, -2)]
        cell = self._free.pop()
        cell.words[cell.at] = 0
        cell.words[cell.at - 1] = owner
        return cell

    def give_back(self, cell: Cell) -> None:
        """The counter is nobody's again."""
        cell.words[cell.at - 1] = 0
        self._free.append(cell)

    def close(self) -> None:
        """The end. No counter may be used from then on."""
        self._free.clear()

    def _chunk(self) -> bytearray | mmap.mmap:
        return bytearray(_CHUNK_BYTES)


class FileCounters(Counters):
    """The same in a file, which one process holds at a time."""

    def __init__(self, path: Path) -> None:
        """Raises BillError when another process holds the file. What it held before is in it until `wipe`."""
        super().__init__()
        self._path = path
        self._descriptor = _locked(path)
        self._maps: list[mmap.mmap] = []

    def left(self) -> Iterator[tuple[int, int]]:
        """(owner, value) of every counter that a former process left taken."""
        return read_cells(self._path)

    def wipe(self) -> None:
        """Forget what a former process left. Before the first counter is taken."""
        os.ftruncate(self._descriptor, 0)

    def close(self) -> None:
        """Let the file go, empty."""
        super().close()
        with suppress(BufferError):  # a counter is still in someone's hands: its page stays as it is
            for chunk in self._maps:
                chunk.close()
            # Only now: a store into a page that is mapped and no longer in the file would kill the process.
            os.ftruncate(self._descriptor, 0)
        self.release()

    def release(self) -> None:
        """Let the file go as it is."""
        os.close(self._descriptor)

    def _chunk(self) -> mmap.mmap:
        start = len(self._maps) * _CHUNK_BYTES
        if hasattr(os, "posix_fallocate"):
            # So would a store into a page that the disk has no room for.
            os.posix_fallocate(self._descriptor, start, _CHUNK_BYTES)
        else:
            os.ftruncate(self._descriptor, start + _CHUNK_BYTES)
        self._maps.append(mmap.mmap(self._descriptor, _CHUNK_BYTES, offset=start))
        return self._maps[-1]


def read_cells(path: Path) -> Iterator[tuple[int, int]]:
    """(owner, value) of every counter in a file that is taken; none when there is no such file."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    words = memoryview(data[: len(data) // _CELL_BYTES * _CELL_BYTES]).cast("Q")
    for at in range(0, len(words), 2):
        if words[at]:
            yield words[at], words[at + 1]


def _locked(path: Path) -> int:
    """The file, created if need be, held until this process ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise BillError(f"{path}: another sandbox keeps this bill; give each its own file") from None
    return descriptor
