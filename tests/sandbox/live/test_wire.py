"""The lines of the live protocol, read without a socket."""

from __future__ import annotations

import hashlib

import pytest
from databento.common.cram import get_challenge_response
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.sandbox.live.wire import (
    WireError,
    find_key,
    greeting,
    is_start,
    parse_login,
    parse_start,
    parse_subscription,
    rejected,
)

KEY = "db-0123456789abcdefghijklmnopqrs"
CHALLENGE = "c0ffee"


def login_line(extra: str = "", key: str = KEY) -> bytes:
    digest = hashlib.sha256(f"{CHALLENGE}|{key}".encode()).hexdigest()
    return f"auth={digest}-{key[-5:]}|dataset=GLBX.MDP3|encoding=dbn{extra}".encode()


@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=6, max_size=32), st.text("0123456789abcdef"))
@settings(max_examples=100)
def test_the_official_answer_to_the_challenge_is_accepted(key: str, challenge: str) -> None:
    """What the official client computes proves its key, and no other."""
    answer = get_challenge_response(challenge, key)
    assert find_key(answer, challenge, ["another-key", key]) == key
    assert find_key(answer, challenge + "0", [key]) is None
    assert find_key(answer, challenge, [key + "x"]) is None


def test_a_login_is_read() -> None:
    """All the fields that matter, and none of the unknown ones."""
    login = parse_login(
        login_line("|ts_out=1|compression=none|heartbeat_interval_s=12|client=x|new=1"), CHALLENGE, [KEY]
    )
    assert (login.key, login.dataset, login.ts_out, login.heartbeat_s) == (KEY, "GLBX.MDP3", True, 12.0)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (login_line(key="db-wrong-key"), "Authentication failed."),
        (b"", "Authentication failed."),
        (b"auth=\xff", "not UTF-8"),
        (login_line("|compression=gzip"), "compression 'gzip'; one of none, zstd"),
        (login_line("|slow_reader_behavior=drop"), "slow_reader_behavior 'drop'; one of warn, skip"),
        (login_line("|heartbeat_interval_s=4"), "heartbeat_interval_s '4'"),
    ],
)
def test_a_login_that_cannot_be_is_refused(line: bytes, error: str) -> None:
    """The text for the client says what is wrong, in words that its parser can take."""
    with pytest.raises(WireError, match=error) as caught:
        parse_login(line, CHALLENGE, [KEY])
    assert "|" not in str(caught.value)
    assert rejected(str(caught.value)).startswith(b"success=0|error=")


def test_a_subscription_is_read() -> None:
    """Symbols, replay start and number."""
    line = parse_subscription(
        b"schema=mbo|stype_in=parent|symbols=NQ.FUT,ES.FUT|start=17|snapshot=0|id=3|is_last=1"
    )
    assert (line.schema, line.stype_in, line.symbols) == ("mbo", "parent", ("NQ.FUT", "ES.FUT"))
    assert (line.start_ns, line.snapshot, line.number) == (17, False, 3)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"symbols=NQ.v.0", "expected schema="),
        (b"schema=mbo|symbols=", "0 symbols"),
        (b"schema=mbo|symbols=" + b",".join([b"A"] * 501), "501 symbols"),
        (b"schema=mbo|stype_in=isin|symbols=A", "stype_in 'isin'"),
        (b"schema=mbo|symbols=A|start=yesterday", "start 'yesterday'"),
        (b"schema=mbo|symbols=A|start=1|snapshot=1", "exclude each other"),
    ],
)
def test_a_subscription_that_cannot_be_is_refused(line: bytes, error: str) -> None:
    """Each defect has its own sentence."""
    with pytest.raises(WireError, match=error):
        parse_subscription(line)


@pytest.mark.parametrize(
    ("line", "starts"), [(b"start_session", True), (b"start_session=0\r", True), (b"schema=mbo", False)]
)
def test_both_spellings_start(line: bytes, starts: bool) -> None:
    """Rust sends `start_session`, Python `start_session=0`."""
    assert is_start(line) is starts


def test_the_greeting_has_the_version_and_the_challenge() -> None:
    """Two lines, the challenge last."""
    version, challenge, end = greeting("abc").decode().split("\n")
    assert version.startswith("lsg_version=")
    assert (challenge, end) == ("cram=abc", "")


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("", None),
        ("0", 0),
        ("1795531200000000001", 1795531200000000001),
        ("2026-11-24T14:40:00Z", 1795531200000000000),
        ("2026-11-24T14:40:00.000000001", 1795531200000000001),
        ("2026-11-24T15:40:00.5+01:00", 1795531200500000000),
        ("2026-11-24", 1795478400000000000),
    ],
)
def test_a_replays_start_is_nanoseconds_or_an_iso_instant(text: str, nanoseconds: int | None) -> None:
    """Exactly, and in UTC unless it says otherwise."""
    assert parse_start(text) == nanoseconds


@given(st.lists(st.integers(1, 500), min_size=1, max_size=4))
@settings(max_examples=50)
def test_lines_of_one_subscription_are_joined(sizes: list[int]) -> None:
    """All symbols in the order of the lines, until the one that says it is the last."""
    names = [[f"A{at}.{n}" for n in range(size)] for at, size in enumerate(sizes)]
    lines = [
        parse_subscription(
            f"schema=mbo|symbols={','.join(part)}|id=2|is_last={int(part is names[-1])}".encode()
        )
        for part in names
    ]
    whole = lines[0]
    for more in lines[1:]:
        assert not whole.is_last
        whole = whole.continued(more)
    assert whole.is_last
    assert list(whole.symbols) == [name for part in names for name in part]


def test_lines_of_different_subscriptions_are_not_joined() -> None:
    """A line that never ended is not taken for another's beginning."""
    first = parse_subscription(b"schema=mbo|symbols=A|id=1|is_last=0")
    with pytest.raises(WireError, match="differ in more than their symbols"):
        first.continued(parse_subscription(b"schema=trades|symbols=B|id=2"))


@pytest.mark.parametrize(
    ("extra", "compressed", "skips"),
    [
        ("", False, True),
        ("|compression=zstd|slow_reader_behavior=warn", True, False),
        ("|compression=|slow_reader_behavior=skip", False, True),
    ],
)
def test_how_a_session_is_to_be_served_is_read(extra: str, compressed: bool, skips: bool) -> None:
    """Not compressed and caught up when slow, unless the login says otherwise."""
    login = parse_login(login_line(extra), CHALLENGE, [KEY])
    assert (login.compressed, login.skips) == (compressed, skips)
