"""Counts the billable bytes of a historical answer as it passes: uncompressed DBN record bytes, whatever its form.

The vendor bills records alike in every encoding. In DBN they are counted byte by byte; text has one line for each, so
that lines times the size of a record say the same.
"""

from __future__ import annotations

from typing import Protocol

import zstandard

from budget_guard.gateway.wire.framer import Framer

# How many plain bytes a compressed one stands for, and how many of record a byte of text, at least as far as is
# assumed of bytes that nobody saw: a book whose levels are empty is written in fewer characters than it has bytes.
_PLAIN_RATIO = 4
_TEXT_RATIO = 8


class Counter(Protocol):
    """Feed it the body as it comes; `feed` says how many billable bytes that was. Raises ValueError for other data."""

    def feed(self, data: bytes) -> int: ...

    @property
    def complete(self) -> bool:
        """Whether the body could end here: nothing in it is cut."""

    def expand(self, wire_bytes: int) -> int:
        """How many billable bytes unseen wire bytes may stand for."""


def counter_for(encoding: str, record_bytes: int | None, *, zstd: bool) -> Counter | None:
    """The counter of an encoding; None where the bytes of an answer say nothing about its records."""
    if encoding == "dbn":
        return RecordCounter(zstd=zstd)
    if encoding in ("csv", "json") and record_bytes is not None:
        return LineCounter(record_bytes, zstd=zstd, has_header=encoding == "csv")
    return None


class _Plain:
    """The plain bytes of a body that may be compressed."""

    def __init__(self, *, zstd: bool) -> None:
        self._zstd = zstd
        self._open_frame = zstandard.ZstdDecompressor().decompressobj
        self._frame = self._open_frame()
        self.in_frame = False
        self._wire_bytes = 0
        self._plain_bytes = 0

    def feed(self, data: bytes) -> bytes:
        self._wire_bytes += len(data)
        if self._zstd:
            data = self._expand_frames(data)
        self._plain_bytes += len(data)
        return data

    def _expand_frames(self, data: bytes) -> bytes:
        """The plain bytes of compressed ones, which may hold several frames."""
        plain = []
        try:
            while data:
                self.in_frame = True
                plain.append(self._frame.decompress(data))
                data = self._frame.unused_data
                if self._frame.eof:
                    self._frame = self._open_frame()
                    self.in_frame = False
        except zstandard.ZstdError as error:
            raise ValueError(f"the answer is not the zstd stream it should be: {error}") from error
        return b"".join(plain)

    def expand(self, wire_bytes: int) -> int:
        """How many plain bytes unseen wire bytes may stand for: twice the ratio seen so far, four at least."""
        if not self._zstd:
            return wire_bytes
        ratio = -(-2 * self._plain_bytes // self._wire_bytes) if self._wire_bytes else 0
        return wire_bytes * max(_PLAIN_RATIO, ratio)


class RecordCounter:
    """Counts DBN."""

    def __init__(self, *, zstd: bool) -> None:
        self._framer = Framer()
        self._plain = _Plain(zstd=zstd)

    def feed(self, data: bytes) -> int:
        return self._framer.feed(self._plain.feed(data)).billable_bytes

    @property
    def complete(self) -> bool:
        """Whether the body could end here: a header was seen, no record and no frame is cut."""
        return self._framer.between_records and not self._plain.in_frame

    def expand(self, wire_bytes: int) -> int:
        return self._plain.expand(wire_bytes)


class LineCounter:
    """Counts text: a line for each record, and in CSV one with the names of the columns before them."""

    def __init__(self, record_bytes: int, *, zstd: bool, has_header: bool) -> None:
        self._record_bytes = record_bytes
        self._plain = _Plain(zstd=zstd)
        self._has_header = has_header
        self._begun = False
        self._within_line = False

    def feed(self, data: bytes) -> int:
        text = self._plain.feed(data)
        if not text:
            return 0
        lines = text.count(b"\n")
        if not self._begun:
            self._begun = True
            # Names of columns begin with a letter; a record begins with a number or an instant.
            self._has_header = self._has_header and chr(text[0]).isalpha()
        if self._has_header and lines:
            self._has_header = False
            lines -= 1
        self._within_line = not text.endswith(b"\n")
        return lines * self._record_bytes

    @property
    def complete(self) -> bool:
        """Whether the body could end here: after a whole line, or empty."""
        return not (self._within_line or self._plain.in_frame)

    def expand(self, wire_bytes: int) -> int:
        return _TEXT_RATIO * self._plain.expand(wire_bytes)
