"""The line at the bottom of the terminal: what it says, and that it is in nobody's way."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_guard.guard.status import BudgetState, ConnectionState, Status
from budget_guard.ledger.model import BalanceKey, Claim, Hold, HoldTerms
from budget_guard.money import cost_nano_usd
from budget_guard.streaming.live_line import LiveLine, can_show
from budget_guard.streaming.live_line_text import (
    countdown_text,
    gauge,
    line_text,
    money_text,
    tightest,
)

NOW = datetime(2026, 11, 23, 15, 0, tzinfo=UTC)
DOLLAR = 10**9
PRICE = Decimal("2.16")
DAY = BalanceKey("desk", "account", "day", NOW, "usd")
MONTH = BalanceKey("desk", "account", "month", NOW, "usd")


def budget(key: BalanceKey = DAY, limit: int | None = 5 * DOLLAR, settled: int = 0) -> BudgetState:
    return BudgetState(key, NOW + timedelta(hours=9), limit, settled, 0)


def connection(
    *keys: BalanceKey,
    size_bytes: int | None = 0,
    booked: int = 0,
    minutes: int = 60,
    price: Decimal = PRICE,
    ending_bytes: int = 0,
) -> ConnectionState:
    """One that has run for so long; `booked` is what its last renewal has written into each balance."""
    terms = HoldTerms(
        "h", "desk", "nq", "GLBX.MDP3", "mbo", "live", "c", "2026-11", price, "sheet", ending_bytes, "host", "m",
        NOW - timedelta(minutes=minutes),
    )  # fmt: skip
    claims = tuple(Claim(key, settled=booked, held=DOLLAR) for key in keys)
    return ConnectionState(Hold(terms, "active", 1, claims), NOW, size_bytes)


def status(budgets: list[BudgetState], *connections: ConnectionState) -> Status:
    return Status(NOW, tuple(budgets), tuple(connections), ())


# --- what it says ---------------------------------------------------------------------------------------------


def test_what_is_spent_is_what_is_booked_and_what_the_meters_show_beyond() -> None:
    running = connection(DAY, size_bytes=2**30, booked=DOLLAR)
    found = gauge(status([budget(settled=2 * DOLLAR)], running), budget(settled=2 * DOLLAR))
    assert found.used == 2 * DOLLAR + (cost_nano_usd(2**30, PRICE) - DOLLAR)
    assert (found.left, found.per_hour) == (5 * DOLLAR - found.used, cost_nano_usd(2**30, PRICE))
    assert found.lasts_s == 3600 * (5 * DOLLAR - found.used) // cost_nano_usd(2**30, PRICE)
    assert money_text(found) == [
        "account day: $3.16 of $5.00 spent, $1.84 left",
        "$2.16/h",
        "lasts 51 min 06 s",
    ]


def test_what_a_connection_keeps_for_its_ending_does_not_make_it_last_longer() -> None:
    """It is left, and ends when nothing else is."""
    running = connection(DAY, size_bytes=2**30, booked=DOLLAR, ending_bytes=2**29)
    found = gauge(status([budget(settled=2 * DOLLAR)], running), budget(settled=2 * DOLLAR))
    pace = cost_nano_usd(2**30, PRICE)
    assert found.left == 5 * DOLLAR - found.used
    assert found.lasts_s == 3600 * (5 * DOLLAR - found.used - pace // 2) // pace
    nearly = gauge(status([], running), budget(settled=5 * DOLLAR - 1))
    assert (nearly.lasts_s, money_text(nearly)[-1]) == (0, "lasts 0.0 s")


def test_a_connection_that_counts_elsewhere_changes_nothing() -> None:
    found = gauge(status([budget()], connection(MONTH, size_bytes=2**30)), budget())
    assert (found.used, found.per_hour, found.lasts_s) == (0, 0, None)


def test_the_limit_that_ends_first_is_shown() -> None:
    day, month = budget(limit=5 * DOLLAR), budget(MONTH, limit=20 * DOLLAR, settled=17 * DOLLAR)
    running = connection(DAY, MONTH, size_bytes=2**30)
    found = tightest(status([day, month], running), {"account"})
    assert found is not None
    assert found.key == MONTH


def test_hours_can_end_before_the_money() -> None:
    hours = BalanceKey("desk", "account", "day", NOW, "hours")
    running = connection(DAY, hours, size_bytes=2**20, minutes=30)
    found = tightest(status([budget(), budget(hours, limit=3_600_000)], running), {"account"})
    assert found is not None
    assert (found.key.unit, found.used, found.lasts_s) == ("hours", 1_800_000, 1800)
    assert money_text(found) == [
        "account day: 0.5 hours of 1 hour spent, 0.5 hours left",
        "lasts 30 min 00 s",
    ]


def test_while_nothing_runs_it_is_the_one_with_the_least_left() -> None:
    found = tightest(status([budget(), budget(MONTH, limit=9 * DOLLAR, settled=6 * DOLLAR)]), {"account"})
    assert found is not None
    assert found.key == MONTH


def test_other_programs_budgets_are_not_shown() -> None:
    assert tightest(status([budget()]), {"research"}) is None
    assert money_text(None) == []


def test_unlimited_is_said() -> None:
    found = tightest(status([budget(limit=None, settled=DOLLAR)]), {"account"})
    assert money_text(found) == ["account day: $1.00 spent, unlimited"]


def test_what_is_left_is_never_shown_as_more_than_it_is() -> None:
    found = gauge(status([]), budget(settled=4_100_000))
    assert money_text(found) == ["account day: $0.0041 of $5.00 spent, $4.99 left"]


@given(
    st.integers(0, 10 * DOLLAR), st.integers(0, 2**34), st.integers(0, 10 * DOLLAR), st.integers(0, 10_000)
)
def test_figures_are_exact_and_never_negative(settled: int, size: int, booked: int, minutes: int) -> None:
    running = connection(DAY, size_bytes=size, booked=booked, minutes=minutes)
    found = gauge(status([], running), budget(settled=settled))
    assert found.used == settled + max(0, cost_nano_usd(size, PRICE) - booked)
    assert found.left == max(0, 5 * DOLLAR - found.used)
    assert all(type(value) is int for value in (found.used, found.left, found.per_hour))


def test_a_meter_that_cannot_be_read_leaves_what_is_booked() -> None:
    found = gauge(status([], connection(DAY, size_bytes=None, booked=DOLLAR)), budget(settled=DOLLAR))
    assert (found.used, found.per_hour) == (DOLLAR, 0)


@pytest.mark.parametrize(
    ("left", "text"),
    [
        (timedelta(seconds=-5), "0:00:00"),
        (timedelta(seconds=0.2), "0:00:01"),
        (timedelta(hours=2, minutes=4, seconds=31), "2:04:31"),
        (timedelta(hours=47, minutes=59), "47:59:00"),
        (timedelta(days=3, hours=2), "3 days"),
    ],
)
def test_a_countdown_reads_like_a_clock(left: timedelta, text: str) -> None:
    assert countdown_text(left) == text


@given(st.lists(st.text(alphabet="abc $·…", max_size=40), max_size=6), st.integers(0, 120))
def test_a_line_is_never_wider_than_it_may_be(parts: list[str], width: int) -> None:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", line_text(parts, width))
    assert len(plain) <= max(1, width)
    assert "\n" not in plain


# --- where it stands ------------------------------------------------------------------------------------------


class Screen:
    """As much of a terminal as the line and a simple program use."""

    def __init__(self, rows: int = 6, columns: int = 40) -> None:
        self.rows, self.columns = rows, columns
        self.lines = [""] * rows
        self.row = self.column = 0
        self.last = rows - 1  # of what scrolls
        self.saved = (0, 0)

    def feed(self, text: str) -> None:
        for match in re.finditer(r"\x1b\[([0-9;]*)([A-Za-z])|\x1b([78D])|([\r\n])|([^\x1b\r\n]+)", text):
            numbers, final, single, control, plain = match.groups()
            if plain:
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + plain + line[self.column + len(plain) :]
                self.column += len(plain)
            elif control == "\r":
                self.column = 0
            elif control == "\n" or single == "D":
                self._down()
            elif single == "7":
                self.saved = (self.row, self.column)
            elif single == "8":
                self.row, self.column = self.saved
            else:
                self._command(final, [int(number) for number in numbers.split(";") if number])

    def _down(self) -> None:
        if self.row == self.last:
            del self.lines[0]
            self.lines.insert(self.last, "")
        elif self.row < self.rows - 1:
            self.row += 1

    def _command(self, final: str, numbers: list[int]) -> None:
        if final == "A":
            self.row = max(0, self.row - numbers[0])
        elif final == "H":
            self.row, self.column = numbers[0] - 1, numbers[1] - 1
        elif final == "K":
            self.lines[self.row] = ""
        elif final == "r":
            self.last = (numbers[1] if numbers else self.rows) - 1
            self.row = self.column = 0
        elif final != "m":
            raise AssertionError(f"unknown: {final}")

    @property
    def shown(self) -> list[str]:
        return [line.rstrip() for line in self.lines]


class Terminal:
    """A pseudo-terminal with a screen behind it."""

    def __init__(self, rows: int = 6, columns: int = 40) -> None:
        self.ours, self.theirs = pty.openpty()
        self.resize(rows, columns)
        self.screen = Screen(rows, columns)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def says(self, text: str) -> None:
        """A program writes to it."""
        os.write(self.theirs, text.encode())
        self.read()

    def read(self) -> list[str]:
        """What it shows of all that was written so far: the kernel hands on in its own time, but in order."""
        os.write(self.theirs, b"\0")
        said = b""
        while not said.endswith(b"\0"):
            said += os.read(self.ours, 65536)
        self.screen.feed(said[:-1].decode())
        return self.screen.shown


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """One in whose foreground this process is."""
    monkeypatch.setattr(os, "tcgetpgrp", lambda _terminal: os.getpgrp())
    made = Terminal()
    yield made
    os.close(made.ours)
    os.close(made.theirs)


def test_the_line_is_drawn_in_place_below_what_the_program_writes(terminal: Terminal) -> None:
    line = LiveLine(terminal.theirs)
    terminal.says("one\r\n")
    line.show("spent $1")
    terminal.says("two\r\n")
    line.show("spent $2")
    assert terminal.read() == ["one", "two", "", "", "", "spent $2"]


def test_what_the_program_writes_scrolls_above_it_and_stays_whole(terminal: Terminal) -> None:
    line = LiveLine(terminal.theirs)
    for number in range(20):
        terminal.says(f"line {number}\r\n")
        line.show(f"spent ${number}")
        terminal.read()
    assert terminal.screen.shown == ["line 16", "line 17", "line 18", "line 19", "", "spent $19"]


def test_a_line_that_the_program_has_begun_is_gone_on_with(terminal: Terminal) -> None:
    line = LiveLine(terminal.theirs)
    terminal.says("\r\n" * 9 + "progress: 10%")
    line.show("spent $1")
    terminal.read()
    terminal.says(", 20%")
    line.show("spent $2")
    terminal.read()
    terminal.says(", 30%\r\n")
    assert terminal.screen.shown[-3:] == ["progress: 10%, 20%, 30%", "", "spent $2"]


def test_nothing_is_left_of_it(terminal: Terminal) -> None:
    line = LiveLine(terminal.theirs)
    terminal.says("one\r\n")
    line.show("spent $1")
    line.hide()
    terminal.read()
    terminal.says("two\r\n" * 7)
    assert terminal.screen.shown == ["two"] * 5 + [""]
    line.hide()
    assert terminal.screen.last == 5


def test_it_moves_with_the_size_of_the_terminal(terminal: Terminal) -> None:
    line = LiveLine(terminal.theirs)
    assert line.width == 39
    line.show("spent $1")
    terminal.read()
    terminal.resize(5, 30)
    assert line.width == 29
    line.show("spent $2")
    terminal.read()
    assert (terminal.screen.last, terminal.screen.shown[4]) == (3, "spent $2")


def test_a_terminal_too_small_for_it_is_left_alone(terminal: Terminal) -> None:
    terminal.resize(3, 40)
    LiveLine(terminal.theirs).show("spent $1")
    terminal.says("x")
    assert terminal.screen.shown[0] == "x"


def test_in_the_background_nothing_is_drawn(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "tcgetpgrp", lambda _terminal: os.getpgrp() + 1)
    LiveLine(terminal.theirs).show("spent $1")
    terminal.says("x")
    assert terminal.screen.shown[-1] == ""


def test_a_terminal_that_has_been_closed_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "tcgetpgrp", lambda _terminal: os.getpgrp())
    gone = Terminal()
    line = LiveLine(gone.theirs)
    line.show("spent $1")
    os.close(gone.ours)
    os.close(gone.theirs)
    line.show("spent $2")
    line.hide()


@pytest.mark.parametrize(
    ("term", "shown"), [("xterm-256color", True), ("dumb", False), ("", False), (None, False)]
)
def test_it_needs_a_terminal_that_understands_where_to_draw(
    terminal: Terminal, term: str | None, shown: bool
) -> None:
    environ = {} if term is None else {"TERM": term}
    assert can_show(terminal.theirs, environ) is shown


def test_a_pipe_is_no_terminal() -> None:
    reading, writing = os.pipe()
    try:
        assert not can_show(writing, {"TERM": "xterm"})
    finally:
        os.close(reading)
        os.close(writing)


def test_a_budget_that_changes_is_another() -> None:
    """A limit that was approved meanwhile counts at once."""
    raised = replace(budget(), limit=6 * DOLLAR)
    assert gauge(status([]), raised).left == 6 * DOLLAR
