"""The bill on disk: whole at every moment, gone on with after a kill, and never kept by two at once.

A kill is played by copying the three files as they stand: what a process wrote and mapped is what a killed one leaves.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.clock import ManualClock, month_of
from budget_guard.money import GIB
from budget_guard.sandbox.billing.bill import Bill, BillError, BillLine, read_bill, write_bill
from budget_guard.sandbox.billing.journal import counters_path, journal_path
from budget_guard.sandbox.config import FlatPlan

NOW = datetime(2026, 11, 30, 21, 59, 50, tzinfo=UTC)
KEY = "db-key-abcde"


def kept(path: Path, clock: ManualClock | None = None, kept: int = 1000) -> Bill:
    return Bill(clock or ManualClock(NOW), lambda: None, path=path, kept=kept)


def killed(path: Path) -> Path:
    """What is left when the process that keeps a bill is killed now."""
    left = path.parent / f"{path.parent.name}-left" / path.name
    left.parent.mkdir(exist_ok=True)
    for made in (journal_path(path), counters_path(path)):
        shutil.copyfile(made, left.parent / made.name)
    return left


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "bill"
    folder.mkdir()
    return folder / "bill.json"


@pytest.fixture
def bill(path: Path) -> Iterator[Bill]:
    bill = kept(path)
    yield bill
    bill.finish()


def live(bill: Bill, usd: int = 2) -> BillLine:
    line = bill.open("live", KEY, "GLBX.MDP3")
    line.subscribe("mbo", Decimal(usd))
    return line


def test_a_killed_bill_is_gone_on_with(path: Path, bill: Bill) -> None:
    """What was counted is there, open lines are closed as lost, and numbers go on."""
    first, second = live(bill), live(bill)
    first.add("mbo", GIB)
    first.close("closed by the client")
    second.add("mbo", 56)
    second.add(None, 320)
    again = kept(killed(path))
    try:
        whole = again.as_json()
        assert [line["ended"] for line in whole["connections"]] == [
            "closed by the client",
            "lost with the sandbox",
        ]
        assert (whole["bytes"], whole["control_bytes"], whole["uncertain_bytes"]) == (GIB + 376, 320, 0)
        third = live(again)
        third.add("mbo", 1)
        assert third.number == 3
        assert again.as_json()["bytes"] == GIB + 377
    finally:
        again.finish()


def test_what_a_kill_may_hide_is_said(path: Path, bill: Bill) -> None:
    """A send that was under way may have left uncounted: its bytes stand apart, at the dearest price."""
    line = live(bill)
    line.subscribe("trades", Decimal(28))
    line.intend(GIB)
    whole = read_bill(killed(path), ManualClock(NOW))
    assert (whole["bytes"], whole["uncertain_bytes"], whole["uncertain_cost_usd"]) == (0, GIB, "28")
    assert whole["connections"][0]["uncertain_bytes"] == GIB
    line.add("mbo", 100)
    line.intend(0)
    whole = read_bill(killed(path), ManualClock(NOW))
    assert (whole["bytes"], whole["uncertain_bytes"]) == (100, 0)


def test_what_was_uncertain_stays_so(path: Path, bill: Bill) -> None:
    """The next sandbox, and the one after it, say it too."""
    live(bill).intend(99)
    left = killed(path)
    for _ in range(2):
        again = kept(left)
        assert again.as_json()["uncertain_bytes"] == 99
        again.finish()


def test_an_ended_bill_is_gone_on_with(path: Path) -> None:
    """A sandbox that ended as it should leaves a journal of one line; the next one counts on."""
    for number in range(1, 4):
        bill = kept(path)
        line = live(bill)
        assert line.number == number
        line.add("mbo", 100)
        line.exclude(7)
        bill.finish()
        whole = bill.as_json()
        assert (whole["bytes"], whole["excluded_bytes"]) == (100 * number, 7 * number)
        assert whole["connections"][-1]["ended"] == "ended with the sandbox"
        assert len(journal_path(path).read_text().splitlines()) == 1
        assert counters_path(path).stat().st_size == 0


def test_a_kill_while_taking_up_loses_nothing(path: Path, bill: Bill) -> None:
    """Between the new journal and the wiping of the old counters, both belong together: no byte counts twice."""
    live(bill).add("mbo", 100)
    left = killed(path)
    old_counters = counters_path(left).read_bytes()
    kept(left).finish()
    counters_path(left).write_bytes(old_counters)
    again = kept(left)
    assert again.as_json()["bytes"] == 100
    again.finish()


def test_a_price_stays_as_it_was_charged(path: Path, bill: Bill) -> None:
    """What was sent before a change and after it, and under a plan, costs the same after a kill."""
    line = live(bill, 2)
    line.add("mbo", GIB)
    line.add(None, GIB)
    line.reprice("mbo", Decimal(5))
    line.add("mbo", GIB)
    line.add(None, GIB)
    before, after = bill.as_json(), read_bill(killed(path), ManualClock(NOW))
    assert before["cost_usd"] == after["cost_usd"] == "14"
    assert before["connections"][0]["schemas"] == after["connections"][0]["schemas"]
    planned = Bill(
        ManualClock(NOW), lambda: None, path=path.with_name("plan"), plans={"GLBX.MDP3": FlatPlan()}
    )
    live(planned).add("mbo", GIB)
    whole = read_bill(killed(path.with_name("plan")), ManualClock(NOW))
    planned.finish()
    assert (whole["cost_usd"], whole["list_cost_usd"]) == ("0", "2")


def test_two_sandboxes_do_not_keep_one_bill(path: Path, bill: Bill) -> None:
    """The second is refused, and the first goes on undisturbed."""
    line = live(bill)
    with pytest.raises(BillError, match="another sandbox keeps this bill"):
        kept(path)
    line.add("mbo", 56)
    assert read_bill(path, ManualClock(NOW))["bytes"] == 56


def test_a_line_cut_short_by_a_crash_is_left_out(path: Path, bill: Bill) -> None:
    """The journal's last line may be incomplete; what it was about had not begun."""
    live(bill).add("mbo", 56)
    left = killed(path)
    with journal_path(left).open("ab") as journal:
        journal.write(b'["open",2,"li')
    assert len(read_bill(left, ManualClock(NOW))["connections"]) == 1


@pytest.mark.parametrize(
    "line", ["nonsense", "{}", "[]", '["closed",9,0,"x",0,[]]', '["bill",2,1,{}]', '["?"]']
)
def test_a_journal_that_is_none_is_refused(path: Path, line: str) -> None:
    """The file, the line and what is wrong with it; and the files are left as they are."""
    journal_path(path).write_text(f"{line}\n")
    with pytest.raises(BillError, match=r"bill.json.journal:1: not an event of a bill"):
        kept(path)
    assert journal_path(path).read_text() == f"{line}\n"


def test_where_there_is_nothing_a_bill_begins(path: Path) -> None:
    """And reading one there makes no file."""
    assert read_bill(path, ManualClock(NOW))["bytes"] == 0
    assert list(path.parent.iterdir()) == []


def test_counters_come_back_to_whoever_needs_them(path: Path, bill: Bill) -> None:
    """The file of counters does not grow with the connections that came and went."""
    for _ in range(5000):
        line = live(bill)
        line.intend(1)
        line.add("mbo", 1)
        line.close("ended")
    assert counters_path(path).stat().st_size == 64 * 1024


def test_thousands_of_open_lines_are_kept(path: Path, bill: Bill) -> None:
    """The file grows with the connections that are open at once; each is there after a kill."""
    lines = [live(bill) for _ in range(5000)]
    for number, line in enumerate(lines):
        line.add("mbo", number)
    assert counters_path(path).stat().st_size == 2 * 64 * 1024
    again = kept(killed(path), kept=10)
    assert again.as_json()["bytes"] == sum(range(5000))
    again.finish()


# --- random lives of a bill, against a model of a few lines ---------------------------------------------------


@dataclass
class Sent:
    """Bytes that the model knows of."""

    line: int
    what: str
    mode: str
    month: str
    hour: int
    size: int
    usd: Fraction


class Model:
    """What a bill should come to: a list of everything that was sent, and nothing else."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(NOW)
        self.folder = folder
        self.path = folder / "0" / "bill.json"
        self.path.parent.mkdir()
        self.bill = kept(self.path, self.clock, 3)
        self.open: list[tuple[BillLine, dict[str, int]]] = []
        self.sent: list[Sent] = []
        self.uncertain = 0
        self.kills = 0

    def do_open(self, mode: int, usd: int) -> None:
        line = self.bill.open("live" if mode % 2 else "historical", KEY, "GLBX.MDP3")
        line.subscribe("mbo", Decimal(usd))
        self.open.append((line, {"mbo": usd}))

    def do_subscribe(self, at: int, usd: int) -> None:
        if self.open:
            line, prices = self.open[at % len(self.open)]
            schema = ("mbo", "trades", "tbbo")[usd % 3]
            line.subscribe(schema, Decimal(usd))
            prices[schema] = usd

    def do_send(self, at: int, size: int) -> None:
        if self.open:
            line, prices = self.open[at % len(self.open)]
            what = [*prices, "control"][size % (len(prices) + 1)]
            line.intend(size)
            line.add(None if what == "control" else what, size)
            line.intend(0)
            usd = max(prices.values()) if what == "control" else prices[what]
            now = self.clock.now() if line.mode == "live" else line.opened_utc
            last = (
                int(
                    datetime(
                        line.opened_utc.year + line.opened_utc.month // 12,
                        line.opened_utc.month % 12 + 1,
                        1,
                        tzinfo=UTC,
                    ).timestamp()
                )
                // 3600
                - 1
            )
            hour = min(last, int(now.timestamp()) // 3600)
            self.sent.append(Sent(line.number, what, line.mode, line.month, hour, size, Fraction(usd)))

    def do_close(self, at: int, _: int) -> None:
        if self.open:
            self.open.pop(at % len(self.open))[0].close("ended")

    def do_wait(self, _: int, minutes: int) -> None:
        self.clock.advance(60 * minutes)

    def do_kill(self, at: int, size: int) -> None:
        if self.open and size % 2:
            self.open[at % len(self.open)][0].intend(size)
            self.uncertain += size
        self._go_on()

    def do_end(self, _: int, __: int) -> None:
        self.bill.finish()
        self._go_on()

    def _go_on(self) -> None:
        self.kills += 1
        left = self.folder / str(self.kills) / "bill.json"
        left.parent.mkdir()
        for made in (journal_path(self.path), counters_path(self.path)):
            shutil.copyfile(made, left.parent / made.name)
        if self.bill._keeper.lines:
            self.bill.finish()
        self.path, self.open = left, []
        self.bill = kept(left, self.clock, 3)

    def check(self) -> None:
        whole = self.bill.as_json()
        assert whole["bytes"] == sum(sent.size for sent in self.sent)
        assert whole["control_bytes"] == sum(sent.size for sent in self.sent if sent.what == "control")
        assert Fraction(whole["cost_usd"]) == sum(sent.size * sent.usd for sent in self.sent) / GIB
        assert whole["uncertain_bytes"] == self.uncertain
        self._check_parts(whole)
        for month in {sent.month for sent in self.sent}:
            by_hour: dict[tuple[int, str], int] = {}
            for sent in self.sent:
                if sent.month == month and sent.size:
                    by_hour[sent.hour, sent.mode] = by_hour.get((sent.hour, sent.mode), 0) + sent.size
            rows: dict[tuple[int, str], int] = {}
            for row in self.bill.usage(month):
                place = row.place.hour, row.place.mode
                rows[place] = rows.get(place, 0) + row.tally.size_bytes
            assert rows == by_hour

    def _check_parts(self, whole: dict[str, Any]) -> None:
        """Every way to add the bill up gives the same."""
        lines = [whole["older"], *whole["connections"]]
        usage = [row.tally for row in self.bill.usage()]
        for parts in (lines, whole["by_usage"], whole["months"]):
            assert sum(part["bytes"] for part in parts) == whole["bytes"]
            assert sum(Fraction(part["cost_usd"]) for part in parts) == Fraction(whole["cost_usd"])
        assert sum(tally.size_bytes for tally in usage) == whole["bytes"]
        assert sum(Fraction(tally.cost_usd) for tally in usage) == Fraction(whole["cost_usd"])
        for line in whole["connections"]:
            own = sum(sent.size for sent in self.sent if sent.line == line["id"])
            schemas = sum(row["bytes"] for row in line["schemas"].values())
            assert line["bytes"] == own == schemas + line["control_bytes"]


ACTIONS: dict[str, Callable[[Model, int, int], None]] = {
    "open": Model.do_open,
    "subscribe": Model.do_subscribe,
    "send": Model.do_send,
    "send more": Model.do_send,
    "close": Model.do_close,
    "wait": Model.do_wait,
    "kill": Model.do_kill,
    "end": Model.do_end,
}


@given(
    st.lists(st.tuples(st.sampled_from(sorted(ACTIONS)), st.integers(0, 5), st.integers(1, 300)), max_size=40)
)
@settings(max_examples=60, deadline=None)
def test_the_sum_is_the_sum_of_its_parts_whatever_happens(actions: list[tuple[str, int, int]]) -> None:
    """Opened, sent, repriced, closed, killed and gone on with, in any order."""
    with TemporaryDirectory() as folder:
        model = Model(Path(folder))
        try:
            for name, first, second in actions:
                ACTIONS[name](model, first, second)
            model.check()
        finally:
            model.bill.finish()


def test_the_file_for_others_is_json_that_people_can_read(tmp_path: Path, bill: Bill) -> None:
    """One connection a line."""
    live(bill).add("mbo", 56)
    live(bill)
    write_bill(tmp_path / "view.json", bill.as_json())
    text = (tmp_path / "view.json").read_text()
    assert json.loads(text) == bill.as_json() and month_of(NOW) in text
    assert sum('"id"' in line for line in text.splitlines()) == 2


def test_a_full_disk_leaves_no_half_line(path: Path, bill: Bill, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be written whole is not there, and what follows can be read."""
    line = live(bill)
    write = os.write

    def half(descriptor: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[:-19])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space left"):
            live(bill)
    line.add("mbo", 56)
    assert [line["id"] for line in bill.as_json()["connections"]] == [1]
    assert live(bill).number == 2
    assert read_bill(killed(path), ManualClock(NOW))["bytes"] == 56
