"""`python -m budget_guard` is `budget-guard`."""

from __future__ import annotations

from budget_guard.cli import main

if __name__ == "__main__":
    main()
