"""One line of the bill: a live connection or a download, and what was handed over on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from budget_guard.clock import EPOCH, instant_text, month_bounds, month_of
from budget_guard.sandbox.billing.amounts import UNKNOWN_PRICE, ZERO, Price, Tally, dearest, text_of
from budget_guard.sandbox.billing.counters import Cell
from budget_guard.sandbox.billing.plans import Mode, price_under

if TYPE_CHECKING:
    from budget_guard.sandbox.billing.keeper import Keeper

_HOUR = timedelta(hours=1)
_NEVER = datetime.max.replace(tzinfo=UTC)


class Row:
    """Bytes of one schema (None: control) at one price in one hour; `under` is the schema whose price it is."""

    EXCLUDED: Final = ""

    __slots__ = ("at", "cell", "hour", "number", "price", "under", "what", "words")

    def __init__(
        self, number: int, what: str | None, under: str | None, price: Price, hour: int, cell: Cell
    ) -> None:
        self.number = number
        self.what = what
        self.under = under
        self.price = price
        self.hour = hour
        self.cell = cell
        self.words = cell.words
        self.at = cell.at

    @property
    def size_bytes(self) -> int:
        return self.words[self.at]


class BillLine:
    """One live connection or one download. `changed` is called whenever the sums changed."""

    def __init__(
        self,
        keeper: Keeper,
        number: int,
        mode: Mode,
        key: str,
        dataset: str,
        opened_utc: datetime,
        changed: Callable[[], None],
    ) -> None:
        self.number = number
        self.mode: Mode = mode
        self.key = key
        self.dataset = dataset
        self.opened_utc = opened_utc
        self.month = month_of(opened_utc)
        self.closed_utc: datetime | None = None
        self.ended: str | None = None
        self.uncertain_bytes = 0
        self.prices: dict[str, Price] = {}
        self.rows: dict[str | None, Row] = {}
        self._control: tuple[str | None, Price] = (None, UNKNOWN_PRICE)
        self._starts: dict[str, datetime | None] = {}
        self._settled: dict[tuple[str | None, Price], int] = {}
        self._intent: Cell | None = None
        self._keeper = keeper
        self._clock = keeper.clock
        self._changed = changed
        self._hour, self._hour_ends = self._hour_at(opened_utc)

    # --- what happens to it -------------------------------------------------------------------------------------

    def subscribe(
        self, schema: str, usd_per_gib: Decimal | None, history_start: datetime | None = None
    ) -> None:
        """A schema that this line may bill, and its list price; None if nobody knows it.

        `history_start` is where a download begins: a flat plan may include it. A schema that is there already gets
        the new price from here on.
        """
        plan = self._keeper.plans.get(self.dataset)
        self._starts[schema] = history_start
        price = price_under(plan, self.mode, schema, usd_per_gib, self.opened_utc, history_start)
        if self.prices.get(schema) != price:
            self._settle(schema)
            if dearest({**self.prices, schema: price}) != self._control:
                self._settle(None)
            self._keeper.journal.write("price", self.number, schema, price.as_json())
            self.put_price(schema, price)

    def reprice(self, schema: str, usd_per_gib: Decimal | None) -> None:
        """Another list price: bytes before cost the old one, bytes after the new.

        Raises KeyError for a schema that is not subscribed.
        """
        self.subscribe(schema, usd_per_gib, self._starts[schema])

    def intend(self, size_bytes: int) -> None:
        """That many bytes are about to be handed to the kernel; 0: what it took of them is counted.

        Should the process be killed in between, the bill says that they may be missing (`uncertain_bytes`).
        """
        cell = self._intent or self._open_intent()
        if size_bytes:
            now = self._clock.now()
            if now >= self._hour_ends:
                self._begin_hour(now)
        cell.words[cell.at] = size_bytes

    def add(self, schema: str | None, size_bytes: int) -> None:
        """Bytes that were sent; a schema of None is control. Raises KeyError for a schema not subscribed."""
        try:
            row = self.rows[schema]
        except KeyError:
            row = self._open_row(schema)
        row.words[row.at] += size_bytes
        self._changed()

    def exclude(self, size_bytes: int) -> None:
        """Bytes that were sent and that the billing rules do not count."""
        self.add(Row.EXCLUDED, size_bytes)

    def close(self, ended: str) -> None:
        """The end, and how it came about; only the first counts."""
        if self.closed_utc is None:
            self._keeper.close(self, self._clock.now(), ended)
            self._changed()

    # --- what it comes to ---------------------------------------------------------------------------------------

    @property
    def control_bytes(self) -> int:
        return sum(size for what, _, size in self.charges() if what is None)

    @property
    def schema_bytes(self) -> dict[str, int]:
        """Bytes by schema, those subscribed to and silent included."""
        found = dict.fromkeys(self.prices, 0)
        for what, _, size in self.charges():
            if what:
                found[what] += size
        return found

    @property
    def size_bytes(self) -> int:
        """Everything billed."""
        return sum(size for what, _, size in self.charges() if what != Row.EXCLUDED)

    @property
    def excluded_bytes(self) -> int:
        return sum(size for what, _, size in self.charges() if what == Row.EXCLUDED)

    @property
    def control_price(self) -> Price:
        """What a control byte costs now: the dearest of the prices in force."""
        return self._control[1]

    def charges(self) -> Iterator[tuple[str | None, Price, int]]:
        """(what, price, bytes) of everything on the line, one or more for each."""
        for (what, price), size in self._settled.items():
            yield what, price, size
        for row in self.rows.values():
            yield row.what, row.price, row.size_bytes

    def uncertain(self) -> Tally:
        """What may have been handed over and not counted, at the dearest price."""
        tally = Tally()
        tally.add(self.uncertain_bytes, self.control_price)
        return tally

    def as_json(self) -> dict[str, Any]:
        total = Tally()
        schemas = {schema: Tally() for schema in self.prices}
        control_bytes = excluded_bytes = 0
        for what, price, size in self.charges():
            if what == Row.EXCLUDED:
                excluded_bytes += size
                continue
            total.add(size, price)
            if what is None:
                control_bytes += size
            else:
                schemas[what].add(size, price)
        return {
            "id": self.number,
            "mode": self.mode,
            "key": self.key[-5:],
            "dataset": self.dataset,
            "month": self.month,
            "opened_utc": instant_text(self.opened_utc),
            "closed_utc": None if self.closed_utc is None else instant_text(self.closed_utc),
            "ended": self.ended,
            "bytes": total.size_bytes,
            "control_bytes": control_bytes,
            "excluded_bytes": excluded_bytes,
            "uncertain_bytes": self.uncertain_bytes,
            "schemas": {schema: self._schema_json(schema, tally) for schema, tally in schemas.items()},
            **total.costs(),
        }

    def _schema_json(self, schema: str, tally: Tally) -> dict[str, Any]:
        price = self.prices[schema]
        at_prices: dict[str | None, int] = {}
        for what, paid, size in self.charges():
            if what == schema and size:
                at_prices[text_of(paid.usd)] = at_prices.get(text_of(paid.usd), 0) + size
        shown: dict[str, Any] = {
            "bytes": tally.size_bytes,
            "usd_per_gib": text_of(price.usd),
            "cost_usd": None if tally.unpriced_bytes else text_of(tally.cost_usd),
        }
        if price.usd != price.list_usd:
            shown["list_usd_per_gib"] = text_of(price.list_usd)
        if len(at_prices) > 1:
            shown["at_prices"] = [{"usd_per_gib": usd, "bytes": size} for usd, size in at_prices.items()]
        if not tally.size_bytes and price.usd is None:
            shown["cost_usd"] = text_of(ZERO)
        return shown

    # --- for the keeper -----------------------------------------------------------------------------------------

    def put_price(self, schema: str, price: Price) -> None:
        """Take a price as it is. The rows at another one have ended."""
        self.prices[schema] = price
        self._control = dearest(self.prices)

    def put_row(self, row: Row) -> None:
        self.rows[row.what] = row

    def take_out(self, row: Row, size_bytes: int) -> None:
        """A row that has ended moves into the line's own sums."""
        del self.rows[row.what]
        place = row.what, row.price
        self._settled[place] = self._settled.get(place, 0) + size_bytes

    def take_intent(self) -> Cell | None:
        """Its cell, to be given back."""
        intent, self._intent = self._intent, None
        return intent

    # ------------------------------------------------------------------------------------------------------------

    def _open_row(self, what: str | None) -> Row:
        if self.closed_utc is not None:
            raise ValueError(f"line {self.number} of the bill is closed")
        if what is None:
            under, price = self._control
        elif what == Row.EXCLUDED:
            under, price = None, UNKNOWN_PRICE
        else:
            under, price = what, self.prices[what]
        row = self._keeper.open_row(self, what, under, price, self._hour)
        self.rows[what] = row
        return row

    def _open_intent(self) -> Cell:
        if self.closed_utc is not None:
            raise ValueError(f"line {self.number} of the bill is closed")
        self._intent = self._keeper.open_intent(self)
        return self._intent

    def _settle(self, what: str | None) -> None:
        row = self.rows.get(what)
        if row is not None:
            self._keeper.settle(self, row)

    def _begin_hour(self, now: datetime) -> None:
        for row in list(self.rows.values()):
            self._keeper.settle(self, row)
        self._hour, self._hour_ends = self._hour_at(now)

    def _hour_at(self, now: datetime) -> tuple[int, datetime]:
        """The hour (since the epoch) that is written on rows from now on, and when the next one begins.

        A line belongs to the month of its opening: what it sends after that stands in the month's last hour. A
        download is billed by when it was asked for, so it has one hour only.
        """
        hour = (now - EPOCH) // _HOUR
        last = (month_bounds(self.month)[1] - EPOCH) // _HOUR - 1
        if self.mode == "historical" or hour >= last:
            return min(hour, last), _NEVER
        return hour, EPOCH + (hour + 1) * _HOUR
