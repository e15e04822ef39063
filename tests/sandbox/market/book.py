"""An ordinary order book, as any reader of mbo data builds one: it refuses what cannot be."""

from __future__ import annotations

from typing import Any

F_LAST, F_SNAPSHOT = 128, 32


class Book:
    """Orders by id. Raises AssertionError for an order that is unknown, known twice or not what it was."""

    def __init__(self) -> None:
        self.orders: dict[int, tuple[str, int, int]] = {}
        self.trades = 0
        self.widest = 0
        self.cleared = 0

    def take(self, record: Any) -> None:
        """One row of mbo."""
        action, side = record["action"].decode(), record["side"].decode()
        number, price, size = int(record["order_id"]), int(record["price"]), int(record["size"])
        if action == "R":
            self.orders.clear()
            self.cleared += 1
        elif action == "A":
            assert number not in self.orders, f"order {number} is added twice"
            self.orders[number] = side, price, size
        elif action == "M":
            assert self.orders[number][0] == side
            self.orders[number] = side, price, size
        elif action == "C":
            assert self.orders.pop(number) == (side, price, size)
        elif action == "F":
            assert self.orders[number] == (side, price, size)
        else:
            assert action == "T"
            self.trades += 1
            resting = "A" if side == "B" else "B"
            assert price == self.best(resting), "a trade away from the best price"
        assert size > 0 or action == "R"
        if record["flags"] & F_LAST and not record["flags"] & F_SNAPSHOT:
            self.check()

    def best(self, side: str) -> int | None:
        """The best price of a side."""
        prices = [price for of, price, _ in self.orders.values() if of == side]
        return (max if side == "B" else min)(prices, default=None)

    def check(self) -> None:
        """Bids lie below asks."""
        bid, ask = self.best("B"), self.best("A")
        assert bid is None or ask is None or bid < ask, "the book is crossed"
        self.widest = max(self.widest, len(self.orders))
