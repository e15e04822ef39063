"""What the vendor refuses for good is asked for again only now and then, by one program of the account."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from io import StringIO
from pathlib import Path

import pytest
from databento import BentoError
from rich.console import Console

from budget_guard.clock import ManualClock
from budget_guard.decisions import deny
from budget_guard.errors import LedgerError
from budget_guard.gateway.breakers import FIRST_PAUSE, LONGEST_PAUSE, Breakers, close_accepted
from budget_guard.guard.breakers import open_breakers
from budget_guard.guard.status import take_status
from budget_guard.render.status import render_status
from budget_guard.streaming.assembly import stream_windows
from tests.gateway.desk import ACCOUNT, GLBX, NOW, NQ, TIMEOUT_S, Desk, eventually
from tests.gateway.fake_gateway import NOW_NS, FakeGateway, Session, desk_before, orders

LICENCE = "A live data license is required to access GLBX.MDP3."
REFUSAL = deny("not_entitled", LICENCE)
WELCOME = b"success=1|session_id=7\n"
KEY = "db-" + "k" * 29


async def serve(session: Session) -> None:
    session.header()
    session.send(b"".join(orders(NOW_NS, 10)))
    await session.until_fin()


@contextmanager
def program(vendor: FakeGateway, folder: Path, clock: ManualClock) -> Iterator[Desk]:
    """One program of several that share a ledger."""
    with desk_before(vendor, folder, clock=clock) as desk:
        yield desk


def test_the_next_program_is_told_at_logon_and_the_vendor_is_not_asked(tmp_path: Path) -> None:
    clock = ManualClock(NOW)
    vendor = FakeGateway(serve, answer=f"success=0|error={LICENCE}\n".encode())
    with program(vendor, tmp_path, clock) as first:
        client, _ = first.streaming()
        with pytest.raises(BentoError, match="not_entitled"):
            client.block_for_close(TIMEOUT_S)
    with program(vendor, tmp_path, clock) as second:
        told = f"not_entitled retry at 2026-11-24T15:31:00Z: {LICENCE}.*answer of 2026-11-24T15:30:00Z"
        with pytest.raises(BentoError, match=told):
            second.live().subscribe(**NQ)  # type: ignore[arg-type]
        assert len(vendor.sessions) == 1
        assert [one.code for one in second.gateway.host.outcome.vendor] == ["not_entitled"]
        vendor.answer = WELCOME
        clock.advance(61)
        _, got = second.streaming()
        got.wait_for_data(10)
        assert len(vendor.sessions) == 2
        (kept,) = second.books.breakers(ACCOUNT, NOW)
        eventually(lambda: second.books.breakers(ACCOUNT, NOW)[0].until_utc == clock.now())
        assert kept.message.startswith(LICENCE)


def test_a_stream_that_is_being_mended_heeds_what_another_program_was_told(tmp_path: Path) -> None:
    async def script(session: Session) -> None:
        await serve(session) if session.number > 1 else session.header()
        session.send(b"".join(orders(NOW_NS, 10)))
        await vendor.turn()

    clock = ManualClock(NOW)
    vendor = FakeGateway(script)
    with program(vendor, tmp_path, clock) as desk:
        client, got = desk.streaming()
        got.wait_for_data(10)
        Breakers(desk.gateway.opened.guard, KEY).open(GLBX, REFUSAL)
        vendor.go_on()
        with pytest.raises(BentoError, match=f"not_entitled.*{LICENCE}"):
            client.block_for_close(TIMEOUT_S)
        assert len(vendor.sessions) == 1
        assert [gap.mended for gap in desk.gaps()] in ([], [""])


@contextmanager
def breakers(folder: Path, clock: ManualClock) -> Iterator[tuple[Desk, Breakers]]:
    with program(FakeGateway(serve), folder, clock) as desk:
        yield desk, Breakers(desk.gateway.opened.guard, KEY)


def test_each_time_that_the_vendor_says_it_again_it_is_believed_for_twice_as_long(tmp_path: Path) -> None:
    clock = ManualClock(NOW)
    with breakers(tmp_path, clock) as (desk, mine):
        pauses = []
        for _ in range(9):
            mine.open(GLBX, REFUSAL)
            (one,) = open_breakers(desk.books, ACCOUNT, clock.now())
            pauses.append(one.until_utc - one.opened_utc)
            clock.advance(pauses[-1].total_seconds() + 1)
            assert mine.refusal(GLBX) is None
        assert pauses[:4] == [FIRST_PAUSE * 2**n for n in range(4)]
        assert pauses[-1] == LONGEST_PAUSE


def test_once_the_vendor_accepts_nothing_is_left_of_it(tmp_path: Path) -> None:
    clock = ManualClock(NOW)
    with breakers(tmp_path, clock) as (desk, mine):
        for _ in range(2):
            mine.open(GLBX, REFUSAL)
            assert mine.knows(GLBX) and mine.refusal(GLBX) is not None
            mine.close(GLBX)
            assert not mine.knows(GLBX) and mine.refusal(GLBX) is None
            assert open_breakers(desk.books, ACCOUNT, clock.now()) == []


def test_another_key_is_asked_for_and_no_key_can_be_read(tmp_path: Path) -> None:
    with breakers(tmp_path, ManualClock(NOW)) as (desk, mine):
        mine.open(GLBX, REFUSAL)
        assert Breakers(desk.gateway.opened.guard, "db-" + "x" * 29).refusal(GLBX) is None
        (one,) = open_breakers(desk.books, ACCOUNT, NOW)
        assert KEY[-5:] not in repr(one)


@pytest.mark.parametrize(
    ("code", "elsewhere"), [("not_entitled", False), ("key_rejected", True), ("payment_required", True)]
)
def test_a_licence_is_of_a_dataset_a_key_and_an_account_of_all(
    tmp_path: Path, code: str, elsewhere: bool
) -> None:
    with breakers(tmp_path, ManualClock(NOW)) as (_, mine):
        mine.open(GLBX, deny(code, "no"))  # type: ignore[arg-type]
        assert mine.refusal(GLBX) is not None
        assert (mine.refusal("OPRA.PILLAR") is not None) == elsewhere


@pytest.mark.parametrize("code", ["sessions_full", "vendor_unavailable"])
def test_what_may_be_another_way_in_a_moment_opens_none(tmp_path: Path, code: str) -> None:
    with breakers(tmp_path, ManualClock(NOW)) as (desk, mine):
        mine.open(GLBX, deny(code, "no"))  # type: ignore[arg-type]
        assert desk.books.breakers(ACCOUNT, NOW) == []


def test_one_that_was_opened_on_a_clock_set_back_since_is_not_believed(tmp_path: Path) -> None:
    """It would last for as long as the clock was wrong."""
    clock = ManualClock(NOW + timedelta(days=1))
    with breakers(tmp_path, clock) as (desk, mine):
        mine.open(GLBX, REFUSAL)
        assert open_breakers(desk.books, ACCOUNT, NOW) == []
        clock.advance(-86_400)
        assert mine.refusal(GLBX) is None


def test_a_ledger_that_is_away_opens_and_closes_nothing_and_raises_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise LedgerError("the disk is gone")

    with breakers(tmp_path, ManualClock(NOW)) as (desk, mine):
        for method in ("breakers", "record_breaker"):
            monkeypatch.setattr(desk.gateway.opened.ledger, method, away)
        mine.open(GLBX, REFUSAL)
        assert mine.refusal(GLBX) is None
        mine.close(GLBX)


def test_a_person_who_finds_that_the_vendor_accepts_closes_it_early(tmp_path: Path) -> None:
    """As `budget-guard access` does after its logons; what it was not let into stays."""
    with breakers(tmp_path, ManualClock(NOW)) as (desk, mine):
        mine.open(GLBX, REFUSAL)
        mine.open("OPRA.PILLAR", REFUSAL)
        mine.open(GLBX, deny("key_rejected", "no"))
        assert close_accepted(desk.books, ACCOUNT, "db-" + "x" * 29, [GLBX], NOW) == []
        assert close_accepted(desk.books, ACCOUNT, KEY, [], NOW) == []
        assert close_accepted(desk.books, ACCOUNT, KEY, [GLBX], NOW) == [GLBX, ""]
        assert mine.refusal(GLBX) is None
        assert mine.refusal("OPRA.PILLAR") is not None


def test_status_shows_what_the_vendor_refuses(tmp_path: Path) -> None:
    with breakers(tmp_path, ManualClock(NOW)) as (desk, mine):
        mine.open(GLBX, REFUSAL)
        guard = desk.gateway.opened.guard
        status = take_status(
            guard.policy, desk.books, partial(stream_windows, guard.policy, desk.settings), NOW
        )
    (row,) = status.as_json()["breakers"]
    assert (row["dataset"], row["code"], row["message"]) == (GLBX, "not_entitled", LICENCE)
    assert (row["opened_utc"], row["until_utc"]) == ("2026-11-24T15:30:00Z", "2026-11-24T15:31:00Z")
    console = Console(width=80, record=True, file=StringIO())
    console.print(render_status(status, "UTC", "here"))
    assert "the vendor refuses GLBX.MDP3 live" in console.export_text()
