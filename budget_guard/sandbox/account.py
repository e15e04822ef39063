"""What each key may use, and what it pays, at this moment. Faults change it while the sandbox runs."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from budget_guard.sandbox.config import Rights, SandboxConfig

Mode = Literal["live", "historical"]


class Account:
    """The team behind the keys: its rights, its prices and whether it has paid. One loop's own."""

    def __init__(self, config: SandboxConfig) -> None:
        self._config = config
        self._revoked: set[tuple[Mode, str]] = set()
        self._changes: dict[int, tuple[str, str, str, Decimal]] = {}
        self.unpaid = config.unpaid
        self.locked = config.locked

    def keys(self) -> tuple[str, ...]:
        """The API keys that are accepted."""
        return self._config.keys

    def knows(self, key: str) -> bool:
        """Whether a key is one of them."""
        return key in self._config.keys

    def datasets(self) -> list[str]:
        """Everything on offer, whatever the key may use; the vendor lists it so too."""
        return sorted(self._config.prices)

    def schemas(self, dataset: str) -> list[str]:
        """What a dataset offers. Raises KeyError for one that is not on offer."""
        return list(self._config.prices[dataset].historical)

    def may_live(self, key: str, dataset: str) -> bool:
        """Whether a key may stream a dataset now."""
        return ("live", dataset) not in self._revoked and _within(dataset, self._rights(key).live)

    def may_history(self, key: str, dataset: str) -> bool:
        """Whether a key may download a dataset's history now."""
        return ("historical", dataset) not in self._revoked and _within(dataset, self._rights(key).historical)

    def live_price(self, dataset: str, schema: str) -> Decimal | None:
        """USD per GiB; None when nobody knows it, 0 under a flat plan."""
        listed = self._config.prices[dataset].live_price(schema)
        return self._changed("live", dataset, schema, listed)

    def historical_price(self, dataset: str, schema: str) -> Decimal | None:
        """USD per GiB; None when nobody knows it."""
        listed = self._config.prices[dataset].historical_price(schema)
        return self._changed("historical", dataset, schema, listed)

    def unit_prices(self, dataset: str, mode: str) -> dict[str, Decimal]:
        """The known prices of a mode: `historical`, `historical-streaming` or `live`."""
        price_of = self.live_price if mode == "live" else self.historical_price
        prices = {schema: price_of(dataset, schema) for schema in self.schemas(dataset)}
        return {schema: price for schema, price in prices.items() if price is not None}

    def set_revoked(self, mode: Mode, dataset: str, *, on: bool) -> None:
        """Take a licence away, or give it back; what is open goes on."""
        if on:
            self._revoked.add((mode, dataset))
        else:
            self._revoked.discard((mode, dataset))

    def set_unpaid(self, *, on: bool) -> None:
        """Whether the account has not paid; one that was set up so stays so."""
        self.unpaid = on or self._config.unpaid

    def change_price(self, number: int, mode: Mode, dataset: str, schema: str, price: Decimal | None) -> None:
        """Another price from now on, under a number of its own; None undoes it. The latest change holds."""
        self._changes.pop(number, None)
        if price is not None:
            self._changes[number] = (mode, dataset, schema, price)

    def _changed(self, mode: Mode, dataset: str, schema: str, listed: Decimal | None) -> Decimal | None:
        place = (mode, dataset, schema)
        changes = [price for *where, price in self._changes.values() if tuple(where) == place]
        return changes[-1] if changes else listed

    def _rights(self, key: str) -> Rights:
        own = self._config.rights.get(key)
        return own or Rights(self._config.live_entitlements, self._config.historical_entitlements)


def _within(dataset: str, licensed: frozenset[str] | None) -> bool:
    return licensed is None or dataset in licensed
