"""`budget-guard gaps` as a person runs it, before a sandbox and on a terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from budget_guard.ledger.store import open_ledger
from tests.backfill.samples import missed
from tests.streaming.rehearsal import NOW, POLICY, TIMEOUT_S, Rehearsal

START = NOW - timedelta(hours=1)
EARLIER = START - timedelta(days=31)


@pytest.fixture
def desk(rehearsal: Rehearsal) -> Rehearsal:
    """A ledger with two gaps in it, the older one replayed."""
    rehearsal.policy.write_text(POLICY.replace(", approve_above: 0 USD", ""))
    (rehearsal.folder / "data").mkdir()
    ledger = open_ledger(rehearsal.ledger_url)
    ledger.mark_rehearsal()
    ledger.record_gap(missed(start_utc=START, end_utc=START + timedelta(seconds=12)))
    ledger.record_gap(
        missed(id="77bb", start_utc=EARLIER, end_utc=EARLIER + timedelta(seconds=1), mended="replayed")
    )
    ledger.close()
    return rehearsal


def listed(desk: Rehearsal, *options: str, **env: str | None) -> Any:
    done = desk.guard("gaps", str(desk.policy), "--format", "json", *options, env=desk.env(**env))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def fill(desk: Rehearsal, *options: str, **env: str | None) -> subprocess.CompletedProcess[str]:
    return desk.guard("gaps", "fill", str(desk.policy), *options, env=desk.env(**env))


def files(desk: Rehearsal) -> list[Path]:
    return sorted((desk.folder / "gaps").glob("*"))


def on_terminal(desk: Rehearsal, answer: str) -> tuple[int, str]:
    """`gaps fill --all` on a terminal of its own, and somebody's answer."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "budget_guard", "gaps", "fill", str(desk.policy), "--all"]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=desk.env(), cwd=desk.folder
    ) as process:
        os.close(theirs)
        said, answered = b"", False
        while data := _read(ours):
            said += data
            if b"[y/N]" in said and not answered:
                os.write(ours, f"{answer}\n".encode())
                answered = True
        code = process.wait(TIMEOUT_S)
    os.close(ours)
    return code, said.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # nobody has its other end open any more
        return b""


def test_gaps_are_listed_oldest_first_with_the_price_of_filling_open_ones(desk: Rehearsal) -> None:
    found = listed(desk)
    assert [(row["id"], row["state"]) for row in found["gaps"]] == [
        ("77bb", "replayed"),
        ("3f2a9c11d0e84b7f", "open"),
    ]
    replayed, still_open = found["gaps"]
    assert replayed["cost_usd"] is None
    assert float(still_open["cost_usd"]) > 0
    assert found["total_usd"] == still_open["cost_usd"]


def test_a_month_is_of_the_gaps_that_began_in_it(desk: Rehearsal) -> None:
    assert [row["id"] for row in listed(desk, "--month", "2026-10")["gaps"]] == ["77bb"]


def test_without_a_key_gaps_have_no_price_and_that_is_said(desk: Rehearsal) -> None:
    found = listed(desk, DATABENTO_API_KEY=None)
    assert {row["cost_usd"] for row in found["gaps"]} == {None}
    assert found["note"].startswith("DATABENTO_API_KEY is not set")


def test_a_wrong_key_lists_all_the_same(desk: Rehearsal) -> None:
    found = listed(desk, DATABENTO_API_KEY="db-" + 29 * "x")
    assert len(found["gaps"]) == 2
    assert found["note"].startswith("no prices: ")


def test_a_ledger_that_is_not_there_is_not_taken_for_one_without_gaps(rehearsal: Rehearsal) -> None:
    done = rehearsal.guard("gaps", str(rehearsal.policy))
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no ledger at" in done.stderr


def test_the_table_names_the_gap_and_its_price(desk: Rehearsal) -> None:
    said = desk.guard("gaps", str(desk.policy)).stdout
    assert "3f2a9c11" in said and "12.0 s" in said
    assert "to fill 1 gap costs $" in said


def test_a_person_on_the_terminal_sees_the_price_and_says_yes(desk: Rehearsal) -> None:
    code, said = on_terminal(desk, "y")
    assert code == 0, said
    assert "Buy it for $" in said
    assert "3f2a9c11: filled with " in said
    (path,) = files(desk)
    assert path.name == "nq-mbo-20261123T140000Z-3f2a9c11d0e8.dbn.zst"
    assert listed(desk)["open"] == 0


def test_a_no_buys_nothing(desk: Rehearsal) -> None:
    code, said = on_terminal(desk, "n")
    assert (code, files(desk)) == (1, [])
    assert "nothing is bought" in said


def test_where_nobody_can_be_asked_a_bound_or_a_yes_is_needed(desk: Rehearsal) -> None:
    done = fill(desk, "--all")
    assert (done.returncode, files(desk)) == (2, [])
    assert "add --max USD, or --yes" in done.stderr


def test_more_than_max_is_not_bought(desk: Rehearsal) -> None:
    done = fill(desk, "--all", "--max", "0.000001")
    assert (done.returncode, files(desk)) == (4, [])
    assert "more than --max" in done.stderr


def test_up_to_max_is_bought_without_asking_and_once(desk: Rehearsal) -> None:
    done = fill(desk, "--gap", "3f2a", "--max", "1", "--output", "there")
    assert done.returncode == 0, done.stderr
    (entry,) = desk.entries()
    assert entry.mode == "historical"
    assert len(list((desk.folder / "there").iterdir())) == 1
    again = fill(desk, "--gap", "3f2a", "--yes")
    assert (again.returncode, len(desk.entries())) == (0, 1)
    assert "gap 3f2a is filled: " in again.stdout


def test_a_limit_that_is_reached_refuses_to_fill(desk: Rehearsal) -> None:
    desk.policy.write_text(desk.policy.read_text().replace("200 USD", "0.000001 USD"))
    done = fill(desk, "--all", "--yes")
    assert (done.returncode, files(desk)) == (4, [])
    assert "is not filled: " in done.stderr and "account" in done.stderr


def test_what_is_too_recent_for_history_is_not_bought(desk: Rehearsal) -> None:
    with desk.ledger() as ledger:
        ledger.record_gap(missed(id="88cc", start_utc=NOW, end_utc=NOW + timedelta(hours=2)))
    done = fill(desk, "--gap", "88cc", "--yes")
    assert (done.returncode, files(desk)) == (1, [])
    assert "too recent" in done.stdout and "try again at" in done.stdout


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "say which gaps"),
        (("--all", "--gap", "3f2a"), "say which gaps"),
        (("--gap", "zz"), "no gap whose id begins with 'zz'"),
        (("--all", "--max", "-1"), "should be an amount in USD"),
    ],
)
def test_wrong_usage_says_what_would_be_right(desk: Rehearsal, options: tuple[str, ...], says: str) -> None:
    done = fill(desk, *options)
    assert done.returncode == 2
    assert says in done.stderr


def test_a_second_fill_at_the_same_time_is_refused(desk: Rehearsal) -> None:
    from budget_guard.backfill.files import only_one

    with only_one(desk.folder / "data" / "budget-guard"):
        done = fill(desk, "--all", "--yes")
    assert (done.returncode, files(desk)) == (1, [])
    assert "another program on this machine" in done.stderr
