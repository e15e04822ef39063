"""YAML to plain data: what is refused, how fast, and where a message points."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.policy import reading
from budget_guard.policy.problems import Place
from budget_guard.policy.reading import NODES_MAX, SIZE_MAX, Plain, read_file, read_text
from budget_guard.policy.yaml_events import PythonEvents
from tests.policy.broken import SOUND
from tests.policy.test_loading import WHOLE


def said(text: str) -> list[str]:
    return [str(problem) for problem in read_text(text, "p.yaml").problems]


HOSTILE = {
    "a tag that would run code": (
        "a: !!python/object/apply:os.system [ls]",
        "p.yaml:1:4: the tag 'tag:yaml.org,2002:python/object/apply:os.system' is not allowed",
    ),
    "a harmless tag": ("a: !!str 1", "p.yaml:1:4: the tag 'tag:yaml.org,2002:str' is not allowed"),
    "a local tag": ("a: !env HOME", "p.yaml:1:4: the tag '!env' is not allowed"),
    "many aliases": (
        "a: &a [x]\nb: [" + "*a, " * 20 + "]",
        "p.yaml:2:69: more than 16 aliases (*name): write the values out",
    ),
    "a few aliases of something large": (
        "a: &a [" + "x, " * 5000 + "]\n" + "".join(f"k{n}: *a\n" for n in range(10)),
        "p.yaml:4:5: aliases (*name) that grow too large: write the values out",
    ),
    "an anchor bomb": (
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(
            f"{c}: &{c} [{', '.join(['*' + p] * 9)}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "p.yaml:3:36: more than 16 aliases (*name): write the values out",
    ),
    "a list that holds itself": ("a: &a [*a]", "p.yaml:1:8: the alias '*a' has no anchor above it"),
    "deep lists": ("a: " + "[" * 100_000, "p.yaml:1:35: nested more than 32 levels deep"),
    "deep mappings": ("a: " + "{a: " * 5000, "p.yaml:1:125: nested more than 32 levels deep"),
    "deep block lists": ("a:\n" + " - " + "- " * 100_000, "p.yaml:2:64: nested more than 32 levels deep"),
    "too many values": ("a: [" + "x, " * 30_000 + "]", f": more than {NODES_MAX} values in one file"),
    "too large": ("#" * (SIZE_MAX + 1), "p.yaml:1:1: the file is larger than 1 MiB"),
    "a merge key": ("a: {<<: {b: 1}}", "p.yaml:1:5: merge keys (<<) are not supported"),
    "two documents": ("a: 1\n---\nb: 2", "p.yaml:2:1: a second document starts here"),
    "nothing": ("", "p.yaml:1:1: the file is empty"),
    "comments alone": ("# later\n", "p.yaml:1:1: the file is empty"),
    "a list at the top": ("- a", "p.yaml:1:1: a policy is a mapping"),
    "text at the top": ("hello", "p.yaml:1:1: a policy is a mapping"),
    "a NUL": ("a: b\n c\x00", "p.yaml:2:3: the character U+0000 is not allowed"),
    "a tab as indentation": ("a:\n\tb: 1", "p.yaml:2:1: a tab where YAML allows only spaces"),
    "a key that is a list": ("? [a]\n: 1", "p.yaml:1:3: a key must be plain text"),
    "a duplicate key": ("a: 1\nb: 2\na: 3", "p.yaml:3:1: 'a' is written twice (first on line 1): keep one"),
    "a nested duplicate key": ("a: {b: 1, b: 2}", "p.yaml:1:11: 'b' is written twice"),
    "a key without a value": ("a:\nb: 1", "p.yaml:1:1: 'a' has no value: write one or leave the key out"),
    "an empty item": ("a:\n  - x\n  -\n", "p.yaml:3:4: an empty item"),
    "two colons": (
        "a: b: c",
        "p.yaml:1:5: a ':' that cannot stand here: check the indentation, and put quotes around",
    ),
    "wrong indentation": (
        "a:\n  b: 1\n c: 2",
        "p.yaml:3:2: this line is in another column than those it belongs to",
    ),
    "an unclosed list": ("a: [1,", "p.yaml:1:7: the file ends where a value should stand"),
    "an unclosed quote": ('a: "x', "p.yaml:1:4: the quoted text that starts here is never closed"),
    "a star that is no alias": ("a: *", "p.yaml:1:4: put quotes around text that starts with '*'"),
    "an unknown alias": ("a: *b", "p.yaml:1:4: the alias '*b' has no anchor above it"),
    "another YAML": (
        "%YAML 3.0\n---\na: 1",
        "p.yaml:1:1: a line that starts with '%' is not part of a policy",
    ),
}


@pytest.fixture(params=["the fast parser", "PyYAML's own"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both parsers, one after the other."""
    if request.param == "PyYAML's own":
        monkeypatch.setattr(reading, "open_events", PythonEvents)


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(("text", "expected"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_and_broken_yaml_is_a_problem_with_a_place(text: str, expected: str) -> None:
    """Whichever parser PyYAML has, in the same words and at the same place."""
    problems = said(text)
    assert len(problems) == 1
    assert expected in problems[0]


@pytest.mark.parametrize(
    "text",
    [
        SOUND,
        WHOLE,
        "a: >\n  folded\n  text\nb: |\n  kept\n",
        "a: \"x\\u0041\\\n  y\"\nb: 'it''s'\n",
        "a: [1, {b: 2, c: [3]}, 'd', ~]\n# e\n...\n",
        "a: &x [1]\nb: *x\n? c\n: d\n",
        "a: {hours: 18:00-18:30, 'b': \"c\", d: e f}\n",
        "\u00e9: \u2028x\nb: \u0085\nc: d",
    ],
)
def test_both_parsers_read_the_same_from_the_same_places(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = read_text(text, "p")
    monkeypatch.setattr(reading, "open_events", PythonEvents)
    assert read_text(text, "p") == fast


BROKEN_YAML = {
    "a: 1\n- b": "p.yaml:2:1: a list item among the keys of a mapping",
    "a:\n  - x\n  b: 1": "p.yaml:3:3: a key among the items of a list",
    "a: [1 2]]": "p.yaml:1:9: a ']' that closes nothing",
    "a: ]": "p.yaml:1:4: a ']' where a value should stand",
    "a: [1, 2\nb: 3": "p.yaml:1:4: the list that starts here is never closed: write its closing ']'",
    "a: {x: 1 y: 2}": "p.yaml:1:11: a mapping in braces goes wrong here",
    "a: [x y: 1, z: ]]": "p.yaml:1:17: a ']' that closes nothing",
    "a: 'don't'": "p.yaml:1:9: text after the end of a value",
    "a: |x\n": "p.yaml:1:5: put quotes around text that starts with '|' or '>'",
    "a: - b": "p.yaml:1:4: a list cannot start here",
    "a: 1\nb\nc: 2": "p.yaml:2:1: a line without a colon",
    "a:\n  b\n  c: 2": "p.yaml:2:3: a line without a colon",
    "a: 1\n b: 2": "p.yaml:2:2: this line is indented further than line 1, which has a value already",
    "  a: 1\nb: 2": "p.yaml:2:1: this line is in another column than the first one",
    "a: 1\n\tb: 2": "p.yaml:2:1: a tab where YAML allows only spaces",
    "a: @x": "p.yaml:1:4: text may not start with '@'",
    "a: !<x": "p.yaml:1:7: tags are not allowed",
    "a: &": "p.yaml:1:4: put quotes around text that starts with '&'",
    "a: {b:1}": "p.yaml:1:5: 'b:1' has no value: write a space after the colon",
}


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(("text", "expected"), BROKEN_YAML.items())
def test_what_is_not_yaml_is_told_in_plain_words(text: str, expected: str) -> None:
    assert expected in said(text)[0]


@pytest.mark.parametrize("key", ["a\\nb", "\\e[31mred", "x" * 500])
def test_what_a_file_holds_is_quoted_on_one_short_line_without_control_characters(key: str) -> None:
    for text in (f'"{key}":', f'"{key}": 1\n"{key}": 2', f'a: {{"{key}": }}'):
        (problem,) = read_text(text, "p").problems
        assert problem.message.isprintable()
        assert len(problem.message) < 150


def test_scalars_stay_text_whatever_yaml_would_make_of_them() -> None:
    """Tickers ON and NO, base-60 hours, octal and exponent numbers: none is turned into something else."""
    data = read_text("a: [NO, ON, 18:00, 010, 1e3, 2026-12-24, 0.1, .inf, TRUE, 'true']", "p").data
    assert data == {"a": ["NO", "ON", "18:00", "010", "1e3", "2026-12-24", "0.1", ".inf", "TRUE", "true"]}
    assert [type(item) for item in data["a"]] == [Plain] * 9 + [str]


def test_a_small_number_of_aliases_is_plain_convenience() -> None:
    assert read_text("a: &x {b: 1}\nc: *x", "p").data == {"a": {"b": "1"}, "c": {"b": "1"}}


def test_a_place_points_at_the_value_or_at_the_key_above_it() -> None:
    marks = read_text("a:\n  b: 1\n  c:\n    - x\n    - {d: y}\n", "p").marks
    assert marks.at("a").shown == Place("p", 1, 1)
    assert marks.at("a", "b").shown == Place("p", 2, 6)
    assert marks.at("a", "c").shown == Place("p", 3, 3)
    assert marks.at("a", "c", 0).shown == Place("p", 4, 7)
    assert marks.at("a", "c", 1, "d").shown == Place("p", 5, 11)
    assert marks.at("a", "c", 1, "d").key_place == Place("p", 5, 8)


def test_a_part_that_is_not_written_is_answered_with_the_nearest_one_around_it() -> None:
    marks = read_text("a:\n  b: 1\n", "p").marks
    assert marks.at("a", "b", 0).shown == marks.at("a", "b").shown
    assert marks.at("a", "z").shown == marks.at("a").shown
    assert marks.at("z").shown == Place("p", 1, 1)


def test_a_missing_file_a_folder_and_text_that_is_not_utf8_are_problems(tmp_path: Path) -> None:
    assert "there is no such file" in str(read_file(tmp_path / "none.yaml").problems[0])
    assert "cannot be read: Is a directory" in str(read_file(tmp_path).problems[0])
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("a: 1\nname: caf\u00e9\n".encode("latin-1"))
    assert str(read_file(latin).problems[0]) == f"{latin}:2:10: the file is not UTF-8: save it as UTF-8 text"
    wide = tmp_path / "wide.yaml"
    wide.write_bytes("a: 1\n".encode("utf-16"))
    assert "the file is not UTF-8" in str(read_file(wide).problems[0])


def test_a_file_beyond_the_bound_is_refused_without_being_parsed(tmp_path: Path) -> None:
    large = tmp_path / "large.yaml"
    large.write_bytes(b"a: 1\n" * (SIZE_MAX // 5 + 1))
    assert "larger than 1 MiB" in str(read_file(large).problems[0])


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    marked = tmp_path / "marked.yaml"
    marked.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    found = read_file(marked)
    assert found.data == {"a": "1", "b": "2"}
    assert found.marks.at("b").shown == Place(str(marked), 2, 4)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"%@`#,?\n\t \x00\u00e9\u2028<1."), max_size=40))
def test_no_text_at_all_raises(text: str) -> None:
    found = read_text(text, "p")
    assert (found.data is None) <= bool(found.problems)
    assert all(problem.place.line >= 1 and problem.place.column >= 1 for problem in found.problems)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_at_all_raise(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    path.write_bytes(raw)
    found = read_file(path)
    assert (found.data is None) <= bool(found.problems)
