"""`budget-guard review` as a user runs it: what goes to stdout, what to stderr, and the files it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from budget_guard.cli import cli
from budget_guard.errors import LedgerError
from budget_guard.ledger.backends import meter_directory
from budget_guard.ledger.meter import Meter
from budget_guard.ledger.model import Ledger
from tests.ledger.samples import USD, claiming, gap, refusal, terms
from tests.reviewing.months import CENT, spend

POLICY = Path(__file__).parents[2] / "policies" / "nq-futures.yaml"


def run(url: str, *arguments: object) -> Result:
    environment = {"BUDGET_GUARD_LEDGER": url, "DATABENTO_API_KEY": "", "BUDGET_GUARD_NOW": ""}
    return CliRunner().invoke(cli, ["review", str(POLICY), *map(str, arguments)], env=environment)


def fill(ledger: Ledger) -> None:
    spend(ledger, "h1", 216, residual_cents=4)
    ledger.record_refusal(refusal(asked_nano_usd=500 * CENT))
    ledger.record_gap(gap(mended="replayed"))


def test_a_ledger_that_is_not_there_is_no_month_without_spending(url: str, tmp_path: Path) -> None:
    result = run(url)
    assert isinstance(result.exception, LedgerError)
    assert "there is no ledger at" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_json_goes_alone_to_stdout(ledger: Ledger, url: str) -> None:
    fill(ledger)
    result = run(url, "--month", "2026-11", "--format", "json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert (found["totals"]["settled_usd"], found["totals"]["saved_usd"]) == ("2.2", "5")


def test_the_table_shows_every_part_of_the_month(ledger: Ledger, url: str) -> None:
    fill(ledger)
    result = run(url, "--month", "2026-11")
    assert result.exit_code == 0
    for words in (
        "$2.20",
        "of it assumed",
        "$200.00",
        "nq-mbo",
        "2026-11-23",
        "would_exceed",
        "$5.00",
        "replayed",
    ):
        assert words in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100


def test_output_writes_both_files_and_says_so_on_stderr(ledger: Ledger, url: str, tmp_path: Path) -> None:
    fill(ledger)
    result = run(url, "--month", "2026-11", "--output", tmp_path / "out", "--format", "md")
    page = (tmp_path / "out" / "review-2026-11.md").read_text()
    assert result.stdout == page
    assert page.startswith("# nq-futures: review of 2026-11\n")
    assert "| settled | $2.20 |" in page
    assert "review-2026-11.md" in result.stderr
    assert json.loads((tmp_path / "out" / "review-2026-11.json").read_text())["month"] == "2026-11"


def test_a_plan_beside_the_output_is_compared_with(ledger: Ledger, url: str, tmp_path: Path) -> None:
    plan = {"policy": "nq-futures", "month": "2026-11", "total_usd": {"p50": "8.61", "p90": "9"}}
    (tmp_path / "plan-2026-11.json").write_text(json.dumps(plan))
    arguments = ("--month", "2026-11", "--output", tmp_path, "--format", "json")
    assert json.loads(run(url, *arguments).stdout)["against"]["plan_usd"] == "8.61"
    (tmp_path / "plan-2026-11.json").write_text(json.dumps({**plan, "policy": "another"}))
    assert json.loads(run(url, *arguments).stdout)["against"]["plan_usd"] is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("not json", "is not a plan"),
        ("[]", "is not a plan"),
        ('{"policy": "nq-futures", "month": "2026-11", "total_usd": {"p50": "much"}}', "is not a plan"),
        ('{"policy": "x", "month": "2026-10", "total_usd": {"p50": null}}', "is the plan of x for 2026-10"),
    ],
)
def test_a_file_that_is_no_plan_of_this_month_is_refused(
    ledger: Ledger, url: str, tmp_path: Path, content: str, says: str
) -> None:
    (tmp_path / "plan.json").write_text(content)
    result = run(url, "--month", "2026-11", "--plan", tmp_path / "plan.json")
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.split())


def test_what_a_dead_program_left_is_settled_first_and_told_on_stderr(
    ledger: Ledger, url: str, tmp_path: Path
) -> None:
    meter = Meter.create(meter_directory(url, tmp_path), "h1")
    ledger.open_hold(terms(), [USD], claiming({USD: (0, CENT)}))
    ledger.activate("h1")
    meter.close(remove=False)
    result = run(url, "--month", "2026-11", "--format", "json")
    assert "its program died; settled with 0 B counted and 5.00 MiB assumed" in result.stderr
    assert json.loads(result.stdout)["totals"]["held_usd"] == "0"


def test_a_month_that_is_none_is_wrong_usage(url: str) -> None:
    result = run(url, "--month", "2026-13")
    assert result.exit_code == 2
    assert "write it as 2026-11" in result.stderr


def test_a_ledger_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database, but long enough to look at" * 20)
    result = run(f"sqlite:///{tmp_path / 'notes.txt'}")
    assert isinstance(result.exception, LedgerError)
    assert "is not a ledger" in str(result.exception)
