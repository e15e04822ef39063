"""Keeps a bill: hands out its counters, writes its journal, sums up what is settled; and takes it up again.

Everything that happens is written to the journal before it is acted on, and a counter is given back only after its
value is in the journal: at any moment, journal and counters together are the whole bill.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from budget_guard.clock import Clock, instant_from_ns, ns_from_instant
from budget_guard.sandbox.billing.amounts import Price
from budget_guard.sandbox.billing.counters import BillError, Cell, Counters, FileCounters, read_cells
from budget_guard.sandbox.billing.journal import VERSION, Journal, counters_path, journal_path, read_events
from budget_guard.sandbox.billing.line import BillLine, Row
from budget_guard.sandbox.billing.plans import Mode
from budget_guard.sandbox.billing.totals import Totals
from budget_guard.sandbox.config import FlatPlan

LOST = "lost with the sandbox"


class Keeper:
    """Open lines, settled sums, and where both are kept."""

    def __init__(
        self, clock: Clock, changed: Callable[[], None], plans: Mapping[str, FlatPlan], kept: int
    ) -> None:
        """Keeps it in memory, until `keep_at` gives it a place."""
        self.clock = clock
        self.plans = plans
        self.totals = Totals(kept)
        self.lines: dict[int, BillLine] = {}
        self.journal = Journal(None)
        self._changed = changed
        self._next_line = 1
        self._next_row = 1
        self._counters = Counters()

    def keep_at(self, path: Path) -> None:
        """Take up the bill at a path, if there is one, and keep it there. Before the first line is opened.

        Lines that were open when the former sandbox died are closed as lost. Raises BillError when what is there is
        not a bill, or is being kept by another sandbox, and OSError.
        """
        counters = FileCounters(counters_path(path))
        try:
            self._take_up(journal_path(path), dict(counters.left()))
            self.journal = Journal(journal_path(path))
            self._start_over()
            counters.wipe()
        except BaseException:
            counters.release()
            raise
        self._counters = counters

    def look_at(self, path: Path) -> None:
        """The bill at a path as it would be taken up now; nothing there is changed, or need stand still."""
        left = dict(read_cells(counters_path(path)))
        self._take_up(journal_path(path), left)

    def open(self, mode: Mode, key: str, dataset: str) -> BillLine:
        """A new line, from now on."""
        line = self._line(self._next_line, mode, key, dataset, self.clock.now())
        opened_ns = ns_from_instant(line.opened_utc)
        self.journal.write("open", line.number, mode, key[-5:], dataset, opened_ns)
        return line

    def open_row(self, line: BillLine, what: str | None, under: str | None, price: Price, hour: int) -> Row:
        """A counter at 0."""
        number = self._next_row
        self.journal.write("row", line.number, number, what, under, price.as_json(), hour)
        self._next_row += 1
        return Row(number, what, under, price, hour, self._counters.take(number))

    def open_intent(self, line: BillLine) -> Cell:
        """Where the line says what it is about to send."""
        number = self._next_row
        self.journal.write("intent", line.number, number)
        self._next_row += 1
        return self._counters.take(number)

    def settle(self, line: BillLine, row: Row) -> None:
        """A row that has ended."""
        size_bytes = row.size_bytes
        self.journal.write("settled", line.number, row.what, size_bytes)
        self._settle(line, row, size_bytes)

    def close(self, line: BillLine, at: datetime, ended: str, uncertain_bytes: int = 0) -> None:
        """A line that has ended."""
        sizes = [[row.what, row.size_bytes] for row in line.rows.values()]
        self.journal.write("closed", line.number, ns_from_instant(at), ended, uncertain_bytes, sizes)
        self._close(line, at, ended, uncertain_bytes, sizes)

    def finish(self) -> None:
        """Close what is still open, write a short journal and let the files go; the sums can still be read."""
        for line in list(self.lines.values()):
            line.close("ended with the sandbox")
        self._start_over()
        self.journal.close()
        self._counters.close()

    # --- what happened, whether now or in a former process ------------------------------------------------------

    def _line(self, number: int, mode: Mode, key: str, dataset: str, opened_utc: datetime) -> BillLine:
        line = BillLine(self, number, mode, key, dataset, opened_utc, self._changed)
        self.lines[number] = line
        self._next_line = number + 1
        return line

    def _settle(self, line: BillLine, row: Row, size_bytes: int) -> None:
        line.take_out(row, size_bytes)
        self.totals.settle(line, row, size_bytes)
        self._counters.give_back(row.cell)

    def _close(
        self, line: BillLine, at: datetime, ended: str, uncertain_bytes: int, sizes: list[list[Any]]
    ) -> None:
        for what, size_bytes in sizes:
            self._settle(line, line.rows[what], size_bytes)
        line.closed_utc, line.ended, line.uncertain_bytes = at, ended, uncertain_bytes
        intent = line.take_intent()
        if intent is not None:
            self._counters.give_back(intent)
        self.totals.uncertain.merge(line.uncertain())
        self.totals.close(line.as_json())
        del self.lines[line.number]

    def _start_over(self) -> None:
        self.journal.start_over("bill", VERSION, self._next_line, self._next_row, self.totals.as_json())

    # --- taking it up again -------------------------------------------------------------------------------------

    def _take_up(self, path: Path, left: Mapping[int, int]) -> None:
        intents: dict[int, int] = {}
        for number, (name, *values) in enumerate(read_events(path), 1):
            try:
                self._replay(name, values, intents)
            except (KeyError, ValueError, TypeError, IndexError, ArithmeticError) as error:
                raise BillError(
                    f"{path}:{number}: not an event of a bill that could be kept: {error}"
                ) from None
        for line in list(self.lines.values()):
            sizes = [[row.what, left.get(row.number, 0)] for row in line.rows.values()]
            uncertain_bytes = left.get(intents.get(line.number, 0), 0)
            self._close(line, self.clock.now(), LOST, uncertain_bytes, sizes)

    def _replay(self, name: str, values: list[Any], intents: dict[int, int]) -> None:
        """One event again, on the sums and lines alone. `intents` is the cell of each line's intent."""
        if name == "bill":
            version, self._next_line, self._next_row, totals = values
            if version != VERSION:
                raise ValueError(f"version {version}, and this program writes {VERSION}")
            self.totals.load(totals)
        elif name == "open":
            number, mode, key, dataset, opened_ns = values
            self._line(number, mode, key, dataset, instant_from_ns(opened_ns))
        elif name == "price":
            number, schema, price = values
            self.lines[number].put_price(schema, Price.of_json(price))
        elif name == "row":
            number, row, what, under, price, hour = values
            self._next_row = row + 1
            cell = self._counters.take(row)
            self.lines[number].put_row(Row(row, what, under, Price.of_json(price), hour, cell))
        elif name == "intent":
            number, intents[number] = values
            self._next_row = intents[number] + 1
        elif name == "settled":
            number, what, size_bytes = values
            line = self.lines[number]
            self._settle(line, line.rows[what], size_bytes)
        elif name == "closed":
            number, at_ns, ended, uncertain_bytes, sizes = values
            self._close(self.lines[number], instant_from_ns(at_ns), ended, uncertain_bytes, sizes)
        else:
            raise ValueError(f"{name!r} is none")
