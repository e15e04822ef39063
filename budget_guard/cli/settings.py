"""The settings, under the name that the commands import."""

from __future__ import annotations

from budget_guard.settings import Settings, load_settings

__all__ = ["Settings", "load_settings"]
