"""Problems as a list that stays readable, and hints that stay quick."""

from __future__ import annotations

from budget_guard.policy.loading import parse_document
from budget_guard.policy.problems import SHOWN_MAX, Hints, Place, Problem, shortened
from tests.policy.broken import SOUND


def at(line: int, message: str = "wrong", *, note: bool = False) -> Problem:
    return Problem(Place("p", line, 1), message, "note" if note else "problem")


def test_a_list_that_is_not_too_long_is_shown_as_it_is() -> None:
    problems = [at(3), at(1), at(2, note=True)]
    assert shortened(problems) == tuple(sorted(problems))
    assert shortened([]) == ()


def test_of_a_long_list_the_last_line_counts_the_rest_where_it_begins() -> None:
    shown = shortened(at(line) for line in range(1, SHOWN_MAX + 31))
    assert len(shown) == SHOWN_MAX + 1
    assert shown[-1] == at(SHOWN_MAX + 1, "and 30 more")


def test_problems_are_shown_before_notes_and_still_in_file_order() -> None:
    notes = [at(line, "by the way", note=True) for line in range(1, SHOWN_MAX + 1)]
    shown = shortened([*notes, at(500), at(600)])
    assert shown[-3:] == (at(500), at(600), Problem(Place("p", SHOWN_MAX - 1, 1), "and 2 more", "note"))


def test_a_file_of_typing_errors_is_counted_and_its_first_ones_have_hints() -> None:
    names = ", ".join(f"GLBX.MDP{number}x" for number in range(19_000))
    loaded = parse_document(SOUND.replace("dataset: GLBX.MDP3, mode", f"dataset: [{names}], mode"), "p")
    assert loaded.policy is None
    assert len(loaded.problems) == 19_000
    assert len(loaded.shown) == SHOWN_MAX + 1
    assert str(loaded.shown[0]) == "p:13:23: unknown dataset 'GLBX.MDP0x'; did you mean 'GLBX.MDP3'?"
    assert loaded.shown[-1].message == f"and {19_000 - SHOWN_MAX} more"
    assert "did you mean" in loaded.shown[-2].message
    assert "did you mean" not in loaded.problems[-1].message


def test_hints_end_when_too_many_names_were_compared() -> None:
    hints, names = Hints(), [f"name{number}" for number in range(6_000)]
    assert hints.nearest("nam1", names) == "; did you mean 'name1'?"
    assert hints.nearest("nam1", names) == ""
