"""What is said about broken policies: the table in `broken.txt`, and that the sound policy under it is sound."""

from __future__ import annotations

import re

import pytest

from budget_guard.policy.loading import parse_document
from tests.policy.broken import SOUND, TABLE, Case, read_cases, written_again

CASES = read_cases(TABLE.read_text(encoding="utf-8"))
LINE = re.compile(r"(?:[\w/.-]+:)?[1-9][0-9]*:[1-9][0-9]*: (note: )?(?P<message>.+)")


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_broken_policy_gets_exactly_these_words_at_this_place(case: Case) -> None:
    assert case.now_said() == case.said, "read the difference, then: python -m tests.policy.broken"


def test_the_table_is_large_and_every_case_in_it_says_something() -> None:
    assert len(CASES) > 200
    assert all(case.said for case in CASES)


def test_every_message_is_one_printable_line_with_a_place() -> None:
    for case in CASES:
        for line in case.said:
            assert LINE.fullmatch(line), line
            assert line.isprintable()


def test_the_table_is_written_again_as_it_stands() -> None:
    """The update command changes nothing but what is said: headings, edits and files stay."""
    few = "# heading\n\nreplace  name: desk\nby       name: a b\nsays     old\n"
    assert written_again(few).splitlines()[:4] == few.splitlines()[:4]
    assert written_again(few).splitlines()[4].startswith("says     2:7: 'a b' is not a name")


def test_the_sound_policy_has_no_problem() -> None:
    loaded = parse_document(SOUND, "p")
    assert loaded.problems == ()
    assert loaded.policy is not None


def test_every_problem_is_reported_at_once_and_in_file_order() -> None:
    text = SOUND
    for old, new in (
        ("200 USD", "200"),
        ("schema: mbo", "schema: mb0"),
        ("max_request: 5 USD", "max_request: 5"),
        ("name: desk", "name: a b"),
    ):
        text = text.replace(old, new, 1)
    loaded = parse_document(text, "p")
    assert [problem.place.line for problem in loaded.problems] == [2, 10, 18, 27]


def test_a_problem_leaves_no_policy_and_a_note_does() -> None:
    assert parse_document(SOUND.replace("200 USD", "200"), "p").policy is None
    noted = parse_document(SOUND.replace("200 USD", "0 USD"), "p")
    assert [problem.severity for problem in noted.problems] == ["note"]
    assert noted.policy is not None
