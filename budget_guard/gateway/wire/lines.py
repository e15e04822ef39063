"""The text part of the live protocol, without a socket: lines of `key=value` fields joined by `|`.

Source: the vendor's live API reference and its open-source clients.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

# A subscription line holds at most 500 symbols of at most 71 characters; the rest of a line is short.
LINE_MAX_BYTES = 64 * 1024
KEY_TAIL_LENGTH = 5


class LineError(ValueError):
    """A line that is too long, not text, or has no `key=value` field."""


class LineReader:
    """Takes bytes as they come, hands out whole lines, and keeps what follows the last one.

    `receive` stores, `next_line` returns a line without its newline or None when none is complete; whoever
    stops reading lines takes what is left with `rest`.
    """

    def __init__(self, line_max_bytes: int = LINE_MAX_BYTES) -> None:
        self._buffer = bytearray()
        self._line_max_bytes = line_max_bytes

    def receive(self, data: bytes) -> None:
        self._buffer += data

    def next_line(self) -> str | None:
        """The next line. Raises LineError for one that is too long or not UTF-8."""
        end = self._buffer.find(b"\n")
        if end > self._line_max_bytes or (end < 0 and len(self._buffer) > self._line_max_bytes):
            raise LineError(f"a line of more than {self._line_max_bytes} bytes")
        if end < 0:
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            return line.decode("utf-8").rstrip("\r")
        except UnicodeDecodeError as error:
            raise LineError("a line that is not UTF-8 text") from error

    def rest(self) -> bytes:
        """Bytes after the last line taken; the reader is empty afterwards."""
        data = bytes(self._buffer)
        self._buffer.clear()
        return data


def parse_fields(line: str) -> dict[str, str]:
    """A line's fields in their order; unknown ones are kept. `start_session` alone is a field without value.

    Raises LineError for an empty line, a field without a name, or a name that comes twice.
    """
    fields: dict[str, str] = {}
    for part in line.split("|"):
        name, _, value = part.partition("=")
        if not name:
            raise LineError(f"not a line of key=value fields: {line[:80]!r}")
        if name in fields:
            raise LineError(f"field {name!r} comes twice")
        fields[name] = value
    return fields


def format_line(fields: Mapping[str, str | int]) -> bytes:
    """Fields as a line. Raises LineError for text that would break it."""
    for name, value in fields.items():
        if any(mark in f"{name}{value}" for mark in "|\n\r"):
            raise LineError(f"field {name!r} holds a character that ends a field or a line")
    return ("|".join(f"{name}={value}" for name, value in fields.items()) + "\n").encode()


def challenge_response(challenge: str, key: str) -> str:
    """The answer to the gateway's challenge: a hash of both, and the key's last five characters."""
    digest = hashlib.sha256(f"{challenge}|{key}".encode()).hexdigest()
    return f"{digest}-{key[-KEY_TAIL_LENGTH:]}"


def answers_challenge(response: str, challenge: str, key: str) -> bool:
    """Whether a response proves the key, compared in constant time."""
    return hmac.compare_digest(response.encode(), challenge_response(challenge, key).encode())
