"""A ledger moves to another database whole; whatever breaks the move off, no two ledgers are ever of use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from budget_guard.clock import ManualClock
from budget_guard.errors import LedgerError
from budget_guard.ledger import copying, schema
from budget_guard.ledger.audit import audit
from budget_guard.ledger.backends import meter_directory
from budget_guard.ledger.copying import Copied, copy_ledger
from budget_guard.ledger.export import export_rows
from budget_guard.ledger.meter import Meter
from budget_guard.ledger.model import Approval, Overrun
from budget_guard.ledger.store import SqlLedger, open_ledger
from budget_guard.money import cost_nano_usd
from tests.contract.conftest import STORES
from tests.ledger.samples import (
    MONTH_START,
    OPENED,
    PRICE,
    USD,
    breaker,
    claiming,
    entry,
    gap,
    purchase,
    refusal,
    terms,
)
from tests.postgres import fresh_database

COST = cost_nano_usd(2**30, PRICE)
Copy = Callable[[str, str], Copied]


def fill(ledger: SqlLedger) -> None:
    """A row in every table, and nothing open."""
    for name in ("h1", "h2"):
        ledger.open_hold(terms(name, request='{"symbols": ["Ω", "100%"]}'), [USD], claiming({USD: (0, 7)}))
    ledger.activate("h1", OPENED)
    over = Overrun("o1", "h1", "desk", "account", "month", MONTH_START, "usd", 1, 1, OPENED, "it's over")
    ledger.settle("h1", {USD: COST}, [entry("h1", "h1:1")], lambda _: [over], OPENED)
    ledger.release("h2", OPENED)
    ledger.record_refusal(refusal(asked_nano_usd=5))
    ledger.record_gap(gap())
    until = OPENED.replace(year=2027)
    ledger.record_approval(Approval("a1", "desk", "account", "usd", 5, OPENED, until, "results day", "Ada"))
    ledger.record_breaker(breaker())
    ledger.record_purchase(purchase())


def exported(ledger: SqlLedger) -> list[dict[str, object]]:
    return list(export_rows(ledger, "desk", everything=True))


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return lambda source, target: copy_ledger(source, target, tmp_path, clock=ManualClock(OPENED))


@pytest.fixture
def old(tmp_path: Path) -> str:
    """The URL of a ledger in a file, filled and closed."""
    url = f"sqlite:///{tmp_path / 'old.sqlite'}"
    ledger = open_ledger(url)
    fill(ledger)
    ledger.close()
    return url


def new(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'new.sqlite'}"


def test_a_copy_that_is_refused_leaves_no_file_that_would_pass_for_a_ledger(
    tmp_path: Path, copy: Copy
) -> None:
    """A hold is open."""
    source = f"sqlite:///{tmp_path / 'old.sqlite'}"
    ledger = open_ledger(source)
    ledger.open_hold(terms(meter=None), [USD], claiming({USD: (0, 7)}))
    ledger.activate("h1")
    ledger.close()
    with pytest.raises(LedgerError, match="open"):
        copy(source, new(tmp_path))
    assert not (tmp_path / "new.sqlite").exists()


@pytest.mark.parametrize(
    ("first", "second"), [("sqlite", "postgresql"), ("postgresql", "sqlite"), ("sqlite", "sqlite")]
)
def test_every_row_arrives_and_the_ledger_keeps_its_id(
    tmp_path: Path, copy: Copy, first: str, second: str
) -> None:
    """Either way, and what is written next goes on after the last row."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    source, target = STORES[first](tmp_path / "a"), STORES[second](tmp_path / "b")
    ledger = open_ledger(source)
    fill(ledger)
    rows, identity = exported(ledger), ledger.identity
    ledger.close()
    copied = copy(source, target)
    assert copied.audit.sound
    assert copied.as_json()["rows"] == {
        "approvals": 1, "balances": 1, "breakers": 1, "gaps": 1, "holds": 2, "overruns": 1,
        "purchases": 1, "refusals": 1, "claims": 2, "entries": 1,
    }  # fmt: skip
    ledger = open_ledger(target)
    assert (exported(ledger), ledger.identity) == (rows, identity)
    ledger.open_hold(terms("h3"), [USD], claiming({USD: (0, 7)}))
    ledger.settle("h3", {USD: COST}, [entry("h3", "h3:1")])
    ledger.record_refusal(refusal("r2"))
    assert audit(ledger).sound
    assert ledger.balances([USD])[USD].settled == 2 * COST
    ledger.close()


def test_a_rehearsals_ledger_stays_one(tmp_path: Path, copy: Copy) -> None:
    """What it says of itself moves with it."""
    url = f"sqlite:///{tmp_path / 'old.sqlite'}"
    ledger = open_ledger(url)
    ledger.mark_rehearsal()
    ledger.close()
    copy(url, new(tmp_path))
    ledger = open_ledger(new(tmp_path))
    assert ledger.is_rehearsal()
    ledger.close()


def test_the_old_ledger_refuses_further_use_and_names_the_new_place_without_the_password(
    old: str, copy: Copy
) -> None:
    """Whoever opens it reads where to go."""
    target = fresh_database()
    named = target.replace("postgresql://postgres:", "postgresql://postgres:secret")
    copy(old, named)
    with pytest.raises(
        LedgerError, match=r"has moved to postgresql://.*set BUDGET_GUARD_LEDGER to that"
    ) as caught:
        open_ledger(old)
    assert "secret" not in str(caught.value)
    with pytest.raises(LedgerError, match="has moved to"):
        copy(old, fresh_database())


@pytest.mark.parametrize("store", sorted(STORES))
def test_a_program_that_has_the_old_ledger_open_can_write_nothing_more(
    tmp_path: Path, copy: Copy, store: str
) -> None:
    """The database itself refuses, and says where the ledger is now."""
    url = STORES[store](tmp_path)
    ledger = open_ledger(url)
    fill(ledger)
    copy(url, f"sqlite:///{tmp_path / 'it' / 'new.sqlite'}")
    with pytest.raises(LedgerError, match=r"has moved to /.*new\.sqlite and takes nothing more"):
        ledger.open_hold(terms("h3"), [USD], claiming({USD: (0, 7)}))
    with pytest.raises(LedgerError, match="has moved to"):
        ledger.record_refusal(refusal("r2"))
    ledger.close()


def test_open_holds_of_living_programs_keep_it_from_moving(tmp_path: Path, copy: Copy, old: str) -> None:
    """They are named, and nothing has changed."""
    ledger = open_ledger(old)
    ledger.open_hold(terms("running"), [USD], claiming({USD: (0, 7)}))
    with pytest.raises(LedgerError, match=r"1 holds are open: running \(nq-mbo on desk-1\).*ledger resolve"):
        copy(old, new(tmp_path))
    ledger.release("running")
    copy(old, new(tmp_path))
    ledger.close()


def test_what_dead_programs_left_is_settled_first(tmp_path: Path, copy: Copy, old: str) -> None:
    """The old ledger is recovered as any command would."""
    ledger = open_ledger(old)
    ledger.open_hold(terms("dead"), [USD], claiming({USD: (0, 10**9)}))
    ledger.activate("dead")
    ledger.close()
    Meter.create(meter_directory(old, tmp_path), "dead").close(remove=False)
    copied = copy(old, new(tmp_path))
    assert [found.outcome for found in copied.recovered] == ["settled"]
    assert copied.audit.rows["entries"] == 2


def test_a_place_that_holds_anything_is_refused(tmp_path: Path, copy: Copy, old: str) -> None:
    """Another ledger, somebody's database, or the ledger itself under another name; an unused ledger is no matter."""
    target = fresh_database()
    with psycopg.connect(target) as sql:
        sql.execute("CREATE TABLE theirs (x int)")
    with pytest.raises(LedgerError, match="holds other tables: copy into an empty database"):
        copy(old, target)
    ledger = open_ledger(new(tmp_path))
    fill(ledger)
    ledger.close()
    with pytest.raises(LedgerError, match="holds a ledger already: copy into an empty place"):
        copy(old, new(tmp_path))
    (tmp_path / "link.sqlite").symlink_to(tmp_path / "old.sqlite")
    for same in (old, f"sqlite:///{tmp_path / 'link.sqlite'}"):
        with pytest.raises(LedgerError, match="is both the old place and the new one"):
            copy(old, same)
    unused = f"sqlite:///{tmp_path / 'unused.sqlite'}"
    open_ledger(unused).close()
    copy(old, unused)


def test_a_source_that_is_not_there_is_not_made(tmp_path: Path, copy: Copy) -> None:
    """A slip of the pen copies no empty ledger."""
    with pytest.raises(LedgerError, match="there is no ledger at"):
        copy(f"sqlite:///{tmp_path / 'typo.sqlite'}", new(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_that_does_not_agree_with_itself_is_not_copied(tmp_path: Path, copy: Copy) -> None:
    """It can still be used where it is, and the new place is empty."""
    url, target = fresh_database(), fresh_database()
    ledger = open_ledger(url)
    fill(ledger)
    with psycopg.connect(url) as sql:
        sql.execute("UPDATE balances SET held = 5")
    with pytest.raises(
        LedgerError, match=r"does not agree with itself in 1 places \(budget-guard ledger verify"
    ):
        copy(url, target)
    assert ledger.open_holds() == []
    ledger.close()
    with psycopg.connect(target) as sql:
        assert sql.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchall() == [(0,)]


def test_what_the_new_database_cannot_hold_keeps_the_ledger_where_it_is(old: str, copy: Copy) -> None:
    """PostgreSQL knows no NUL in a text; the old ledger goes on as if nothing had been tried."""
    ledger = open_ledger(old)
    ledger.record_gap(gap("g2", note="a\0b"))
    target = fresh_database()
    with pytest.raises(LedgerError, match="NUL"):
        copy(old, target)
    ledger.record_refusal(refusal("r2"))
    ledger.close()
    open_ledger(target).close()


@pytest.mark.parametrize("store", sorted(STORES))
def test_a_copy_that_broke_off_before_the_old_ledger_was_marked_is_made_again(
    tmp_path: Path, copy: Copy, old: str, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then the old ledger is the one in use, and the copy refuses."""
    target = STORES[store](tmp_path)

    def die(*_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(schema, "moved_text", die)
        with pytest.raises(KeyboardInterrupt):
            copy(old, target)
    with pytest.raises(
        LedgerError, match="is a copy that was not finished: run `budget-guard ledger copy` again"
    ):
        open_ledger(target)
    ledger = open_ledger(old)
    ledger.record_refusal(refusal("r2"))
    ledger.close()
    assert copy(old, target).audit.rows["refusals"] == 2
    ledger = open_ledger(target)
    assert audit(ledger).sound
    ledger.close()


def test_a_copy_that_broke_off_after_the_old_ledger_was_marked_is_finished(
    tmp_path: Path, copy: Copy, old: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither can be used until then; a copy to elsewhere is refused."""
    target = new(tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(copying, "_arrive", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            copy(old, target)
    for url in (old, target):
        with pytest.raises(LedgerError, match=r"has moved|not finished"):
            open_ledger(url)
    with pytest.raises(LedgerError, match="has moved to"):
        copy(old, f"sqlite:///{tmp_path / 'other.sqlite'}")
    assert copy(old, target).audit.rows["holds"] == 2
    ledger = open_ledger(target)
    assert ledger.open_holds() == []
    ledger.close()
