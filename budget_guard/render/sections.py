"""Reports made of titled tables: one of them as a value, and as Markdown."""

from __future__ import annotations

from dataclasses import dataclass

from budget_guard.render.tables import markdown_table


@dataclass(frozen=True, slots=True)
class Section:
    """One table: its title, if it has one, its head, its rows; the columns in `right` are aligned to the right."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: range


def markdown_section(section: Section) -> list[str]:
    """The lines of a section in a Markdown page, with an empty one at the end."""
    heading = [f"## {section.title[0].upper()}{section.title[1:]}", ""] if section.title else []
    return [*heading, *markdown_table(section.head, section.rows, right=section.right), ""]
