"""A validation error in the reader's words: what was found, where, what would be right."""

from __future__ import annotations

from pydantic_core import ErrorDetails

from budget_guard.policy.document import keys_at
from budget_guard.policy.problems import Hints, Problem, found
from budget_guard.policy.reading import Key, Marks, Reading
from budget_guard.policy.scalars import MISSPELT


def problem_of(error: ErrorDetails, reading: Reading, hints: Hints) -> Problem | None:
    """The problem that an error is; None when the reading has spoken of the same thing."""
    loc, marks = tuple(step for step in error["loc"] if step != "[key]"), reading.marks
    here = marks.at(*loc)
    if error["type"] == "extra_forbidden":
        key = str(loc[-1])
        hint = hints.nearest(key, keys_at(loc[:-1]))
        return Problem(here.key_place, f"unknown key {found(key)}{hint}")
    if error["type"] == "missing":
        around, name = marks.at(*loc[:-1]), str(loc[-1])
        if name in around.parts:
            return None
        example = keys_at(loc[:-1]).get(name)
        return Problem(around.shown, f"'{name}' is missing: write it, as `{name}: {example}`")
    if error["type"] == "too_short" and error["input"]:
        return None  # its items were all wrong, and each has been spoken of
    if isinstance(error["input"], dict) and _spoken_of(here, reading):
        return None  # what the whole lacks may be the very key that could not be read
    place = here.shown if loc == error["loc"] else here.key_place
    return Problem(place, _message(error, loc, hints))


def _spoken_of(whole: Marks, reading: Reading) -> bool:
    places = {part.key_place for part in whole.parts.values()}
    return any(problem.place in places for problem in reading.problems)


def _message(error: ErrorDetails, loc: tuple[Key, ...], hints: Hints) -> str:
    name = next((str(step) for step in reversed(loc) if isinstance(step, str)), "the file")
    subject = f"each of '{name}'" if isinstance(loc[-1], int) else f"'{name}'"
    match error["type"]:
        case "value_error":
            message = str(error["ctx"]["error"])
            return f"{subject} {message}" if message.startswith(("should ", "is ")) else message
        case misspelt if misspelt == MISSPELT:
            context = error["ctx"]
            hint = hints.nearest(context["name"], context["valid"])
            return f"{context['message']}{hint or '; write as ' + context['example']}"
        case "model_type" | "dict_type":
            return f"{subject} should be {_mapping_text(loc)}, found {found(error['input'])}"
        case "tuple_type":
            return (
                f"{subject} should be a list, as {_LISTS.get(name, '[a, b]')}, found {found(error['input'])}"
            )
        case "too_short":
            return f"{subject} is empty: write at least one"
        case "too_long":
            most, has = error["ctx"]["max_length"], error["ctx"]["actual_length"]
            return f"{subject} has {has} items, and {most} at most are read"
        case _:
            return f"{subject}: {error['msg']}"


_LISTS = {
    "budgets": "[{name: account, month: 200 USD}]",
    "credits": "[{amount: 125 USD}]",
    "fallback": "[{name: other, run: [python, other.py]}]",
    "run": "[python, other.py]",
}
# Mappings whose keys are the user's names, with what one entry looks like.
_NAMED = {
    "streams": "nq-mbo: {dataset: GLBX.MDP3, schema: mbo, symbols: [NQ.v.0], stype_in: continuous, windows: always}",
    "billing": "GLBX.MDP3: {live: metered}",
    "prices": "GLBX.MDP3: {live: {mbo: 2.16}}",
}


def _mapping_text(loc: tuple[Key, ...]) -> str:
    """What a mapping at a place looks like, by its first key."""
    always = "`always` or " if "windows" in loc[:-1] or loc[-1] == "windows" else ""
    example = next((f", as {{{key}: {value}}}" for key, value in keys_at(loc).items() if value), "")
    if loc[-1] in _NAMED:
        example = f", as {{{_NAMED[str(loc[-1])]}}}"
    elif loc[:2] == ("account", "prices"):
        example = ", as {live: {mbo: 2.16}}" if len(loc) == 3 else ", as {mbo: 2.16}"
    return f"{always}a mapping{example}"
