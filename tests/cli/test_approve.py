"""`budget-guard approve`: what it records, what it says, and what it refuses to record."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from budget_guard.cli import cli
from budget_guard.ledger.machine import host_name
from budget_guard.ledger.store import SqlLedger
from tests.ledger.samples import USD, claiming, terms

POLICY = """\
version: 1
name: nq
timezone: America/New_York
account: {name: desk}
budgets:
  - {name: account, month: 200 USD, day: 15 USD, total: 0 USD}
  - name: live
    match: {mode: live}
    month: {gib: 60, hours: 8}
  - {name: open, month: unlimited}
streams:
  nq:
    dataset: GLBX.MDP3
    schema: mbo
    symbols: [NQ.v.0]
    stype_in: continuous
    windows: always
"""
TOMORROW = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
UNTIL = TOMORROW.strftime("%Y-%m-%dT%H:%M:%SZ")


def run(url: str, *arguments: str, policy: str = POLICY, **environment: str) -> Result:
    file = Path(url.removeprefix("sqlite:///")).with_name("policy.yaml")
    file.write_text(policy)
    variables = {"BUDGET_GUARD_LEDGER": url, "DATABENTO_API_KEY": "", "BUDGET_GUARD_NOW": "", **environment}
    given = dict(zip(arguments[::2], arguments[1::2], strict=True))
    defaults = {
        "--budget": "account",
        "--amount": "25",
        "--until": UNTIL,
        "--reason": "results day",
        "--by": "Ada",
    }
    options = [text for pair in (defaults | given).items() for text in pair]
    return CliRunner().invoke(cli, ["approve", str(file), *options], env=variables)


def test_an_approval_is_recorded_with_its_reason_and_whose_word_it_is(ledger: SqlLedger, url: str) -> None:
    """From now on, in the ledger's integers."""
    before = datetime.now(UTC)
    assert run(url, "--amount", "2.50").exit_code == 0
    (found,) = ledger.approvals("desk")
    assert (found.budget, found.unit, found.amount) == ("account", "usd", 2_500_000_000)
    assert (found.reason, found.name, found.until_utc) == ("results day", "Ada", TOMORROW)
    assert before <= found.from_utc <= datetime.now(UTC)


def test_it_says_what_each_limit_was_and_is(ledger: SqlLedger, url: str) -> None:
    """Also of a limit of 0, and with what was approved before; the place of the ledger comes last."""
    said = run(url).stdout
    assert f"account of desk: 25 usd more until {UNTIL}" in said
    assert "(day 15 -> 40 usd; month 200 -> 225 usd; total 0 -> 25 usd)" in said
    assert "said Ada: results day" in said
    assert said.endswith(f"ledger: {url.removeprefix('sqlite:///')}\n")
    assert "(day 40 -> 41 usd; month 225 -> 226 usd; total 25 -> 26 usd)" in run(url, "--amount", "1").stdout


def test_json_goes_alone_to_stdout_with_exact_decimals(ledger: SqlLedger, url: str) -> None:
    """No exponents, no trailing zeros."""
    result = run(url, "--amount", "10.0", "--budget", "live", "--unit", "gib", "--format", "json")
    found = json.loads(result.stdout)
    assert found.pop("id") == ledger.approvals("desk")[0].id
    assert found.pop("from_utc").endswith("Z")
    assert found == {
        "account": "desk", "budget": "live", "unit": "gib", "amount": "10", "until_utc": UNTIL,
        "reason": "results day", "by": "Ada",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("--budget", "acount"),
            "the policy has no budget 'acount'; did you mean account? It has account, live, open",
        ),
        (("--budget", "zzz"), "the policy has no budget 'zzz'. It has account, live, open"),
        (("--unit", "gib"), "budget account has no limit in gib; it limits usd"),
        (("--budget", "open"), "budget open has no limit in usd; nothing in it is limited"),
        (("--amount", "0"), "'0' should be an amount above 0"),
        (("--amount", "-5"), "'-5' should be an amount above 0"),
        (("--amount", "NaN"), "'NaN' should be an amount above 0"),
        (("--amount", "much"), "'much' should be an amount above 0"),
        (("--amount", "0.0000000001"), "is too little to count"),
        (("--amount", "1000000000000"), "is more than a ledger can count"),
        (("--amount", "25 USD"), "digits alone, --unit says of what"),
        (("--amount", "25,5"), "'25,5' should be an amount above 0"),
        (("--amount", "2e5"), "'2e5' should be an amount above 0"),
        (("--amount", "1_000"), "'1_000' should be an amount above 0"),
        (("--amount", "\u0663"), "should be an amount above 0"),
        (("--until", "2020-01-01T00:00:00Z"), "2020-01-01T00:00:00Z is over"),
        (("--until", "2030-01-01T00:00:00"), "has no time zone"),
        (("--until", "9999-12-31T23:59:59-12:00"), "is not in the years 1 to 9999"),
        (("--until", "9999-12-31"), "should be a date"),
        (("--until", "2030-02-30"), "should be a date"),
        (("--until", "2020-01-01"), "that day ended at 2020-01-02T05:00:00Z; it is 20"),
        (
            ("--until", "tomorrow"),
            "'tomorrow' should be an instant with its zone, as 2026-11-23T21:00:00Z, or a date",
        ),
        (("--reason", "  "), "say something: it is kept on record"),
        (("--by", ""), "say something: it is kept on record"),
        (("--reason", "results\nday"), "write it in one line"),
        (("--by", "\x1b[31mAda"), "write it in one line"),
    ],
)
def test_what_cannot_be_approved_is_wrong_usage_and_leaves_no_trace(
    ledger: SqlLedger, url: str, arguments: tuple[str, ...], says: str
) -> None:
    """Each with what would be right."""
    result = run(url, *arguments)
    assert result.exit_code == 2, result.output
    assert says in " ".join(result.stderr.split())
    assert ledger.approvals("desk") == []


def test_half_a_connection_is_not_approved(ledger: SqlLedger, url: str) -> None:
    """What is said to be recorded is what is recorded."""
    policy = POLICY.replace("hours: 8", "connections: 400")
    result = run(url, "--budget", "live", "--unit", "connections", "--amount", "1.5", policy=policy)
    assert result.exit_code == 2
    assert "connections are counted whole, and 1.5 is not" in " ".join(result.stderr.split())
    assert ledger.approvals("desk") == []
    assert (
        run(url, "--budget", "live", "--unit", "connections", "--amount", "2.0", policy=policy).exit_code == 0
    )


def test_a_date_is_included_whole_in_the_policys_time_zone(ledger: SqlLedger, url: str) -> None:
    """Until the end of that day in New York, summer time or not."""
    run(url, "--until", "2030-06-30")
    run(url, "--until", "2030-12-30")
    assert [found.until_utc for found in ledger.approvals("desk")] == [
        datetime(2030, 7, 1, 4, tzinfo=UTC),
        datetime(2030, 12, 31, 5, tzinfo=UTC),
    ]


def test_a_date_that_ends_twice_or_never_has_to_be_written_as_an_instant(ledger: SqlLedger, url: str) -> None:
    """In Beirut clocks change at midnight: which of the two is meant is for the user to say."""
    policy = POLICY.replace("America/New_York", "Asia/Beirut")
    result = run(url, "--until", "2030-03-30", policy=policy)
    assert result.exit_code == 2
    assert "clocks in Asia/Beirut change as that day ends: write the instant" in " ".join(
        result.stderr.split()
    )
    assert ledger.approvals("desk") == []


def test_the_users_name_stands_where_nobody_is_named(
    ledger: SqlLedger, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a user without one is asked for it."""

    def nobody() -> str:
        raise KeyError("uid not found")

    def approve() -> Result:
        file = Path(url.removeprefix("sqlite:///")).with_name("policy.yaml")
        file.write_text(POLICY)
        options = ["--budget", "account", "--amount", "1", "--until", UNTIL, "--reason", "x"]
        environment = {"BUDGET_GUARD_LEDGER": url, "DATABENTO_API_KEY": "", "BUDGET_GUARD_NOW": ""}
        return CliRunner().invoke(cli, ["approve", str(file), *options], env=environment)

    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    assert approve().exit_code == 0
    assert [found.name for found in ledger.approvals("desk")] == ["ada"]
    monkeypatch.setattr("getpass.getuser", nobody)
    result = approve()
    assert result.exit_code == 2
    assert "this user has no name: say who decides, with --by" in " ".join(result.stderr.split())


def test_what_nothing_proves_is_told_on_stderr(ledger: SqlLedger, url: str) -> None:
    """As every command that opens the ledger does."""
    ledger.open_hold(terms(meter=None, host=host_name()), [USD], claiming({USD: (0, 1)}))
    assert "hold h1 (nq-mbo) stays open" in run(url).stderr
