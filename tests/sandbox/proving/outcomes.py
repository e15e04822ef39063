"""What a client did with a fault, as a small value, and how it is said."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """`does`: in words, made of what was measured. Records are those that the market had and the client asked for.

    `altered` are records that the market does not have. `beyond` are bytes that were billed and that no client decoded.
    None: there was nothing to count.
    """

    fault: str
    where: str
    does: str
    lost: int | None = None
    doubled: int = 0
    altered: int = 0
    disordered: int = 0
    beyond: int | None = None

    @property
    def records(self) -> str:
        """What became of the records."""
        if self.lost is None:
            return ""
        counts = (
            (self.lost, "lost"),
            (self.doubled, "doubled"),
            (self.altered, "altered"),
            (self.disordered, "out of order"),
        )
        return ", ".join(f"{count:,} {what}" for count, what in counts if count) or "none"

    @property
    def billed(self) -> str:
        """Bytes billed beyond those decoded."""
        return "" if self.beyond is None else f"{self.beyond:,}"


# What is another at every run: ports, addresses, ids, seconds that a machine's load adds to.
_VOLATILE = (
    (re.compile(r"127\.0\.0\.1:\d+"), "HOST:PORT"),
    (re.compile(r"\(host='127\.0\.0\.1', port=\d+\)"), ""),
    (re.compile(r" with url: .*"), ""),
    (re.compile(r"0x[0-9a-f]+"), "0x..."),
    (re.compile(r"\b\d+(\.\d+)? second"), "N second"),
    (re.compile(r"[A-Z]{4}-\d{8}-[A-Z0-9]{10}"), "JOB"),
    (re.compile(r"Request [0-9a-f]{32}: "), ""),
    (re.compile(r"documentation: \S+"), ""),
    (re.compile(r"\s+"), " "),
)
_TEXT_MAX = 160


def said(error: BaseException) -> str:
    """An exception, as its type and what it says, the same at every run."""
    text = str(error)
    for pattern, steady in _VOLATILE:
        text = pattern.sub(steady, text)
    text = text.strip().rstrip(".").replace("|", "/").replace("`", "'")
    if len(text) > _TEXT_MAX:
        text = text[:_TEXT_MAX].rstrip() + "..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def after(seconds: float) -> str:
    """How long something took, if it took long: in steps of 5 s, as a loaded machine adds to it."""
    return "" if seconds < 5 else f", after {int(seconds // 5) * 5} s"
