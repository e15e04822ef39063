"""The example reports and the picture in the README are what the package makes today."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples import ROOT, make_examples

EXAMPLES = make_examples()


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_example_is_up_to_date(name: str) -> None:
    """`python -m tests.examples` writes them again."""
    assert (ROOT / name).read_text(encoding="utf-8") == EXAMPLES[name]


def test_every_committed_example_is_made_here() -> None:
    committed = {f"reports/examples/{path.name}" for path in Path(ROOT, "reports/examples").iterdir()}
    assert committed == {name for name in EXAMPLES if name.startswith("reports/")}
