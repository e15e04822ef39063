"""A policy in sentences, and two policies against each other, as text."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import fill

from budget_guard.policy.diff import PolicyDiff, Side
from budget_guard.policy.explain import Explanation, Paragraph

WIDTH = 100


def render_explanation(explanation: Explanation, width: int = WIDTH) -> str:
    """The sentences by topic, each on lines of its own; for any width."""
    account = "" if explanation.account == explanation.policy else f" of account {explanation.account}"
    clock = f"Times of day are {explanation.timezone}'s; months are UTC months."
    lines = [
        _filled(f"Policy {explanation.policy}{account}. {clock}", width, 0),
        *_topic("What may run", explanation.streams, width),
        _filled("Anything else is refused.", width),
        *_topic("Up to what", explanation.budgets, width),
        *_sentences("What happens at a limit", explanation.at_a_limit, width),
        *_sentences("What a historical request may cost", explanation.historical, width),
        *_sentences("Who pays for what", explanation.payment, width),
    ]
    return "\n".join(lines) + "\n"


def _topic(title: str, paragraphs: tuple[Paragraph, ...], width: int) -> Iterator[str]:
    yield f"\n{title}"
    for paragraph in paragraphs:
        yield f"  {paragraph.name}"
        yield from (_filled(sentence, width, 4) for sentence in paragraph.sentences)


def _sentences(title: str, sentences: tuple[str, ...], width: int) -> Iterator[str]:
    if sentences:
        yield f"\n{title}"
        yield from (_filled(sentence, width) for sentence in sentences)


def _filled(sentence: str, width: int, indent: int = 2) -> str:
    first, rest = " " * indent, " " * (indent + 2)
    return fill(
        sentence,
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_on_hyphens=False,
        break_long_words=False,
    )


def render_diff(diff: PolicyDiff, a: str, b: str, width: int = WIDTH) -> str:
    """What each policy allows that the other does not; `a` and `b` name the files."""
    if not diff.differences:
        return f"{a} and {b} allow the same.\n"
    titles: dict[Side, str] = {
        "b": f"B ({b}) allows, and A does not",
        "a": f"A ({a}) allows, and B does not",
        "both": "They say differently",
    }
    parts = []
    for side, title in titles.items():
        rows = [_filled(f"{row.about}: {row.text}", width) for row in diff.of(side)]
        parts.append("\n".join([title, *(rows or ["  nothing"])]) if rows or side != "both" else "")
    return "\n\n".join(part for part in parts if part) + "\n"
