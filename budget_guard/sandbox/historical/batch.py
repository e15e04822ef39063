"""`batch.*`: jobs that are prepared, listed and fetched."""

from __future__ import annotations

from budget_guard.sandbox.historical.context import Context, Route


def routes(context: Context) -> list[Route]:
    """The paths of `batch.*`."""
    return []
