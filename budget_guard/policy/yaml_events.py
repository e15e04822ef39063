"""YAML text to parse events: by libyaml where PyYAML was built with it (thirty times as fast), else by PyYAML's own."""

from __future__ import annotations

from typing import Protocol, cast

import yaml
from yaml.events import Event
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.scanner import Scanner


class Events(Protocol):
    """A stream of events, made as they are asked for: whoever stops asking stops the parsing."""

    def get_event(self) -> Event: ...


class PythonEvents(Reader, Scanner, Parser):
    """PyYAML's own parser, without what would compose or construct anything from its events."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)


def open_events(text: str) -> Events:
    """The events of a text. Both `open_events` and `get_event` raise yaml.YAMLError for what is not YAML."""
    if yaml.__with_libyaml__:
        from yaml.cyaml import CParser  # type: ignore[attr-defined]

        return cast(Events, CParser(text))
    return cast(Events, PythonEvents(text))
