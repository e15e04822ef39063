"""The lines of the live protocol, as the server reads and writes them. No I/O here."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass

LSG_VERSION = "0.6.1-sandbox"

# A subscription line carries at most 500 symbols, and a symbol at most 70 characters.
LINE_MAX = 64 * 1024

HEARTBEAT_DEFAULT_S = 30.0
HEARTBEAT_MIN_S, HEARTBEAT_MAX_S = 5, 1800

_STYPES = frozenset({"raw_symbol", "instrument_id", "continuous", "parent"})


class WireError(ValueError):
    """A line that breaks the protocol; the text is what the client is told."""


@dataclass(frozen=True, slots=True)
class Login:
    """What the authentication line asks for."""

    key: str
    dataset: str
    ts_out: bool
    heartbeat_s: float


@dataclass(frozen=True, slots=True)
class SubscriptionLine:
    """One subscription line. `start_ns` is None without a replay."""

    schema: str
    stype_in: str
    symbols: tuple[str, ...]
    start_ns: int | None
    snapshot: bool
    number: int | None


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
    if fields.get("compression", "none") != "none":
        raise WireError(f"Unsupported compression {fields['compression']!r}; the sandbox sends none")
    interval = fields.get("heartbeat_interval_s") or str(int(HEARTBEAT_DEFAULT_S))
    if not interval.isdigit() or not HEARTBEAT_MIN_S <= int(interval) <= HEARTBEAT_MAX_S:
        raise WireError(f"Invalid heartbeat_interval_s {interval!r}; it should be 5 to 1800")
    return Login(key, fields.get("dataset", ""), fields.get("ts_out", "0") == "1", float(interval))


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
    if not symbols or len(symbols) > 500:
        raise WireError(f"Invalid subscription: {len(symbols)} symbols; 1 to 500 fit on a line")
    start = fields.get("start", "")
    if start and not start.isdigit():
        raise WireError(f"Invalid subscription: start {start!r}; it should be nanoseconds since 1970")
    snapshot = fields.get("snapshot", "0") == "1"
    if start and snapshot:
        raise WireError("Invalid subscription: start and snapshot exclude each other")
    number = fields.get("id", "")
    return SubscriptionLine(
        fields["schema"],
        stype_in,
        symbols,
        int(start) if start else None,
        snapshot,
        int(number) if number.isdigit() else None,
    )
