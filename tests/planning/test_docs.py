"""What docs/planning.md shows is what the command prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from budget_guard.cli import main
from budget_guard.planning.shapes import SHAPES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "planning.md").read_text(encoding="utf-8")


def test_the_example_is_what_the_command_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Line by line, blanks at the ends aside."""
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("DATABENTO_API_KEY", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    shown = re.search(r"```console\n\$ budget-guard (?P<command>.*)\n(?P<output>[^`]*)```", PAGE)
    assert shown is not None
    with pytest.raises(SystemExit):
        main(shown["command"].split())
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert printed == shown["output"].splitlines()


@pytest.mark.parametrize("market", SHAPES)
def test_every_share_of_a_shape_is_in_the_table(market: str) -> None:
    """The page and the code hold the same assumption."""
    for start, end, share in SHAPES[market].parts:
        assert f"| {start:%H:%M}-{end:%H:%M} | {int(share * 100)}% |" in PAGE
