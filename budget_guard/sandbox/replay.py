"""What recorded files make of a sandbox's configuration: what it sells, how far it reaches, when it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from budget_guard.clock import RehearsalClock, SystemClock, instant_from_ns, instant_text
from budget_guard.sandbox.config import SandboxConfig
from budget_guard.sandbox.market.recorded import Recording
from budget_guard.sandbox.prices import DatasetPrices


def replayed(config: SandboxConfig, recording: Recording) -> SandboxConfig:
    """The configuration of a sandbox that serves a recording.

    It offers the recording's datasets and schemas, at the configured prices; what has none there has an unknown one.
    On the machine's own clock it would be over at once: then the clock starts with the first record.
    """
    clock = config.clock
    if isinstance(clock, SystemClock):
        clock = RehearsalClock(instant_from_ns(recording.first_ns))
    return replace(
        config,
        rate=None,
        clock=clock,
        prices={
            dataset: _offered(config.prices, dataset, schemas)
            for dataset, schemas in recording.ranges.items()
        },
        recorded={
            dataset: {schema: (found.start_ns, found.end_ns) for schema, found in schemas.items()}
            for dataset, schemas in recording.ranges.items()
        },
    )


def described(recording: Recording) -> list[str]:
    """A recording in a few lines, for whoever starts a sandbox with it."""
    lines = [
        f"{dataset} {schema}, {instant_text(instant_from_ns(found.start_ns))} to "
        f"{instant_text(instant_from_ns(found.end_ns))}"
        for dataset, schemas in sorted(recording.ranges.items())
        for schema, found in sorted(schemas.items())
    ]
    symbols = [f"Symbols of {dataset}: {recording.describe(dataset)}" for dataset in sorted(recording.ranges)]
    return [*lines, *symbols, *(f"Note: {note}" for note in recording.notes)]


def _offered(prices: Mapping[str, DatasetPrices], dataset: str, schemas: Iterable[str]) -> DatasetPrices:
    known = prices.get(dataset, DatasetPrices({}))
    names = sorted(schemas)
    return DatasetPrices(
        {schema: known.historical_price(schema) for schema in names},
        {schema: known.live[schema] for schema in names if schema in known.live},
    )
