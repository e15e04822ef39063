"""The JSON commands of `POST /control`: every fault of the language, and what is done at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from budget_guard.sandbox.faults import words
from budget_guard.sandbox.faults.model import KINDS, Fault
from budget_guard.sandbox.faults.names import Names
from budget_guard.sandbox.faults.reading import Reading, read_fault, unknown


class UnknownCommand(ValueError):
    """A control command that cannot be understood; its text says what would be right."""


@dataclass(frozen=True, slots=True)
class Action:
    """Something that is done at once: the method of `Sandbox` with that name, and what it is told."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


# Done at once -> the words they take.
ACTIONS: Mapping[str, Mapping[str, Callable[[Any], Any]]] = {
    "list": {},
    "drop": {"fault": words.choice(*KINDS), "dataset": words.text, "number": words.whole(1)},
    "close_live": {"dataset": words.text},
    "reset_live": {"dataset": words.text},
    "restore_live": {"dataset": words.text},
}
# Short for faults; see `_spelled_out`.
SHORT = ("metadata_429", "metadata_503")
COMMANDS = (*ACTIONS, *SHORT, *KINDS)


def parse_command(body: Any, names: Names | None = None) -> Action | Fault:
    """`{"do": NAME, ...}` as something to do at once, or as a fault to arm. Raises UnknownCommand.

    With `names` the datasets and keys that it speaks of must be among those.
    """
    name = body.get("do") if isinstance(body, Mapping) else None
    if not isinstance(name, str):
        raise UnknownCommand(f'expected {{"do": NAME}} with one of {", ".join(COMMANDS)}; got {body!r}')
    if name not in COMMANDS:
        raise UnknownCommand(f'expected {{"do": NAME}}: {unknown(name, COMMANDS)}')
    reading = Reading()
    told = {word: value for word, value in body.items() if word != "do"}
    if name in ACTIONS:
        found: Action | Fault | None = _read_action(reading, name, told)
        dataset = told.get("dataset")
        if names is not None and isinstance(dataset, str) and (said := names.dataset(dataset)) is not None:
            reading.say(("dataset",), said)
    else:
        found = read_fault(reading, _spelled_out(reading, name, told), ())
        if names is not None:
            reading.check_names(names)
    if reading.problems or found is None:
        raise UnknownCommand(f"{name}: {'; '.join(map(str, reading.problems))}")
    return found


def _read_action(reading: Reading, name: str, told: Mapping[str, Any]) -> Action:
    known = ACTIONS[name]
    reading.mapping(told, (), known)
    if name == "restore_live" and "dataset" not in told:
        reading.say((), "needs dataset, as GLBX.MDP3")
    return Action(name, {word: reading.part(known[word], told, word, ()) for word in told if word in known})


def _spelled_out(reading: Reading, name: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """A command in the words of the language: what is short for what."""
    said = {"do": name, **told}
    if "count" in said and name in (*SHORT, "refuse_live"):
        said["times"] = reading.word(words.whole(1), said.pop("count"), ("count",)) or 1
    if "after_bytes" in said and name == "break_history":
        said["after"] = (
            f"{reading.word(words.whole(1), said.pop('after_bytes'), ('after_bytes',)) or 1} bytes"
        )
    if name in SHORT:
        status = int(name.removeprefix("metadata_"))
        said = {"on": "metadata", **said, "do": "http_error", "status": status}
    return said
