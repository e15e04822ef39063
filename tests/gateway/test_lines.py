"""Lines of the live protocol: read as they come, bounded, written so that nothing breaks them."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_guard.gateway.wire.lines import (
    LINE_MAX_BYTES,
    LineError,
    LineReader,
    answers_challenge,
    challenge_response,
    format_line,
    parse_fields,
)

texts = st.text(st.characters(exclude_characters="\n\r", codec="utf-8"), max_size=40)
names = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=8)
values = st.text(st.characters(exclude_characters="|\n\r", codec="utf-8"), max_size=20)


def lines_of(reader: LineReader) -> list[str]:
    found = []
    while (line := reader.next_line()) is not None:
        found.append(line)
    return found


@given(st.lists(texts, max_size=5), texts, st.data())
def test_lines_are_the_same_however_the_bytes_are_cut(
    lines: list[str], rest: str, data: st.DataObject
) -> None:
    stream = "".join(f"{line}\n" for line in lines).encode() + rest.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    reader = LineReader()
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        reader.receive(stream[start:end])
        found += lines_of(reader)
    assert found == lines
    assert reader.rest() == rest.encode()
    assert reader.rest() == b""


def test_a_line_may_end_as_on_windows() -> None:
    reader = LineReader()
    reader.receive(b"a=1\r\n")
    assert reader.next_line() == "a=1"


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_that_is_too_long_is_an_error_whether_it_has_ended_or_not(end: bytes) -> None:
    reader = LineReader()
    reader.receive(b"x" * (LINE_MAX_BYTES + 1) + end)
    with pytest.raises(LineError, match="more than 65536 bytes"):
        reader.next_line()


def test_the_longest_line_is_read() -> None:
    reader = LineReader()
    reader.receive(b"x" * LINE_MAX_BYTES + b"\n")
    assert reader.next_line() == "x" * LINE_MAX_BYTES


def test_a_line_that_is_no_text_is_an_error_and_the_next_one_is_read() -> None:
    reader = LineReader()
    reader.receive(b"\xff\xfe\na=1\n")
    with pytest.raises(LineError, match="not UTF-8"):
        reader.next_line()
    assert reader.next_line() == "a=1"


@given(st.dictionaries(names, values, min_size=1, max_size=6))
def test_what_is_written_is_read_back_in_its_order(fields: dict[str, str]) -> None:
    reader = LineReader()
    reader.receive(format_line(fields))
    line = reader.next_line()
    assert line is not None
    assert list(parse_fields(line).items()) == list(fields.items())


def test_unknown_fields_and_fields_without_a_value_are_kept() -> None:
    assert parse_fields("start_session|later=x=y|empty=") == {
        "start_session": "",
        "later": "x=y",
        "empty": "",
    }


@pytest.mark.parametrize("line", ["", "|", "a=1|", "=1", "a=1||b=2"])
def test_a_field_without_a_name_is_an_error(line: str) -> None:
    with pytest.raises(LineError, match="not a line of key=value fields"):
        parse_fields(line)


def test_a_field_that_comes_twice_is_an_error() -> None:
    with pytest.raises(LineError, match="'symbols' comes twice"):
        parse_fields("symbols=NQ|symbols=ES")


@pytest.mark.parametrize("value", ["a|b", "a\nb", "a\rb"])
def test_a_value_that_would_break_the_line_is_not_written(value: str) -> None:
    with pytest.raises(LineError, match="field 'error'"):
        format_line({"error": value})


def test_the_answer_to_a_challenge_is_a_hash_and_the_end_of_the_key() -> None:
    digest = hashlib.sha256(b"abc|db-12345678").hexdigest()
    assert challenge_response("abc", "db-12345678") == f"{digest}-45678"


@given(texts, texts)
def test_only_the_right_key_answers_a_challenge(key: str, other: str) -> None:
    assert answers_challenge(challenge_response("abc", key), "abc", key)
    assert answers_challenge(challenge_response("abc", other), "abc", key) == (key == other)
    assert not answers_challenge(other, "abc", key)
