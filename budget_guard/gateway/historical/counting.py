"""Counts the billable bytes of a historical answer as it passes: uncompressed DBN record bytes."""

from __future__ import annotations

import zstandard

from budget_guard.gateway.wire.framer import Framer


class RecordCounter:
    """Feed it the body as it comes; `feed` says how many billable bytes that was. Raises ValueError for other data."""

    def __init__(self, *, zstd: bool) -> None:
        self._framer = Framer()
        self._zstd = zstd
        self._open_frame = zstandard.ZstdDecompressor().decompressobj
        self._frame = self._open_frame()
        self._in_frame = False
        self.wire_bytes = 0
        self.plain_bytes = 0

    def feed(self, data: bytes) -> int:
        self.wire_bytes += len(data)
        if self._zstd:
            data = self._expand_frames(data)
        self.plain_bytes += len(data)
        return self._framer.feed(data).billable_bytes

    @property
    def complete(self) -> bool:
        """Whether the body could end here: a header was seen, no record and no frame is cut."""
        return self._framer.between_records and not self._in_frame

    def _expand_frames(self, data: bytes) -> bytes:
        """The plain bytes of compressed ones, which may hold several frames."""
        plain = []
        try:
            while data:
                self._in_frame = True
                plain.append(self._frame.decompress(data))
                data = self._frame.unused_data
                if self._frame.eof:
                    self._frame = self._open_frame()
                    self._in_frame = False
        except zstandard.ZstdError as error:
            raise ValueError(f"the answer is not the zstd stream it should be: {error}") from error
        return b"".join(plain)

    def expand(self, wire_bytes: int) -> int:
        """How many billable bytes unseen wire bytes may stand for: twice the ratio seen so far, four at least."""
        if not self._zstd:
            return wire_bytes
        ratio = -(-2 * self.plain_bytes // self.wire_bytes) if self.wire_bytes else 0
        return wire_bytes * max(4, ratio)
