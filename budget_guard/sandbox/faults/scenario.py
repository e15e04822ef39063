"""Scenario files: a sandbox and what goes wrong with it, in YAML.

Every problem of a file is reported at once, with its line and column and what would be right.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from budget_guard.clock import RehearsalClock, SystemClock
from budget_guard.pricing.sheet import RECORD_BYTES
from budget_guard.sandbox.config import (
    DEFAULT_KEY,
    RATE_MAX,
    Credit,
    FlatPlan,
    Limits,
    Rights,
    SandboxConfig,
)
from budget_guard.sandbox.faults import words
from budget_guard.sandbox.faults.model import Fault
from budget_guard.sandbox.faults.names import Names, meant
from budget_guard.sandbox.faults.reading import Path as Place
from budget_guard.sandbox.faults.reading import Reading, read_fault
from budget_guard.sandbox.faults.yaml_nodes import Document
from budget_guard.sandbox.prices import DEFAULT_PRICES, DatasetPrices

BUNDLED = Path(__file__).with_name("scenarios")
SCHEMAS = tuple(RECORD_BYTES)

# The levels in which the vendor's flat plans include history.
LEVELS: Mapping[str, tuple[str, ...]] = {
    "L0": ("ohlcv-1s", "ohlcv-1m", "ohlcv-1h", "ohlcv-1d", "definition", "statistics", "status"),
    "L1": ("trades", "tbbo", "mbp-1", "bbo-1s", "bbo-1m", "cmbp-1", "tcbbo", "cbbo-1s", "cbbo-1m"),
    "L2": ("mbp-10",),
    "L3": ("mbo",),
}
_DAYS_MAX = 36_600


class ScenarioError(ValueError):
    """A scenario that cannot be used; `problems` are all that is wrong with it, each as `FILE:LINE:COLUMN: text`."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def bundled_scenarios() -> dict[str, Path]:
    """The scenarios that come with the package, by name."""
    return {path.stem: path for path in sorted(BUNDLED.glob("*.yaml"))}


def load_scenario(
    source: str | Path, *, datasets: Iterable[str] = (), products: Iterable[str] = ()
) -> SandboxConfig:
    """A file, or a bundled scenario by its name, as a sandbox's configuration. Raises ScenarioError.

    With `now:` its clock begins to run there as the scenario is loaded. `datasets` and `products` are names that it may
    speak of beside those of the sandbox's own market; the former are given no price here.
    """
    path = bundled_scenarios().get(str(source), Path(source))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        names = ", ".join(bundled_scenarios())
        near = words.hint(str(source), bundled_scenarios())
        raise ScenarioError(
            [f"{source}: cannot be read: {why}; give a file, or one of {names}{near}"]
        ) from None
    return parse_scenario(text, str(path), datasets=datasets, products=products)


def about(source: str | Path) -> str:
    """What a scenario says about itself."""
    said = Document(Path(source).read_text(encoding="utf-8")).value
    return str(said.get("about", "")) if isinstance(said, Mapping) else ""


def parse_scenario(
    text: str, name: str, *, datasets: Iterable[str] = (), products: Iterable[str] = ()
) -> SandboxConfig:
    """The text of a scenario as a configuration; `name` is what problems call it. Raises ScenarioError."""
    document = Document(text)
    reading = Reading(document.problems)
    fields: dict[str, Any] = {}
    if document.value is not None:
        body = reading.mapping(document.value, (), READERS)
        for word, value in body.items():
            if word in READERS:
                fields |= READERS[word](reading, value, (word,))
        names = Names((*fields.get("prices", DEFAULT_PRICES), *datasets), fields.get("keys", (DEFAULT_KEY,)))
        _check_datasets(reading, fields, names)
        _check_products(reading, fields, set(products))
        reading.check_names(names)
    if reading.problems:
        placed = sorted((*document.place(problem), str(problem)) for problem in reading.problems)
        raise ScenarioError([f"{name}:{line}:{column}: {said}" for line, column, said in placed])
    unpriced = {dataset: DatasetPrices({}) for dataset in datasets}
    if unpriced.keys() - fields.get("prices", DEFAULT_PRICES).keys():
        fields["prices"] = {**unpriced, **fields.get("prices", DEFAULT_PRICES)}
    try:
        return SandboxConfig(**fields)
    except ValueError as error:
        raise ScenarioError([f"{name}:1:1: {error}"]) from None


def _check_datasets(reading: Reading, fields: Mapping[str, Any], names: Names) -> None:
    """Rights, plans and products name datasets that are on offer."""
    for key, rights in fields.get("rights", {}).items():
        for side in ("live", "historical"):
            for dataset in sorted(getattr(rights, side) or ()):
                _check_dataset(reading, names, dataset, ("keys", key, side))
    for word in ("plans", "products"):
        for dataset in fields.get(word, {}):
            _check_dataset(reading, names, dataset, (word, dataset))


def _check_dataset(reading: Reading, names: Names, dataset: str, place: Place) -> None:
    if (said := names.dataset(dataset)) is not None:
        reading.say(place, said)


def _check_products(reading: Reading, fields: Mapping[str, Any], own: set[str]) -> None:
    """Volumes are those of products that are traded: of another one nobody would ever see them."""
    volumes = fields.get("records_per_session", {})
    if not volumes:
        return
    from budget_guard.sandbox.market.universe import Universe

    extra = fields.get("products", {})
    universe = Universe(extra)
    known = own | {
        product.name for dataset in (*DEFAULT_PRICES, *extra) for product in universe.products(dataset)
    }
    for schema, product in volumes:
        if product not in known:
            said = f"names {product}, which is not traded here{meant(product, sorted(known))}"
            reading.say(
                ("records_per_session", schema, product),
                f"{said} Further ones are named under products, by dataset.",
            )


def _field(name: str, parse: Callable[[Any], Any]) -> Callable[[Reading, Any, Place], dict[str, Any]]:
    """A reader of one word that is one field of the configuration."""

    def read(reading: Reading, value: Any, path: Place) -> dict[str, Any]:
        before = len(reading.problems)
        found = reading.word(parse, value, path)
        return {name: found} if len(reading.problems) == before else {}

    return read


def _rate(value: Any) -> int | None:
    if value == "market":
        return None
    try:
        return words.whole(0, RATE_MAX)(value)
    except words.BadWord:
        raise words.BadWord(
            f"should be records/s, 0 to {RATE_MAX:,} (0: as fast as they are read), or market; got {value!r}"
        ) from None


def _now(reading: Reading, value: Any, path: Place) -> dict[str, Any]:
    found = reading.word(words.instant, value, path)
    return {"clock": SystemClock() if found is None else RehearsalClock(found)}


def _about(reading: Reading, value: Any, path: Place) -> dict[str, Any]:
    reading.word(words.text, value, path)
    return {}


def _key(value: Any) -> str:
    if not isinstance(value, str) or len(value) < 6 or "|" in value:
        raise words.BadWord(f"should be an API key: text of 6 characters or more, without '|'; got {value!r}")
    return value


def _keys(reading: Reading, value: Any, path: Place) -> dict[str, Any]:
    """A list of keys, or a mapping of keys to `{live: [...], historical: [...]}`."""
    if isinstance(value, list):
        found = [reading.word(_key, item, place) for place, item in reading.items(value, path)]
        return {"keys": tuple(key for key in found if key is not None) or (DEFAULT_KEY,)}
    keys: list[str] = []
    rights: dict[str, Rights] = {}
    for key, said in reading.mapping(value, path).items():
        here = (*path, key)
        if reading.word(_key, key, here) is None:
            continue
        keys.append(key)
        if said not in (None, "all"):
            body = reading.mapping(said, here, ("live", "historical"))
            rights[key] = Rights(
                **{
                    side: _datasets(reading, body[side], (*here, side))
                    for side in body
                    if side in ("live", "historical")
                }
            )
    return {"keys": tuple(keys) or (DEFAULT_KEY,), "rights": rights}


def _datasets(reading: Reading, value: Any, path: Place) -> frozenset[str] | None:
    if value == "all":
        return None
    if not isinstance(value, list):
        reading.say(path, f"should be a list of datasets, as [GLBX.MDP3], or all; got {value!r}")
        return None
    found = [reading.word(words.text, item, place) for place, item in reading.items(value, path)]
    return frozenset(name for name in found if name is not None)


def _plans(reading: Reading, value: Any, path: Place) -> dict[str, Any]:
    plans: dict[str, FlatPlan] = {}
    for dataset, said in reading.mapping(value, path).items():
        here = (*path, dataset)
        body = reading.mapping(said, here, ("live", "history_days"))
        live = reading.part(words.flag, body, "live", here)
        days: dict[str, int] = {}
        listed = body.get("history_days", {})
        known = (*LEVELS, *SCHEMAS)
        for name, count in reading.mapping(listed, (*here, "history_days"), known).items():
            read = reading.word(words.whole(1, _DAYS_MAX), count, (*here, "history_days", name))
            days |= dict.fromkeys(LEVELS.get(name, (name,)), read or 0)
        plans[dataset] = FlatPlan(live is not False, days)
    return {"plans": plans}


def _credits(reading: Reading, value: Any, path: Place) -> dict[str, Any]:
    found = []
    for here, item in reading.items(value, path):
        body = reading.mapping(item, here, ("usd", "expires", "covers"))
        if "usd" not in body:
            reading.say(here, "needs usd, as 125")
        usd = reading.part(words.price, body, "usd", here)
        expires = reading.part(words.day, body, "expires", here) if body.get("expires") is not None else None
        covers: Any = reading.part(words.choice("historical", "live", "all"), body, "covers", here)
        if usd is not None:
            found.append(Credit(usd, expires, covers or "all"))
    return {"credits": tuple(found)}


def _prices(reading: Reading, value: Any, path: Place) -> dict[str, Any]:
    """Prices of single schemas: of a known dataset they are changed or added, another one has no more than these."""
    prices = dict(DEFAULT_PRICES)
    for dataset, said in reading.mapping(value, path).items():
        here = (*path, dataset)
        body = reading.mapping(said, here, ("historical", "live"))
        old = DEFAULT_PRICES.get(dataset, DatasetPrices({}))
        sides = {
            side: {**getattr(old, side), **_price_list(reading, body.get(side, {}), (*here, side))}
            for side in ("historical", "live")
        }
        # Every schema that has a live price is on offer, though nobody may know what its history costs.
        historical = {**dict.fromkeys(sides["live"]), **sides["historical"]}
        prices[dataset] = DatasetPrices(historical, sides["live"])
    return {"prices": prices}


def _price_list(reading: Reading, value: Any, path: Place) -> dict[str, Any]:
    listed = reading.mapping(value, path, SCHEMAS)
    return {
        schema: None if price is None else reading.word(words.price, price, (*path, schema))
        for schema, price in listed.items()
    }


def _limits(reading: Reading, value: Any, path: Place) -> dict[str, Any]:
    if value == "none":
        return {"limits": Limits.none()}
    names = [field.name for field in dataclasses.fields(Limits)]
    found: dict[str, int | None] = {}
    for name, most in reading.mapping(value, path, names).items():
        if name in names:
            found[name] = (
                None if most in (None, "none") else reading.word(words.whole(0), most, (*path, name))
            )
    return {"limits": Limits(**found)}


def _volumes(reading: Reading, value: Any, path: Place) -> dict[str, Any]:
    volumes: dict[tuple[str, str], int] = {}
    for schema, products in reading.mapping(value, path, SCHEMAS).items():
        for product, count in reading.mapping(products, (*path, schema)).items():
            read = reading.word(words.whole(0), count, (*path, schema, product))
            volumes[schema, product] = read or 0
    return {"records_per_session": volumes}


def _products(reading: Reading, value: Any, path: Place) -> dict[str, Any]:
    products: dict[str, tuple[str, ...]] = {}
    for dataset, roots in reading.mapping(value, path).items():
        found = [
            reading.word(words.text, root, here) for here, root in reading.items(roots, (*path, dataset))
        ]
        products[dataset] = tuple(root for root in found if root is not None)
    return {"products": products}


def _faults(reading: Reading, value: Any, path: Place) -> dict[str, Any]:
    found: list[Fault | None] = [read_fault(reading, item, here) for here, item in reading.items(value, path)]
    return {"faults": tuple(fault for fault in found if fault is not None)}


# The words of a scenario, and who reads them into fields of SandboxConfig.
READERS: Mapping[str, Callable[[Reading, Any, Place], dict[str, Any]]] = {
    "about": _about,
    "seed": _field("seed", words.whole(0)),
    "rate": _field("rate", _rate),
    "now": _now,
    "keys": _keys,
    "plans": _plans,
    "credits": _credits,
    "prices": _prices,
    "limits": _limits,
    "records_per_session": _volumes,
    "products": _products,
    "faults": _faults,
}
