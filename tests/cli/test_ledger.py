"""`budget-guard ledger` as a person runs it: what goes to stdout, what to stderr, and with which code it ends."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from budget_guard.cli import cli
from budget_guard.errors import LedgerError
from budget_guard.ledger.backends import meter_directory
from budget_guard.ledger.machine import host_name
from budget_guard.ledger.meter import Meter
from budget_guard.ledger.model import Approval, Overrun
from budget_guard.ledger.store import SqlLedger
from budget_guard.money import cost_nano_usd
from tests.ledger.samples import MONTH_START, OPENED, PRICE, USD, claiming, entry, gap, key, refusal, terms

POLICY = Path(__file__).parents[2] / "policies" / "nq-futures.yaml"
COST = cost_nano_usd(2**30, PRICE)
GIB = key(unit="gib")
HOURS = key(unit="hours")
CONNECTIONS = key(unit="connections")


def run(url: str, *arguments: object, said: str | None = None, **options: Any) -> Result:
    environment = {"BUDGET_GUARD_LEDGER": url, "DATABENTO_API_KEY": "", "BUDGET_GUARD_NOW": ""}
    return CliRunner().invoke(cli, ["ledger", *map(str, arguments)], env=environment, input=said, **options)


def done(url: str, *arguments: object) -> str:
    """What a command that ends well says on stdout."""
    result = run(url, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(url: str, *arguments: object) -> str:
    """What a command that the ledger refuses says."""
    result = run(url, *arguments)
    assert isinstance(result.exception, LedgerError), result.output
    return str(result.exception)


def lines(url: str, *arguments: object) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done(url, "export", POLICY, *arguments).splitlines()]


def finish(ledger: SqlLedger, hold_id: str = "h1", **what: Any) -> None:
    """A hold that was opened, renewed, and settled with an entry and an overrun."""
    over = Overrun(f"{hold_id}:over:1", hold_id, "desk", "account", "month", MONTH_START, "usd", 2 * 10**9,
                   160_000_000, OPENED + timedelta(hours=6), "limit")  # fmt: skip
    ledger.open_hold(terms(hold_id, **what), [USD], claiming({USD: (0, 2 * 10**9)}))
    ledger.activate(hold_id, OPENED + timedelta(seconds=1))
    ledger.restate(hold_id, 3, [USD], claiming({USD: (10**9, 10**9)}), OPENED + timedelta(hours=5))
    booked = {name: value for name, value in what.items() if name in ("month", "account")}
    row = entry(hold_id, f"{hold_id}:1", **booked)
    ledger.settle(hold_id, {USD: COST}, [row], lambda _: [over], OPENED + timedelta(hours=6))


def approve(ledger: SqlLedger, approval_id: str = "a1", **changes: Any) -> None:
    values: dict[str, Any] = {
        "account": "desk", "budget": "account", "unit": "usd", "amount": 25 * 10**9, "from_utc": OPENED,
        "until_utc": OPENED + timedelta(days=1), "reason": "results day", "name": "Ada",
    }  # fmt: skip
    ledger.record_approval(Approval(id=approval_id, **{**values, **changes}))


def leave(ledger: SqlLedger, url: str, **changes: Any) -> Path:
    """A live hold of this host, used a little, whose meter is from an earlier run of the machine."""
    what: dict[str, Any] = {"host": host_name(), "connection_id": "c9", **changes}
    meter = Meter.create(meter_directory(url, Path()), "h1", boot_id="an earlier one")
    meter.add(1000, 0, 1)
    ledger.open_hold(terms("h1", **what), [USD, GIB, HOURS, CONNECTIONS],
                     claiming({USD: (0, 10**9), GIB: (0, 2**30), HOURS: (0, 60_000), CONNECTIONS: (0, 1)}))  # fmt: skip
    ledger.activate("h1", OPENED)
    meter.close(remove=False)
    return meter.path


# --- export ---------------------------------------------------------------------------------------------------


def test_an_export_has_one_json_line_for_each_immutable_row_with_exact_decimals(
    ledger: SqlLedger, url: str
) -> None:
    finish(ledger)
    approve(ledger)
    ledger.record_refusal(refusal())
    assert lines(url) == [
        {
            "kind": "entry", "id": "h1:1", "hold": "h1", "account": "desk", "stream": "nq-mbo",
            "dataset": "GLBX.MDP3", "schema": "mbo", "mode": "live", "month": "2026-11",
            "started_utc": "2026-11-23T14:30:00.123Z", "ended_utc": "2026-11-23T21:30:00.123Z",
            "size_bytes": 2**30, "control_bytes": 320, "gib": "1", "unit_price_usd": "2.16",
            "price_source": "the policy's override", "cost_usd": "2.16", "residual_bytes": 0,
            "residual_usd": "0", "settled_usd": "2.16", "ending": "exact", "note": "",
        },
        {
            "kind": "approval", "id": "a1", "account": "desk", "budget": "account", "unit": "usd",
            "amount": "25", "count": 25 * 10**9, "from_utc": "2026-11-23T14:30:00.123Z",
            "until_utc": "2026-11-24T14:30:00.123Z", "reason": "results day", "by": "Ada",
        },
        {
            "kind": "overrun", "id": "h1:over:1", "hold": "h1", "account": "desk", "budget": "account",
            "period": "month", "period_start_utc": "2026-11-01T00:00:00Z", "unit": "usd", "limit": "2",
            "past": "0.16", "at_utc": "2026-11-23T20:30:00.123Z", "note": "limit",
        },
    ]  # fmt: skip


def test_everything_also_has_refusals_gaps_and_holds_that_are_over(ledger: SqlLedger, url: str) -> None:
    finish(ledger)
    ledger.open_hold(terms("running"), [USD], claiming({USD: (0, 1)}))
    ledger.record_refusal(refusal(asked_nano_usd=5 * 10**9))
    ledger.record_gap(gap())
    rows = lines(url, "--all")
    assert [row["kind"] for row in rows] == ["entry", "overrun", "refusal", "gap", "hold"]
    assert (rows[2]["asked_usd"], rows[2]["decision"]) == ("5", {"verdict": "deny"})
    assert (rows[4]["id"], rows[4]["state"], rows[4]["closed_utc"]) == (
        "h1", "settled", "2026-11-23T20:30:00.123Z",
    )  # fmt: skip


def test_a_month_has_its_own_rows_and_no_others(ledger: SqlLedger, url: str) -> None:
    """An approval is of every month it was in force in, an overrun of the month in which its period began."""
    finish(ledger)
    ledger.open_hold(terms("h2", account="lab"), [USD], claiming({USD: (0, 1)}))
    ledger.settle("h2", {}, [entry("h2", "h2:1", account="lab")])
    finish(ledger, "h3", month="2026-12")
    december = datetime(2026, 12, 1, tzinfo=UTC)
    approve(ledger, from_utc=december - timedelta(days=1), until_utc=december)
    approve(ledger, "a2", from_utc=december - timedelta(days=1), until_utc=december + timedelta(days=1))
    assert [row["id"] for row in lines(url, "--month", "2026-11")] == [
        "h1:1", "a1", "a2", "h1:over:1", "h3:over:1",
    ]  # fmt: skip
    assert [row["id"] for row in lines(url, "--month", "2026-12")] == ["h3:1", "a2"]


def test_two_exports_of_a_month_are_equal_bytes_whatever_was_written_since_in_another(
    ledger: SqlLedger, url: str
) -> None:
    finish(ledger, "b")
    finish(ledger, "a")
    first = done(url, "export", POLICY, "--month", "2026-11")
    finish(ledger, "c", month="2026-10")
    assert done(url, "export", POLICY, "--month", "2026-11").startswith(first.split('{"kind": "overrun"')[0])
    assert [json.loads(line)["id"] for line in first.splitlines()[:2]] == ["b:1", "a:1"]


def test_an_empty_ledger_exports_nothing(ledger: SqlLedger, url: str) -> None:
    """Stdout is for rows alone; that the account has none, and where, goes to stderr."""
    result = run(url, "export", POLICY, "--month", "2026-11")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"budget-guard: {ledger.place} has nothing of account desk in 2026-11\n"
    finish(ledger)
    assert run(url, "export", POLICY).stderr == ""


# --- explain --------------------------------------------------------------------------------------------------


def test_a_settled_holds_story_is_told_from_its_request_to_its_entry(ledger: SqlLedger, url: str) -> None:
    approve(ledger)
    approve(ledger, "a2", budget="another")
    approve(ledger, "a3", from_utc=OPENED + timedelta(hours=7))
    finish(ledger, request='{"symbols": ["NQ.v.0", "ES.v.0"], "start": "2026-11-23T14:00:00Z"}')
    said = done(url, "explain", "h1")
    for words in (
        "Hold h1 is settled: it is over, and what it used is booked.",
        "It is of connection c1.",
        "A program on desk-1 asked for live mbo of GLBX.MDP3 for stream nq-mbo: NQ.v.0, ES.v.0, "
        "from 2026-11-23T14:00:00Z.",
        "account desk and counts in the billing month 2026-11, at 2.16 USD per GiB (the policy's override)",
        "2026-11-23T14:30:00.123Z  it was opened",
        "2026-11-23T14:30:01.123Z  it became active",
        "2026-11-23T19:30:00.123Z  it was last renewed; 3 times in all",
        "2026-11-23T20:30:00.123Z  it was settled",
        "budget account, month from 2026-11-01T00:00:00Z: $2.16 settled, $0.00 held (of $2.16 settled",
        "Entry h1:1: 1.00 GiB counted (1073741824 bytes), $2.16",
        "nothing is assumed",
        "It went past a limit: budget account, month from 2026-11-01T00:00:00Z: $0.16 past $2.00",
        "Approved meanwhile: budget account, $25.00 from 2026-11-23T14:30:00.123Z until 2026-11-24T14:30:00.123Z, "
        "by Ada: results day",
    ):
        assert words in said
    assert said.count("Approved meanwhile") == 1


def test_words_of_others_do_not_move_the_cursor(ledger: SqlLedger, url: str) -> None:
    """A reason that another program recorded is shown in one line, without control characters."""
    approve(ledger, reason="results\n\x1b[2Jday")
    finish(ledger)
    assert "by Ada: results  [2Jday.\n" in done(url, "explain", "h1")


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (
            {"ending": "residual", "residual_bytes": 5 * 2**20},
            "all that the connection keeps free for its ending",
        ),
        (
            {"ending": "recovered", "residual_bytes": 65536},
            "what its fastest tenth of a second could have sent",
        ),
        ({"ending": "recovered", "residual_bytes": 9, "mode": "historical"}, "the rest of what was quoted"),
        ({"ending": "quoted"}, "It counts its whole quote"),
        ({"ending": "resolved", "residual_bytes": 9}, "A person decided what it used"),
        ({"ending": "exact"}, "nothing is assumed"),
    ],
)
def test_what_is_assumed_is_said_with_how_it_was_bounded(
    ledger: SqlLedger, url: str, what: dict[str, Any], says: str
) -> None:
    mode = {name: value for name, value in what.items() if name == "mode"}
    ledger.open_hold(terms("h1", **mode), [USD], claiming({USD: (0, COST)}))
    ledger.settle("h1", {USD: COST}, [entry("h1", "h1:1", **what)])
    assert says in done(url, "explain", "h1")


def test_a_hold_is_found_by_its_connection_its_entry_and_how_it_begins(ledger: SqlLedger, url: str) -> None:
    """A connection that went on into another period has several holds: all are told."""
    finish(ledger, "abc1", connection_id="conn-1")
    finish(ledger, "abd2", connection_id="conn-1")
    finish(ledger, "xyz", connection_id="conn-2")

    def found(name: str) -> list[str]:
        return [story["hold"] for story in json.loads(done(url, "explain", name, "--format", "json"))]

    assert found("conn-1") == ["abc1", "abd2"]
    assert found("abc") == found("abc1:1") == ["abc1"]
    assert found("x") == ["xyz"]
    assert found("conn-2") == ["xyz"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nobody", "knows no hold, connection or entry 'nobody'"),
        ("ab", "'ab' is the beginning of several: abc1 (nq-mbo, 2026-11-23T14:30:00.123Z), abd2"),
        ("AB", "knows no hold"),
        ("%", "knows no hold"),
        ("", "knows no hold"),
    ],
)
def test_a_name_that_means_nothing_or_too_much_is_wrong_usage(
    ledger: SqlLedger, url: str, name: str, says: str
) -> None:
    finish(ledger, "abc1")
    finish(ledger, "abd2")
    result = run(url, "explain", name)
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.split())
    assert result.stderr.endswith(f"\nledger: {ledger.place}\n")


def test_an_open_hold_says_whether_its_program_lives_and_what_its_meter_shows(
    ledger: SqlLedger, url: str
) -> None:
    """Looking settles nothing: a dead program's hold is as it was."""
    meter = Meter.create(meter_directory(url, Path()), "h1")
    ledger.open_hold(terms(host=host_name()), [USD], claiming({USD: (0, 10**9)}))
    meter.add(2048, 0, 1)
    assert "Now its program runs on this machine; its meter shows 2.00 KiB." in done(url, "explain", "h1")
    meter.close(remove=False)
    assert "Now its program on this machine is dead; the next command" in done(url, "explain", "h1")
    (story,) = json.loads(done(url, "explain", "h1", "--format", "json"))
    assert (story["state"], story["owner"], story["metered_bytes"]) == ("held", "dead", 2048)


@pytest.mark.parametrize(
    ("host", "says"),
    [("lab-7", "it belongs to another machine"), (None, "its meter is missing")],
)
def test_an_open_hold_that_cannot_be_seen_says_what_to_do(
    ledger: SqlLedger, url: str, host: str | None, says: str
) -> None:
    ledger.open_hold(terms(host=host or host_name()), [USD], claiming({USD: (0, 10**9)}))
    said = done(url, "explain", "h1")
    assert says in said
    assert "budget-guard ledger resolve h1" in said


# --- verify ---------------------------------------------------------------------------------------------------


def test_a_sound_ledger_is_called_so(ledger: SqlLedger, url: str) -> None:
    finish(ledger)
    assert "1 balance, 1 hold, 1 overrun, 1 claim, 1 entry\nSound:" in done(url, "verify")
    assert json.loads(done(url, "verify", "--format", "json"))["sound"] is True


def test_what_differs_is_said_and_ends_with_1(ledger: SqlLedger, url: str, tmp_path: Path) -> None:
    finish(ledger)
    raw = sqlite3.connect(tmp_path / "ledger.sqlite")
    raw.execute("UPDATE balances SET held = 5000000000")
    raw.commit()
    raw.close()
    result = run(url, "verify", standalone_mode=False)
    assert result.return_value == 1
    assert "balance_held: balance account month usd of desk" in result.stdout
    assert "expected 0 USD, found 5 USD: money is kept from use" in result.stdout
    (finding,) = json.loads(run(url, "verify", "--format", "json").stdout)["findings"]
    assert (finding["kind"], finding["found"]) == ("balance_held", "5 USD")


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify",),
        ("explain", "h1"),
        ("export", POLICY),
        ("resolve",),
        ("resolve", "h1", "--in-full", "--reason", "x"),
    ],
)
def test_looking_at_a_ledger_that_is_not_there_does_not_make_one(
    tmp_path: Path, arguments: tuple[object, ...]
) -> None:
    """Nor is it taken for an empty one, in which nothing is open and nothing was spent."""
    url = f"sqlite:///{tmp_path / 'typo.sqlite'}"
    assert "there is no ledger at" in refused(url, *arguments)
    assert list(tmp_path.iterdir()) == []


# --- resolve --------------------------------------------------------------------------------------------------


def test_without_a_hold_it_lists_what_is_open_and_what_is_known_of_it(ledger: SqlLedger, url: str) -> None:
    assert done(url, "resolve") == f"No hold is open: there is nothing to decide.\nledger: {ledger.place}\n"
    leave(ledger, url)
    said = done(url, "resolve")
    assert "h1  nq-mbo, live mbo, since 2026-11-23T14:30:00.123Z" in said
    assert "counts $1.00" in said
    assert "may be incomplete; its meter shows 1000 B" in said
    (row,) = json.loads(done(url, "resolve", "--format", "json"))
    assert (row["hold"], row["owner"]) == ("h1", "restarted")


def test_the_list_says_once_of_each_hold_that_nothing_proves_it_and_how_to_decide(
    ledger: SqlLedger, url: str
) -> None:
    leave(ledger, url)
    ledger.open_hold(terms("slot", mode="slot", stream=None, schema="", host="lab-7"), [], claiming({}))
    result = run(url, "resolve")
    assert result.stderr == ""
    assert (
        "ledger resolve h1\n    with --bytes N, --in-full or --nothing-was-sent, and --reason WHY\n"
        in result.stdout
    )
    assert "ledger resolve slot\n    with --nothing-was-sent, and --reason WHY\n" in result.stdout
    said = refused(url, "resolve", "slot", "--bytes", "100", "--reason", "lab-7 was sold", "--yes")
    assert said.endswith("over which nothing is sent: free it with --nothing-was-sent")
    done(url, "resolve", "slot", "--nothing-was-sent", "--reason", "lab-7 was sold", "--yes")
    assert "slot" not in done(url, "resolve")


def test_a_hold_that_is_over_is_said_to_be_so_before_anything_is_asked(ledger: SqlLedger, url: str) -> None:
    finish(ledger)
    assert "hold h1 needs no decision: it is settled already" in refused(url, "resolve", "h1")


@pytest.mark.parametrize(
    ("how", "cost", "size", "hours", "connections"),
    [
        (("--in-full",), 10**9, 2**30, 60_000, 1),
        (("--bytes", str(2**28)), cost_nano_usd(2**28, PRICE), 2**28, 60_000, 1),
        (("--bytes", str(2**31)), 2 * COST, 2**31, 60_000, 1),
    ],
)
def test_a_decision_settles_the_hold_and_is_an_entry_with_its_reason_and_who_took_it(
    ledger: SqlLedger, url: str, how: tuple[str, ...], cost: int, size: int, hours: int, connections: int
) -> None:
    path = leave(ledger, url)
    said = done(
        url, "resolve", "h1", *how, "--reason", "power cut", "--by", "Ada", "--yes", "--format", "json"
    )
    row = json.loads(said)
    assert (row["ending"], row["id"]) == ("resolved", "h1:1")
    assert row["note"].startswith("Ada: ")
    assert row["note"].endswith("; power cut")
    assert Decimal(row["settled_usd"]) == Decimal(cost) / 10**9
    found = ledger.balances([USD, GIB, HOURS, CONNECTIONS])
    assert [found[each].settled for each in (USD, GIB, HOURS, CONNECTIONS)] == [
        cost,
        size,
        hours,
        connections,
    ]
    assert all(balance.held == 0 for balance in found.values())
    assert done(url, "verify")
    done(url, "resolve")
    assert not path.exists()


def test_nothing_was_sent_gives_everything_back_on_record(ledger: SqlLedger, url: str) -> None:
    """Where no meter and no booking says otherwise."""
    path = leave(ledger, url)
    path.unlink()
    done(url, "resolve", "h1", "--nothing-was-sent", "--reason", "the vendor says so", "--by", "Ada", "--yes")
    assert ledger.balances([USD])[USD].settled == 0
    (row,) = ledger.entries("desk", "2026-11")
    assert (row.ending, row.size_bytes, row.note) == (
        "resolved", 0, "Ada: nothing was sent; the vendor says so",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (("--nothing-was-sent",), "its meter has counted 1000 bytes"),
        (("--bytes", "999"), "its meter has counted 1000 bytes"),
    ],
)
def test_what_a_meter_has_counted_is_not_decided_away(
    ledger: SqlLedger, url: str, how: tuple[str, ...], says: str
) -> None:
    leave(ledger, url)
    assert says in refused(url, "resolve", "h1", *how, "--reason", "x", "--yes")
    assert ledger.balances([USD])[USD].held == 10**9


def test_what_the_ledger_has_booked_is_not_decided_away(ledger: SqlLedger, url: str) -> None:
    leave(ledger, url).unlink()
    ledger.restate("h1", 1, [USD], claiming({USD: (10**9, 5)}))
    said = refused(url, "resolve", "h1", "--bytes", "5", "--reason", "x", "--yes")
    assert "hold h1 has booked $1 of what was read, so at least 497102696 bytes were sent" in said
    assert "at least" in refused(url, "resolve", "h1", "--bytes", "497102695", "--reason", "x", "--yes")
    assert run(url, "resolve", "h1", "--bytes", "497102696", "--reason", "x", "--yes").exit_code == 0


def test_a_hold_that_nothing_bounds_is_not_counted_in_full_as_nothing(ledger: SqlLedger, url: str) -> None:
    """Under a limit in hours only, what it may have cost is unknown, and unknown is not zero."""
    ledger.open_hold(terms(host=host_name()), [HOURS], claiming({HOURS: (0, 60_000)}))
    assert "say how many bytes were sent (--bytes)" in refused(
        url, "resolve", "h1", "--in-full", "--reason", "x", "--yes"
    )


def test_a_living_programs_hold_is_nobodys_to_decide(ledger: SqlLedger, url: str) -> None:
    meter = Meter.create(meter_directory(url, Path()), "h1")
    ledger.open_hold(terms(host=host_name()), [USD], claiming({USD: (0, 10**9)}))
    assert "running: its meter is locked" in refused(
        url, "resolve", "h1", "--in-full", "--reason", "x", "--yes"
    )
    meter.close(remove=True)


def test_a_hold_that_was_renewed_a_moment_ago_has_a_program(ledger: SqlLedger, url: str) -> None:
    """On another machine, or without its meter, its renewals show that it lives."""
    ledger.open_hold(terms(host="lab-7"), [USD], claiming({USD: (0, 10**9)}))
    ledger.activate("h1")
    now = datetime.now(UTC)
    ledger.restate("h1", 1, [USD], claiming({USD: (0, 10**9)}), now - timedelta(seconds=5))
    assert "was renewed at" in refused(url, "resolve", "h1", "--in-full", "--reason", "x", "--yes")
    ledger.restate("h1", 2, [USD], claiming({USD: (0, 10**9)}), now - timedelta(minutes=2))
    done(url, "resolve", "h1", "--in-full", "--reason", "x", "--yes")


def test_a_hold_that_its_meter_proves_is_settled_by_that_and_needs_no_decision(
    ledger: SqlLedger, url: str
) -> None:
    ledger.open_hold(terms(host=host_name()), [USD], claiming({USD: (0, 10**9)}))
    ledger.activate("h1")
    Meter.create(meter_directory(url, Path()), "h1").close(remove=False)
    said = refused(url, "resolve", "h1", "--in-full", "--reason", "x", "--yes")
    assert "hold h1 needs no decision: it has just been, from its meter" in said
    (row,) = ledger.entries("desk", "2026-11")
    assert row.ending == "recovered"
    assert "it is settled already" in refused(url, "resolve", "h1", "--in-full", "--reason", "x", "--yes")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("h1", "--in-full", "--yes"), "say why with --reason"),
        (("h1", "--in-full", "--reason", " ", "--yes"), "say something: it is kept on record"),
        (("h1", "--reason", "x", "--yes"), "say what it used, with one of"),
        (("h1", "--in-full", "--bytes", "5", "--reason", "x", "--yes"), "say what it used, with one of"),
        (("h1", "--bytes", "0", "--reason", "x", "--yes"), "0 is not in the range"),
        (("h1", "--bytes", str(2**64), "--reason", "x", "--yes"), "is not in the range"),
        (("h1", "--in-full", "--reason", "power\ncut", "--yes"), "write it in one line"),
        (("--in-full", "--reason", "x", "--yes"), "name the hold that this is about"),
        (("h1", "--in-full", "--reason", "x"), "add --yes if you are sure"),
        (("h7", "--in-full", "--reason", "x", "--yes"), "knows no hold"),
    ],
)
def test_a_decision_that_is_not_complete_is_wrong_usage_and_changes_nothing(
    ledger: SqlLedger, url: str, arguments: tuple[str, ...], says: str
) -> None:
    leave(ledger, url)
    result = run(url, "resolve", *arguments)
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.split())
    assert ledger.balances([USD])[USD].held == 10**9


@pytest.mark.parametrize(("answer", "state"), [("y\n", "settled"), ("n\n", "active")])
def test_on_a_terminal_it_shows_what_is_known_and_asks(
    ledger: SqlLedger, url: str, answer: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(ledger, url)
    monkeypatch.setattr("budget_guard.cli.ledger._is_terminal", lambda: True)
    result = run(url, "resolve", "h1", "--in-full", "--reason", "x", "--by", "Ada", said=answer)
    assert "Hold h1 is active" in result.stderr
    assert "Close hold h1 in full, for good? [y/N]" in result.stderr
    assert (str(result.exception) == "nothing was decided: hold h1 stays open") == (state == "active")
    hold = ledger.hold("h1")
    assert hold is not None
    assert hold.state == state


# --- copy -----------------------------------------------------------------------------------------------------


def test_a_ledger_is_moved_and_both_places_are_named(ledger: SqlLedger, url: str, tmp_path: Path) -> None:
    finish(ledger)
    target = f"sqlite:///{tmp_path / 'new.sqlite'}"
    said = done("sqlite:///nowhere", "copy", url, target)
    assert f"moved {tmp_path / 'ledger.sqlite'} to {tmp_path / 'new.sqlite'}: 1 balance, 1 hold" in said
    assert "Set BUDGET_GUARD_LEDGER to the new URL" in said
    assert "Sound" in done(target, "verify")
    assert "has moved to" in refused(url, "verify")
    again = json.loads(
        done(target, "copy", target, f"sqlite:///{tmp_path / 'third.sqlite'}", "--format", "json")
    )
    assert again["rows"]["entries"] == 1
