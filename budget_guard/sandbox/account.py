"""What each key may use, and what it pays, at this moment. Faults change it while the sandbox runs."""

from __future__ import annotations

from decimal import Decimal

from budget_guard.sandbox.config import Rights, SandboxConfig


class Account:
    """The team behind the keys: its rights, its prices and whether it has paid. One loop's own."""

    def __init__(self, config: SandboxConfig) -> None:
        self._config = config
        self._revoked: set[str] = set()
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
        return dataset not in self._revoked and _within(dataset, self._rights(key).live)

    def may_history(self, key: str, dataset: str) -> bool:
        """Whether a key may download a dataset's history now."""
        return _within(dataset, self._rights(key).historical)

    def live_price(self, dataset: str, schema: str) -> Decimal | None:
        """USD per GiB; None when nobody knows it, 0 under a flat plan."""
        return self._config.prices[dataset].live_price(schema)

    def historical_price(self, dataset: str, schema: str) -> Decimal | None:
        """USD per GiB; None when nobody knows it."""
        return self._config.prices[dataset].historical_price(schema)

    def unit_prices(self, dataset: str, mode: str) -> dict[str, Decimal]:
        """The known prices of a mode: `historical`, `historical-streaming` or `live`."""
        return self._config.prices[dataset].unit_prices(mode)

    def revoke_live(self, dataset: str) -> None:
        """Take a live licence away; open connections go on."""
        self._revoked.add(dataset)

    def restore_live(self, dataset: str) -> None:
        """Give it back."""
        self._revoked.discard(dataset)

    def _rights(self, key: str) -> Rights:
        own = self._config.rights.get(key)
        return own or Rights(self._config.live_entitlements, self._config.historical_entitlements)


def _within(dataset: str, licensed: frozenset[str] | None) -> bool:
    return licensed is None or dataset in licensed
