"""What `budget-guard policy explain` says of every example. `python -m tests.policy.explained` writes it again."""

from __future__ import annotations

from pathlib import Path

from budget_guard.loading import load_policy
from budget_guard.policy.explain import explain
from budget_guard.render.policy import render_explanation

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).with_name("explained")


def example_policies() -> list[Path]:
    """Every example that is a policy; an account file is what others extend."""
    return [path for path in sorted((ROOT / "policies").rglob("*.yaml")) if path.name != "account.yaml"]


def golden_of(path: Path) -> Path:
    return FOLDER / ("-".join(path.relative_to(ROOT / "policies").with_suffix("").parts) + ".txt")


def explained(path: Path) -> str:
    return render_explanation(explain(load_policy(path)))


if __name__ == "__main__":
    for example in example_policies():
        golden_of(example).write_text(explained(example), encoding="utf-8")
