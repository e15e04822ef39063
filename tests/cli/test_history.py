"""`budget-guard history`, and what `run` says of historical requests: what was bought, kept, given again, cut."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.streaming.rehearsal import POLICY, Rehearsal

# The vendor's own client, unchanged, behind `run`.
PROGRAM = """
import sys
import databento
client = databento.Historical()
asked = dict(dataset="GLBX.MDP3", schema="mbo", symbols="NQ.v.0", stype_in="continuous", start="2026-11-20T15:00")
for what, end in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        if what == "job":
            print(client.batch.submit_job(**asked, end=end)["id"])
        else:
            print(client.timeseries.get_range(**asked, end=end).to_ndarray().nbytes)
    except databento.BentoError as error:
        print("error:", str(error)[:60])
"""
FREELY = POLICY.replace("approve_above: 0 USD", "approve_above: unlimited")


def behind(rehearsal: Rehearsal, *asked: str, policy: str = FREELY) -> tuple[list[str], str]:
    """What the program prints, and what the guard says of it."""
    rehearsal.policy.write_text(policy)
    done = rehearsal.guard(
        "run", str(rehearsal.policy), "--", sys.executable, "-W", "ignore", "-c", PROGRAM, *asked
    )
    return done.stdout.splitlines(), done.stderr


def history(rehearsal: Rehearsal, *options: str) -> Any:
    done = rehearsal.guard("history", str(rehearsal.policy), "--format", "json", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_empty_history_says_so(rehearsal: Rehearsal) -> None:
    assert history(rehearsal) == {"account": "desk", "bought": [], "kept": [], "range": None}
    done = rehearsal.guard("history", str(rehearsal.policy))
    assert "Nothing was bought of the past by account desk yet." in done.stdout


def test_streams_and_jobs_are_listed_with_what_they_cost(rehearsal: Rehearsal) -> None:
    (size, job, again), said = behind(
        rehearsal, "range", "2026-11-20T15:01", "job", "2026-11-20T15:02", "job", "2026-11-20T15:02"
    )
    assert job == again
    assert f"job {job} was bought before: it is given again and costs nothing" in said
    stream, batch = history(rehearsal)["bought"]
    assert (stream["kind"], stream["state"], stream["size_bytes"]) == ("stream", "bought", int(size))
    assert (batch["kind"], batch["state"], batch["job"]) == ("batch", "bought", job)
    assert (batch["start_utc"], batch["end_utc"]) == ("2026-11-20T15:00:00Z", "2026-11-20T15:02:00Z")
    assert history(rehearsal, "--dataset", "XNAS.ITCH")["bought"] == []
    table = rehearsal.guard("history", str(rehearsal.policy)).stdout
    assert "GLBX.MDP3" in table and job in table


def test_a_range_is_priced_by_what_is_missing_of_it(rehearsal: Rehearsal) -> None:
    behind(rehearsal, "range", "2026-11-20T15:10")
    options = ("--stream", "nq", "--start", "2026-11-20T14:50", "--end", "2026-11-20T15:20")
    found = history(rehearsal, *options)["range"]
    assert [(part["start_utc"], part["end_utc"]) for part in found["missing"]] == [
        ("2026-11-20T14:50:00Z", "2026-11-20T15:00:00Z"),
        ("2026-11-20T15:10:00Z", "2026-11-20T15:20:00Z"),
    ]
    assert 0 < float(found["missing_cost_usd"]) < float(found["cost_usd"])
    table = " ".join(rehearsal.guard("history", str(rehearsal.policy), *options).stdout.split())
    assert "a part of it was bought before" in table


def test_kept_answers_are_listed_and_given_again(rehearsal: Rehearsal) -> None:
    kept = FREELY.replace("unlimited}", "unlimited, cache: {folder: kept}}")
    sizes, said = behind(rehearsal, *["range", "2026-11-20T15:01"] * 2, policy=kept)
    assert sizes[0] == sizes[1]
    assert "given again, and costs nothing" in said
    found = history(rehearsal)
    assert len(found["bought"]) == len(found["kept"]) == 1
    assert Path(found["kept"][0]["file"]).parent == rehearsal.folder / "kept"
    assert found["kept"][0]["request"]["symbols"] == ["NQ.v.0"]


def test_run_says_at_its_end_that_an_answer_is_not_whole(rehearsal: Rehearsal) -> None:
    rehearsal.sandbox.break_history(100_000)
    (printed,), said = behind(rehearsal, "range", "2026-11-20T15:05")
    assert printed.startswith("error:")
    assert "an answer is not whole: mbo of GLBX.MDP3" in said
    assert history(rehearsal)["bought"][0]["state"] == "lost"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--stream", "nq"), "--stream and --start go together"),
        (("--stream", "es", "--start", "2026-11-20"), "no stream 'es' in the policy"),
        (("--stream", "nq", "--start", "yesterday"), "start is 'yesterday'"),
    ],
)
def test_what_cannot_be_priced_is_told_why(rehearsal: Rehearsal, options: tuple[str, ...], text: str) -> None:
    done = rehearsal.guard("history", str(rehearsal.policy), *options)
    assert done.returncode == 2
    assert text in done.stderr
