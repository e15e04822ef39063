"""An audit finds nothing in a sound ledger, and each kind of damage in one that was tampered with."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from budget_guard.ledger.audit import Audit, audit
from budget_guard.ledger.model import BalanceKey, Overrun
from budget_guard.ledger.recovery import resolve_in_full
from budget_guard.ledger.store import SqlLedger, open_ledger
from budget_guard.money import cost_nano_usd
from tests.contract.conftest import STORES
from tests.ledger.samples import MONTH_START, OPENED, USD, claiming, entry, key, terms

GIB = key(unit="gib")
DAY = BalanceKey("desk", "account", "day", OPENED.replace(hour=5, minute=0, second=0, microsecond=0), "usd")
COST = cost_nano_usd(2**30, Decimal("2.16"))

# What a database client needs to do before it may break a ledger's rules.
UNPROTECTED = "".join(
    f"DROP TRIGGER {table}_no_{verb};"
    for table in ("entries", "approvals", "overruns")
    for verb in ("update", "delete")
)
PROTECTION = {"protection"}


@dataclass
class Books:
    """A ledger with one hold of each state, and the file it is in."""

    ledger: SqlLedger
    path: Path

    def damage(self, statements: str) -> Audit:
        """Run statements past every rule of the database, and audit what is left."""
        raw = sqlite3.connect(self.path)
        raw.executescript(
            f"PRAGMA foreign_keys=OFF; PRAGMA ignore_check_constraints=ON; {UNPROTECTED} {statements}"
        )
        raw.close()
        return audit(self.ledger)


def fill(ledger: SqlLedger) -> None:
    """A hold that is settled, one that runs, one that is asked for, one given back, and one decided in full."""
    keys = [USD, GIB, DAY]
    for name in ("done", "running", "asked", "back", "decided"):
        ledger.open_hold(
            terms(name, connection_id=name),
            keys,
            claiming({USD: (0, 5 * 10**9), GIB: (0, 2**31), DAY: (0, 10**9)}),
        )
    ledger.activate("done")
    ledger.settle("done", {USD: COST, DAY: COST, GIB: 2**30}, [entry("done", "done:1")])
    ledger.activate("running")
    ledger.restate("running", 1, keys, claiming({USD: (10, 90), GIB: (5, 7), DAY: (10, 20)}))
    ledger.release("back")
    resolve_in_full(ledger, "decided", now=OPENED, reason="power cut")


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    path = tmp_path / "ledger.sqlite"
    ledger = open_ledger(f"sqlite:///{path}")
    fill(ledger)
    yield Books(ledger, path)
    ledger.close()


@pytest.mark.parametrize("store", sorted(STORES))
def test_a_ledger_that_was_only_used_is_sound(store: str, tmp_path: Path) -> None:
    """Whatever states its holds are in; every row is counted."""
    ledger = open_ledger(STORES[store](tmp_path))
    fill(ledger)
    found = audit(ledger)
    ledger.close()
    assert found.findings == ()
    assert found.sound
    assert (found.rows["holds"], found.rows["entries"], found.rows["claims"], found.rows["balances"]) == (
        5,
        2,
        15,
        3,
    )


def test_an_empty_ledger_is_sound(tmp_path: Path) -> None:
    """It has nothing that could differ."""
    ledger = open_ledger(f"sqlite:///{tmp_path / 'new.sqlite'}")
    assert audit(ledger).sound
    ledger.close()


@pytest.mark.parametrize(
    ("statement", "kinds"),
    [
        ("UPDATE balances SET settled = settled + 1 WHERE unit = 'gib'", {"balance_settled"}),
        ("UPDATE balances SET settled = settled - 1 WHERE unit = 'gib'", {"balance_settled"}),
        ("UPDATE balances SET held = 0 WHERE unit = 'gib'", {"balance_held"}),
        ("UPDATE balances SET holders = 0 WHERE unit = 'gib'", {"balance_holders"}),
        (
            "UPDATE claims SET settled = settled + 1 WHERE hold_seq = 1 AND balance_seq = 1",
            {"balance_settled", "claim_settled"},
        ),
        ("UPDATE claims SET held = 3 WHERE hold_seq = 1 AND balance_seq = 1", {"balance_held", "claim_held"}),
        (
            "UPDATE claims SET settled = 3 WHERE hold_seq = 4 AND balance_seq = 1",
            {"balance_settled", "claim_settled"},
        ),
        (
            "UPDATE claims SET settled = settled + 1 WHERE hold_seq = 5 AND balance_seq = 3",
            {"balance_settled", "claim_settled"},
        ),
        ("DELETE FROM claims WHERE hold_seq = 4", {"hold_without_claims"}),
        ("INSERT INTO claims VALUES (99, 1, 0, 0)", {"claim_without_hold"}),
        ("INSERT INTO claims VALUES (3, 99, 0, 0)", {"claim_without_balance"}),
        ("DELETE FROM entries WHERE id = 'done:1'", {"hold_without_entry"}),
        ("UPDATE entries SET hold_id = 'nobody' WHERE id = 'done:1'", {"hold_without_entry", "entry_without_hold"}),
        ("UPDATE entries SET hold_id = 'running' WHERE id = 'done:1'",
         {"hold_without_entry", "active_hold_with_entry"}),
        ("UPDATE entries SET hold_id = 'back' WHERE id = 'done:1'",
         {"hold_without_entry", "released_hold_with_entry"}),
        ("UPDATE entries SET cost_nano_usd = cost_nano_usd + 1 WHERE id = 'done:1'",
         {"entry_cost", "claim_settled"}),
        ("UPDATE entries SET residual_nano_usd = 1 WHERE id = 'done:1'", {"entry_residual", "claim_settled"}),
        ("UPDATE entries SET unit_price_usd = '2.17' WHERE id = 'done:1'", {"entry_cost"}),
        ("UPDATE entries SET unit_price_usd = 'much' WHERE id = 'done:1'", {"entry_price"}),
        ("UPDATE entries SET size_bytes = 1 WHERE id = 'done:1'", {"entry_cost", "entry_size", "claim_settled"}),
        ("UPDATE entries SET control_bytes = size_bytes + 1 WHERE id = 'done:1'", {"entry_size"}),
        ("UPDATE entries SET account = 'lab' WHERE id = 'done:1'", {"entry_account"}),
        ("UPDATE entries SET month = '2026-12' WHERE id = 'done:1'", {"entry_month"}),
        ("UPDATE entries SET ended_utc = started_utc - 1 WHERE id = 'done:1'", {"entry_times"}),
        ("UPDATE holds SET state = 'lost' WHERE id = 'asked'",
         {"hold_state", "claim_held", "balance_holders"}),
        ("UPDATE holds SET month = '2026-12' WHERE id = 'asked'", {"hold_month", "claim_month"}),
        ("UPDATE holds SET account = 'lab' WHERE id = 'asked'", {"claim_account"}),
        ("DELETE FROM meta WHERE name = 'id'", {"meta"}),
    ],
)  # fmt: skip
def test_each_kind_of_damage_is_found(books: Books, statement: str, kinds: set[str]) -> None:
    """And nothing is reported that the damage did not touch."""
    found = books.damage(statement)
    assert {finding.kind for finding in found.findings} == kinds | PROTECTION
    assert not found.sound
    for finding in found.findings:
        assert finding.row and finding.expected and finding.found and finding.why


def test_a_finding_says_which_row_what_it_should_say_and_what_it_says(books: Books) -> None:
    """In the units that people write."""
    found = books.damage("UPDATE balances SET settled = settled + 1000000000 WHERE seq = 3")
    (wrong,) = [finding for finding in found.findings if finding.kind == "balance_settled"]
    assert wrong.row == "balance account month usd of desk from 2026-11-01T00:00:00Z"
    assert (wrong.expected, wrong.found) == ("7.16000001 USD", "8.16000001 USD")
    assert wrong.why == "too much is refused"


def test_an_overrun_of_no_hold_is_found(books: Books) -> None:
    """Its table has no key to holds: it may be written by hand."""
    books.damage("INSERT INTO overruns VALUES (1,'o','nobody','desk','account','month',0,'usd',1,1,0,'')")
    assert "overrun_without_hold" in {finding.kind for finding in audit(books.ledger).findings}


def test_tables_whose_rows_could_be_changed_are_named(books: Books) -> None:
    """Somebody has taken the triggers off."""
    found = books.damage("")
    assert [finding.row for finding in found.findings] == [
        "table entries",
        "table approvals",
        "table overruns",
    ]


def test_a_trigger_that_was_switched_off_is_noticed_in_postgresql(tmp_path: Path) -> None:
    """Switching off is not dropping."""
    url = STORES["postgresql"](tmp_path)
    ledger = open_ledger(url)
    with psycopg.connect(url) as sql:
        sql.execute("ALTER TABLE entries DISABLE TRIGGER ALL")
    assert [finding.row for finding in audit(ledger).findings] == ["table entries"]
    ledger.close()


def test_a_continuation_without_claims_of_its_own_is_no_damage(tmp_path: Path) -> None:
    """Where only connections are limited, the hold that a connection goes on under has nothing left to claim."""
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    once = key(unit="connections")
    ledger.open_hold(terms("first"), [once], claiming({once: (0, 1)}))
    ledger.open_hold(terms("second"), [], claiming({}))
    assert audit(ledger).sound
    ledger.open_hold(terms("stray", connection_id="c2"), [], claiming({}))
    assert [finding.kind for finding in audit(ledger).findings] == ["hold_without_claims"]
    ledger.close()


def test_findings_beyond_those_kept_are_counted(books: Books) -> None:
    """A ledger that is wrong everywhere does not fill the memory."""
    books.damage("UPDATE balances SET settled = settled + 1")
    found = audit(books.ledger, most=2)
    assert (len(found.findings), found.more) == (2, 4)
    assert found.as_json()["more"] == 4


@pytest.mark.parametrize("store", sorted(STORES))
def test_an_audit_sees_one_instant_of_a_ledger_in_use(store: str, tmp_path: Path) -> None:
    """What is written while it reads is not in it, and is not kept waiting."""
    url = STORES[store](tmp_path)
    ledger, other = open_ledger(url), open_ledger(url)
    fill(ledger)
    with ledger.snapshot() as tx:
        before = list(tx.exec_driver_sql("SELECT sum(settled), sum(held) FROM balances"))
        other.open_hold(terms("late"), [USD], claiming({USD: (0, 7)}))
        assert list(tx.exec_driver_sql("SELECT sum(settled), sum(held) FROM balances")) == before
    assert audit(ledger).sound
    ledger.close()
    other.close()


def test_overruns_of_known_holds_are_no_damage(books: Books) -> None:
    """They are what the ledger is for."""
    past = Overrun(
        "o1", "asked", "desk", "account", "month", MONTH_START, "usd", 1, 1, OPENED + timedelta(1), ""
    )
    books.ledger.settle(
        "asked", {USD: COST, DAY: COST, GIB: 2**30}, [entry("asked", "asked:1")], lambda _: [past]
    )
    assert audit(books.ledger).sound
