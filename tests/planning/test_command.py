"""`budget-guard plan` as its user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from budget_guard.cli import main

POLICIES = Path(__file__).parents[2] / "policies"
FULL_FEED, NQ = str(POLICIES / "full-feed.yaml"), str(POLICIES / "nq-futures.yaml")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DATABENTO_API_KEY", "BUDGET_GUARD_NOW", "BUDGET_GUARD_HISTORICAL_GATEWAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["plan", *args])
    return int(ended.value.code or 0)


def test_a_plan_over_its_budget_exits_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    """The full feed costs $721.22 of $200."""
    assert run(FULL_FEED, "--month", "2026-11") == 3
    captured = capsys.readouterr()
    assert "$721.22" in captured.out
    assert captured.err == ""


def test_a_plan_that_fits_exits_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 0, and JSON alone on stdout."""
    assert run(NQ, "--month", "2026-12", "--format", "json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["verdict"] == "fits"
    assert captured.err == ""


def test_a_plan_that_nobody_knows_exits_with_6(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No key and no volume: 6, with what to do."""
    path = tmp_path / "policy.yaml"
    text = Path(NQ).read_text(encoding="utf-8")
    path.write_text("\n".join(line for line in text.splitlines() if "volume:" not in line), encoding="utf-8")
    assert run(str(path), "--month", "2026-12", "--format", "md") == 6
    assert "DATABENTO_API_KEY" in capsys.readouterr().out


def test_the_plan_is_written_beside_being_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Markdown and JSON, named by the month; the message goes to stderr."""
    folder = tmp_path / "deep" / "reports"
    assert run(NQ, "--month", "2026-12", "--output", str(folder), "--format", "json") == 0
    captured = capsys.readouterr()
    written = (folder / "plan-2026-12.json").read_text(encoding="utf-8")
    assert captured.out == written
    assert (
        (folder / "plan-2026-12.md").read_text(encoding="utf-8").startswith("# nq-futures: plan of 2026-12")
    )
    assert "plan-2026-12.md" in captured.err


@pytest.mark.parametrize("month", ["2026-13", "2026-1", "december"])
def test_a_month_that_is_none_is_wrong_usage(month: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, and how a month is written."""
    assert run(NQ, "--month", month) == 2
    assert "2026-11" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No stack trace for a full disk or a file in the way."""
    (tmp_path / "file").write_text("in the way")
    assert run(NQ, "--month", "2026-12", "--output", str(tmp_path / "file" / "x")) != 0
    assert "could not be written" in capsys.readouterr().err


def test_a_policy_with_problems_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every problem with its place."""
    path = tmp_path / "policy.yaml"
    path.write_text("version: 1\nname: x\nstreams: {}\n", encoding="utf-8")
    assert run(str(path)) == 2
    assert "policy.yaml:" in capsys.readouterr().err
