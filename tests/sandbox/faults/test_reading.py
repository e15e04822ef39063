"""The language of faults: what is said is what is armed, and what is wrong is said, all of it and where."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.sandbox.faults import words
from budget_guard.sandbox.faults.model import KINDS, After, Fault
from budget_guard.sandbox.faults.reading import Reading, read_fault


def read(said: Any) -> tuple[Fault | None, list[str]]:
    reading = Reading()
    fault = read_fault(reading, said, ())
    return fault, [str(problem) for problem in reading.problems]


def test_a_fault_has_what_where_when_and_how_often() -> None:
    """Every common word, as a value."""
    fault, problems = read(
        {
            "do": "slow_link",
            "bytes_per_s": 1000,
            "dataset": "GLBX.MDP3",
            "key": "00001",
            "at": "2026-11-24T14:30:00Z",
            "after": "1_000 records",
            "for": "1.5m",
            "times": 3,
            "skip": 1,
        }
    )
    assert problems == []
    assert fault == Fault(
        "slow_link",
        dataset="GLBX.MDP3",
        key="00001",
        at=datetime(2026, 11, 24, 14, 30, tzinfo=UTC),
        after=After(1000, "records"),
        for_s=90,
        times=3,
        skip=1,
        args={"bytes_per_s": 1000},
    )


@pytest.mark.parametrize(
    ("said", "times"),
    [
        ({"do": "silence"}, 1),
        ({"do": "silence", "for": "10s"}, None),
        ({"do": "silence", "for": "10s", "after": "10s"}, 1),
        ({"do": "silence", "for": "10s", "times": 2}, 2),
        ({"do": "silence", "times": "all"}, None),
        ({"do": "unpaid"}, None),
    ],
)
def test_a_fault_strikes_once_unless_it_is_a_window(said: Any, times: int | None) -> None:
    """`times` is 1; all that come in a window `for` so long, unless `after` makes it each connection's own."""
    fault, _ = read(said)
    assert fault is not None and fault.times == times


@pytest.mark.parametrize(
    ("said", "problems"),
    [
        ([], ["should be a mapping of names to values; got []"]),
        ({}, ["needs do: one of"]),
        ({"do": 3}, ["do: 3 is not known here"]),
        ({"do": "silenc"}, ["did you mean silence?"]),
        ({"do": "silence", "afer": "3s"}, ["afer is not known here; did you mean after?"]),
        (
            {"do": "silence", "after": "soon"},
            ["after should be as 10s, 100000 bytes or 500 records; got 'soon'"],
        ),
        ({"do": "silence", "at": "noon", "for": 10}, ["should be a duration", "should be an instant"]),
        ({"do": "silence", "at": "2026-11-24T14:30"}, ["at should be an instant"]),
        ({"do": "silence", "times": 0}, ["times should be a whole number, 1 or more, or all; got 0"]),
        ({"do": "silence", "skip": True}, ["skip should be a whole number, 0 or more; got True"]),
        ({"do": "slow_link"}, ["slow_link needs bytes_per_s"]),
        (
            {"do": "lose_replay", "share": 1.5},
            ["share should be a share, more than 0 and at most 1; got 1.5"],
        ),
        ({"do": "gateway_restart"}, ["gateway_restart needs for"]),
        ({"do": "unpaid", "times": 2}, ["times is not known here"]),
        ({"do": "break_history", "after": "10s"}, ["after should be in bytes for break_history; got '10s'"]),
        ({"do": "http_error", "status": 200}, ["status should be a whole number, 400 to 599; got 200"]),
        ({"do": "http_error", "status": 500, "on": "live"}, ["on should be all, one of metadata"]),
        (
            {"do": "price", "dataset": "A", "schema": "mbo", "mode": "live", "usd_per_gib": -1},
            ["0 or more; got -1"],
        ),
        ({"do": "error_record", "code": "two"}, ["code should be one of auth_failed, key_deactivated"]),
    ],
)
def test_what_is_wrong_is_said_with_what_would_be_right(said: Any, problems: list[str]) -> None:
    """All of it at once."""
    fault, found = read(said)
    assert fault is None
    assert len(found) == len(problems)
    assert all(any(text in one for one in found) for text in problems)


_SAMPLES: dict[str, Any] = {
    "bytes_per_s": 1000,
    "ms": 5,
    "schema": "mbo",
    "mode": "live",
    "usd_per_gib": 2,
    "status": 503,
    "factor": 2,
    "dataset": "GLBX.MDP3",
    "for": "10s",
    "after": "10 bytes",
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_can_be_armed_with_what_it_needs_and_says_itself_again(name: str) -> None:
    """`words()` is the fault in its own language."""
    kind = KINDS[name]
    needs = {*kind.must, *(word for word, param in kind.params.items() if param.required)}
    fault, problems = read({"do": name, **{word: _SAMPLES[word] for word in needs}})
    assert problems == []
    assert fault is not None
    said = {
        word: Decimal(value) if word in ("usd_per_gib", "factor", "share") else value
        for word, value in fault.words().items()
    }
    assert read(said)[0] == fault


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_words = st.sampled_from(
    sorted({"do", *(word for kind in KINDS.values() for word in (*kind.common, *kind.params))})
)


@settings(max_examples=200)
@given(st.dictionaries(_words, _json, max_size=5), st.sampled_from(list(KINDS)))
def test_no_value_is_more_than_a_problem(said: dict[str, Any], name: str) -> None:
    """Whatever JSON holds, it is a fault or has problems, never both or neither."""
    fault, problems = read({**said, "do": name})
    assert (fault is None) == bool(problems)


def test_a_time_from_now_is_one() -> None:
    """`+2m` counts from when the fault is armed."""
    fault, _ = read({"do": "close", "at": "+2m"})
    assert fault is not None and fault.at == timedelta(minutes=2)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("2h1m17s", 7277), ("1h30m", 5400), ("1h 30m", 5400), ("1d2h", 93_600)]
)
def test_durations_are_those_that_policies_take(text: str, seconds: int) -> None:
    assert words.duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "1h1h", "17s2m", "5", "h", "1h30", "-5s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(words.BadWord, match="as 10s, 500ms, 5m or 1h30m"):
        words.duration_s(text)
