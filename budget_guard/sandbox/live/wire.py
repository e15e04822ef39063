"""The lines of the live protocol, as the server reads and writes them. No I/O here."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from budget_guard.clock import ns_from_instant

LSG_VERSION = "0.6.1-sandbox"

# A subscription line carries at most 500 symbols, and a symbol at most 70 characters.
SYMBOLS_MAX = 500
LINE_MAX = 64 * 1024

HEARTBEAT_DEFAULT_S = 30.0
HEARTBEAT_MIN_S, HEARTBEAT_MAX_S = 5, 1800

_U64_MAX = 2**64 - 1

_STYPES = frozenset({"raw_symbol", "instrument_id", "continuous", "parent"})
_COMPRESSIONS = ("none", "zstd")
_SLOW_READER_BEHAVIORS = ("warn", "skip")
_INSTANT = re.compile(r"(\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?)(?:\.(\d{1,9}))?(Z|[+-]\d\d:?\d\d)?")


class WireError(ValueError):
    """A line that breaks the protocol; the text is what the client is told."""


@dataclass(frozen=True, slots=True)
class Login:
    """What the authentication line asks for.

    `skips` says whether a slow reader is caught up with live data: so unless it asks for warnings instead.
    """

    key: str
    dataset: str
    ts_out: bool
    heartbeat_s: float
    compressed: bool = False
    skips: bool = True


@dataclass(frozen=True, slots=True)
class SubscriptionLine:
    """One subscription. `start_ns` is None without a replay, 0 for all there is to replay.

    A list of more than 500 symbols comes on several lines of the same `number`, all but the last with `is_last=0`.
    """

    schema: str
    stype_in: str
    symbols: tuple[str, ...]
    start_ns: int | None
    snapshot: bool
    number: int | None
    is_last: bool = True

    def continued(self, more: SubscriptionLine) -> SubscriptionLine:
        """This subscription with the symbols of its next line. Raises WireError when that is of another one."""
        if replace(more, symbols=self.symbols, is_last=self.is_last) != self:
            raise WireError(
                "Invalid subscription: the lines of one subscription differ in more than their symbols"
            )
        return replace(self, symbols=self.symbols + more.symbols, is_last=more.is_last)


def greeting(challenge: str) -> bytes:
    return f"lsg_version={LSG_VERSION}\ncram={challenge}\n".encode()


def accepted(session_id: int) -> bytes:
    return f"success=1|session_id={session_id}\n".encode()


def rejected(error: str) -> bytes:
    return f"success=0|error={error}\n".encode()


def fields_of(line: bytes) -> dict[str, str]:
    """`k=v|k=v` as a dict; a field without `=` has an empty value."""
    try:
        text = line.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise WireError("Invalid line: not UTF-8") from None
    return {name: value for name, _, value in (token.partition("=") for token in text.split("|"))}


def find_key(answer: str, challenge: str, keys: Iterable[str]) -> str | None:
    """The key that an answer to the challenge proves, if any.

    The answer is `sha256hex("challenge|key")-` and the key's last five characters.
    """
    for key in keys:
        digest = hashlib.sha256(f"{challenge}|{key}".encode()).hexdigest()
        if hmac.compare_digest(answer.encode(), f"{digest}-{key[-5:]}".encode()):
            return key
    return None


def parse_login(line: bytes, challenge: str, keys: Iterable[str]) -> Login:
    """The authentication line, proven. Raises WireError with the text for the client."""
    fields = fields_of(line)
    key = find_key(fields.get("auth", ""), challenge, keys)
    if key is None:
        raise WireError("Authentication failed.")
    if fields.get("encoding", "dbn") != "dbn":
        raise WireError(f"Unsupported encoding {fields['encoding']!r}; this gateway sends dbn")
    compression = _choice(fields, "compression", _COMPRESSIONS) or "none"
    behavior = _choice(fields, "slow_reader_behavior", _SLOW_READER_BEHAVIORS) or "skip"
    interval = fields.get("heartbeat_interval_s") or str(int(HEARTBEAT_DEFAULT_S))
    if not _is_whole(interval, HEARTBEAT_MAX_S) or int(interval) < HEARTBEAT_MIN_S:
        raise WireError(f"Invalid heartbeat_interval_s {interval[:40]!r}; it should be 5 to 1800")
    return Login(
        key,
        fields.get("dataset", ""),
        fields.get("ts_out", "0") == "1",
        float(interval),
        compressed=compression == "zstd",
        skips=behavior == "skip",
    )


def _choice(fields: dict[str, str], name: str, known: tuple[str, ...]) -> str:
    """The value of a field, "" when it is not there. Raises WireError for one that is not known."""
    value = fields.get(name, "").lower()
    if value and value not in known:
        raise WireError(f"Unsupported {name} {value!r}; one of {', '.join(known)}")
    return value


def is_start(line: bytes) -> bool:
    """`start_session` and `start_session=0` both start."""
    return "start_session" in fields_of(line)


def parse_subscription(line: bytes) -> SubscriptionLine:
    """A subscription line. Raises WireError that says what is wrong with it."""
    fields = fields_of(line)
    if "schema" not in fields or "symbols" not in fields:
        raise WireError("Invalid subscription: expected schema=, stype_in= and symbols=")
    stype_in = fields.get("stype_in", "raw_symbol")
    if stype_in not in _STYPES:
        raise WireError(f"Invalid subscription: stype_in {stype_in!r}; one of {', '.join(sorted(_STYPES))}")
    symbols = tuple(symbol for symbol in fields["symbols"].split(",") if symbol)
    if not symbols or len(symbols) > SYMBOLS_MAX:
        raise WireError(f"Invalid subscription: {len(symbols)} symbols; 1 to {SYMBOLS_MAX} fit on a line")
    start_ns = parse_start(fields.get("start", ""))
    snapshot = fields.get("snapshot", "0") == "1"
    if start_ns is not None and snapshot:
        raise WireError("Invalid subscription: start and snapshot exclude each other")
    number = fields.get("id", "")
    return SubscriptionLine(
        fields["schema"],
        stype_in,
        symbols,
        start_ns,
        snapshot,
        int(number) if _is_whole(number, _U64_MAX) else None,
        is_last=fields.get("is_last", "1") != "0",
    )


def _is_whole(text: str, most: int) -> bool:
    """Whether a text is a whole number up to `most`, read only when it has no more digits than that."""
    return text.isascii() and text.isdecimal() and len(text) <= len(str(most)) and int(text) <= most


def parse_start(text: str) -> int | None:
    """Where a replay starts: nanoseconds since 1970 or an ISO instant (UTC unless it says otherwise), exactly."""
    if not text:
        return None
    if _is_whole(text, _U64_MAX):
        return int(text)
    match = _INSTANT.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        instant = datetime.fromisoformat(match[1] + (match[3] or ""))
    except ValueError:
        raise WireError(
            f"Invalid subscription: start {text[:40]!r}; it should be nanoseconds since 1970, "
            "or as 2026-11-24T14:40:00Z"
        ) from None
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    return ns_from_instant(instant) + int((match[2] or "0").ljust(9, "0"))
