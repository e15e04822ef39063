"""How records are written: DBN, CSV or JSON, plain or as zstd, in pieces as they come.

The text is the vendor's own: `databento_dbn.Transcoder`, which its tools write CSV and JSON with, makes every line.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import databento_dbn as dbn
import zstandard

from budget_guard.sandbox.historical.request import invalid

ENCODINGS = ("dbn", "csv", "json")
COMPRESSIONS = ("none", "zstd")
_COMPRESSION_LEVEL = 1
# How much is written in one go: text takes about 3 microseconds a record with zstd, DBN a tenth of that.
_TEXT_SLICE = 128 * 1024
_DBN_SLICE = 1024 * 1024
# As web forms and pydantic, which the vendor's API is made with, spell them.
_TRUE = ("true", "1", "yes", "on", "t", "y")
_FALSE = ("false", "0", "no", "off", "f", "n")


@dataclass(frozen=True, slots=True)
class Form:
    """What is asked of the bytes: an encoding, a compression, and how text shows prices, times and symbols."""

    encoding: str
    compression: str = "none"
    pretty_px: bool = False
    pretty_ts: bool = False
    map_symbols: bool = False

    @property
    def is_text(self) -> bool:
        return self.encoding != "dbn"

    @property
    def suffix(self) -> str:
        """What a file of it ends with, as `csv.zst`."""
        return f"{self.encoding}.zst" if self.compression == "zstd" else self.encoding

    @property
    def content_type(self) -> str:
        if self.compression == "zstd" or not self.is_text:
            return "application/octet-stream"
        return "text/csv" if self.encoding == "csv" else "application/x-ndjson"


def parse_form(fields: Mapping[str, str]) -> Form:
    """The form asked for; CSV without compression when nothing is said, as at the vendor's. Raises ApiError."""
    return Form(
        choice(fields, "encoding", ENCODINGS, "csv"),
        choice(fields, "compression", COMPRESSIONS, "none"),
        flag(fields, "pretty_px"),
        flag(fields, "pretty_ts"),
        flag(fields, "map_symbols"),
    )


def choice(fields: Mapping[str, str], name: str, known: tuple[str, ...], default: str) -> str:
    """A field with one of some values. Raises ApiError."""
    value = fields.get(name) or default
    if value not in known:
        raise invalid(name, f"{value!r} is not one of {', '.join(known)}")
    return value


def flag(fields: Mapping[str, str], name: str) -> bool:
    """A field that is true or false; false when it is left out. Raises ApiError."""
    value = (fields.get(name) or "").lower()
    if value and value not in _TRUE + _FALSE:
        raise invalid(name, f"should be true or false; got {fields[name]!r}")
    return value in _TRUE


class Encoder:
    """Writes a DBN header and records in a form, a slice at a time.

    Nothing whole is kept back: with zstd every slice is flushed, so that what was written can be read, and nothing
    uncounted is. (A record that a slice ends within is held until the rest of it comes, where it is text.)
    """

    def __init__(self, form: Form, header: bytes) -> None:
        self._text = _Text(form, header) if form.is_text else None
        self._squeeze = _compressor() if form.compression == "zstd" else None
        self._header = header

    def begin(self) -> bytes:
        """What comes before the first record: the DBN header, or the CSV column names."""
        return self._out(self._header if self._text is None else self._text.take())

    def add(self, records: bytes) -> bytes:
        """Some records."""
        return self._out(records if self._text is None else self._text.add(records))

    def end(self) -> bytes:
        """What comes after the last record."""
        return b"" if self._squeeze is None else self._squeeze.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH)

    def _out(self, data: bytes) -> bytes:
        if self._squeeze is None or not data:
            return data
        return self._squeeze.compress(data) + self._squeeze.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)


class _Text:
    """The vendor's transcoder, asked for its output piece by piece."""

    def __init__(self, form: Form, header: bytes) -> None:
        self._buffer = io.BytesIO()
        self._transcoder = dbn.Transcoder(
            self._buffer,
            dbn.Encoding.from_str(form.encoding),
            dbn.Compression.from_str("none"),
            pretty_px=form.pretty_px,
            pretty_ts=form.pretty_ts,
            map_symbols=form.map_symbols,
        )
        self._transcoder.write(header)

    def add(self, records: bytes) -> bytes:
        self._transcoder.write(records)
        return self.take()

    def take(self) -> bytes:
        self._transcoder.flush()
        text = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return text


def slices(form: Form, records: bytes) -> Iterator[bytes]:
    """Records in pieces that are each written within a few milliseconds; a piece may end within a record."""
    step = _TEXT_SLICE if form.is_text else _DBN_SLICE
    for start in range(0, len(records), step):
        yield records[start : start + step]


def _compressor() -> zstandard.ZstdCompressionObj:
    return zstandard.ZstdCompressor(level=_COMPRESSION_LEVEL).compressobj()
