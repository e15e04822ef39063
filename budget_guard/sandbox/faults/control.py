"""What can be made to go wrong, and the JSON commands that ask for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Faults:
    """Faults that wait for their moment. Counts go down as they happen."""

    refuse_live: int = 0
    metadata_429: int = 0
    metadata_503: int = 0
    retry_after_s: int = 1
    break_history_after: int | None = None

    def take_refusal(self) -> bool:
        """Whether this live connection is to be dropped as it arrives."""
        if self.refuse_live == 0:
            return False
        self.refuse_live -= 1
        return True

    def take_metadata_fault(self) -> int | None:
        """The status that this metadata request is to get, if any."""
        if self.metadata_429 > 0:
            self.metadata_429 -= 1
            return 429
        if self.metadata_503 > 0:
            self.metadata_503 -= 1
            return 503
        return None

    def take_break(self) -> int | None:
        """After how many record bytes this download is to break off, if at all."""
        after, self.break_history_after = self.break_history_after, None
        return after


class UnknownCommand(ValueError):
    """A control command that cannot be understood; its text says what would be right."""


# Command -> the whole numbers it takes, with their defaults (None: must be given), and whether it takes a dataset.
COMMANDS: dict[str, tuple[dict[str, int | None], bool]] = {
    "close_live": ({}, False),
    "reset_live": ({}, False),
    "refuse_live": ({"count": 1}, False),
    "revoke_live": ({}, True),
    "restore_live": ({}, True),
    "metadata_429": ({"count": 1, "retry_after_s": 1}, False),
    "metadata_503": ({"count": 1}, False),
    "break_history": ({"after_bytes": None}, False),
}


def parse_command(body: Any) -> tuple[str, dict[str, Any]]:
    """`{"do": NAME, ...}` as a name and its arguments. Raises UnknownCommand."""
    if not isinstance(body, Mapping) or body.get("do") not in COMMANDS:
        raise UnknownCommand(f'expected {{"do": NAME}} with one of {", ".join(COMMANDS)}; got {body!r}')
    name = str(body["do"])
    numbers, takes_dataset = COMMANDS[name]
    arguments: dict[str, Any] = {key: body.get(key, default) for key, default in numbers.items()}
    if takes_dataset:
        arguments["dataset"] = body.get("dataset")
    unknown = set(body) - set(arguments) - {"do"}
    if unknown:
        raise UnknownCommand(f"{name} does not take {', '.join(sorted(map(str, unknown)))}")
    for key in numbers:
        value = arguments[key]
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise UnknownCommand(f"{name}: {key} should be a whole number, 0 or more; got {value!r}")
    if takes_dataset and not isinstance(arguments["dataset"], str):
        raise UnknownCommand(f"{name}: dataset should be a name, as GLBX.MDP3; got {arguments['dataset']!r}")
    return name, arguments
