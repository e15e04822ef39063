"""The arrows between the rooms, the weight of their imports, and the size of their parts."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import budget_guard
from budget_guard.loading import load_policy

ROOT = Path(budget_guard.__file__).parent
POLICY = ROOT.parent / "policies" / "nq-futures.yaml"
PACKAGE = "budget_guard"

FOUNDATION = ("addresses", "clock", "decisions", "disk", "errors", "money", "wording")
# Each room and what it may import, as modules or whole rooms; its own modules always. Nothing may import cli.
ARROWS: Mapping[str, tuple[str, ...]] = {
    "money": (),
    "addresses": (),
    "clock": (),
    "disk": (),
    "wording": (),
    "decisions": ("clock", "money", "wording"),
    "errors": ("clock", "money", "decisions", "policy.problems"),  # the last two for types only
    "settings": FOUNDATION,
    "policy": FOUNDATION,
    "pricing": FOUNDATION,
    "markets": (*FOUNDATION, "policy"),
    "vendor": (*FOUNDATION, "pricing"),
    "ledger": FOUNDATION,
    "guard": (*FOUNDATION, "policy", "pricing", "markets.model", "ledger"),
    "gateway": (*FOUNDATION, "policy", "pricing", "markets.model", "ledger", "guard", "vendor.errors"),
    "loading": (*FOUNDATION, "policy", "markets"),
    "planning": (*FOUNDATION, "policy", "pricing", "markets", "vendor"),
    "reviewing": (*FOUNDATION, "policy", "pricing", "ledger", "guard", "planning.fixed"),
    "streaming": (
        *FOUNDATION,
        "settings",
        "loading",
        "policy",
        "pricing",
        "markets",
        "vendor",
        "ledger",
        "guard",
        "gateway",
    ),
    "backfill": (
        *FOUNDATION,
        "policy",
        "pricing",
        "vendor.answers",
        "ledger.model",
        "guard.denials",
        "guard.quote",
        "guard.request",
    ),
    "render": (
        *FOUNDATION,
        "backfill.model",
        "policy.diff",
        "policy.explain",
        "policy.model",
        "markets.model",
        "pricing.model",
        "planning.model",
        "reviewing.model",
        "rehearsal.model",
        "guard.bought",
        "guard.status",
        "guard.lease",  # the words for an amount
        "ledger.amounts",  # and its figure
        "ledger.audit",
        "ledger.export",
        "ledger.model",
        "ledger.story",
    ),
    "sandbox": ("clock", "errors", "money", "pricing.sheet"),
    "demo": (*FOUNDATION, "sandbox", "ledger"),
    "rehearsal": (
        *FOUNDATION,
        "settings",
        "policy",
        "pricing",
        "markets",
        "ledger",
        "guard",
        "gateway",
        "streaming",
        "sandbox",
    ),
    "api": (*FOUNDATION, "settings", "loading", "policy", "vendor", "ledger", "planning", "reviewing"),
    "__init__": ("api", "errors", "guard.guard", "loading", "streaming.mounts"),
    "__main__": ("cli",),
    "cli": (
        *FOUNDATION,
        "api",
        "settings",
        "loading",
        "policy",
        "pricing",
        "markets",
        "vendor",
        "ledger",
        "guard",
        "gateway",
        "streaming",
        "planning",
        "reviewing",
        "backfill",
        "render",
        "sandbox",
        "demo",
        "rehearsal",
    ),
}

HEAVY = (
    "pandas",
    "numpy",
    "databento",
    "databento_dbn",
    "exchange_calendars",
    "aiohttp",
    "matplotlib",
    "alembic",
)
# What may be longer than the rest, and why. Empty is how it should be.
LONG_MODULES: tuple[str, ...] = ()
LONG_FUNCTIONS: tuple[str, ...] = ()
MODULE_LINES = 500
FUNCTION_LINES = 60


def modules() -> list[str]:
    """Every module of the package, without the package's own name: `guard.lease`, `__init__`, `policy.__init__`."""
    return sorted(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in ROOT.rglob("*.py"))


def source_of(module: str) -> str:
    return ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")


MODULES = modules()


def room_of(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


def imported(source: str, module: str) -> Iterator[str]:
    """The package's modules that a source imports, in functions and for types too, relative imports included."""
    package = [PACKAGE, *module.split(".")[:-1]]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (
                name.removeprefix(f"{PACKAGE}.") for name in _ours(alias.name for alias in node.names)
            )
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source_name = ".".join([*base, *filter(None, [node.module])])
            names = [f"{source_name}.{alias.name}" for alias in node.names]
            yield from (_existing(name.removeprefix(f"{PACKAGE}.")) for name in _ours(names))
        elif isinstance(node, ast.Call) and _is_import_call(node):
            yield from (name.removeprefix(f"{PACKAGE}.") for name in _ours(_texts(node)))


def _ours(names: Iterator[str] | list[str]) -> Iterator[str]:
    return (name for name in names if name.startswith(f"{PACKAGE}."))


def _existing(name: str) -> str:
    """`guard.lease.Grant` as the module `guard.lease`; a name that the package's own `__init__` gives stays."""
    stem = name.rpartition(".")[0]
    known = {module.removesuffix(".__init__") for module in MODULES}
    return name if name in known or stem not in known else stem


def _is_import_call(node: ast.Call) -> bool:
    function = node.func
    called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return called in ("import_module", "__import__")


def _texts(node: ast.Call) -> list[str]:
    return [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]


def wrong_arrows(source: str, module: str) -> list[str]:
    """What a source may not import where it stands."""
    room = room_of(module)
    allowed = (room, *ARROWS[room])
    return [
        f"{module} imports {found}"
        for found in imported(source, module)
        if not any(found == name or found.startswith(f"{name}.") for name in allowed)
    ]


@pytest.mark.parametrize("module", MODULES)
def test_every_module_imports_only_what_its_room_may(module: str) -> None:
    assert wrong_arrows(source_of(module), module) == []


def test_every_room_has_its_arrows() -> None:
    assert {room_of(module) for module in MODULES} == set(ARROWS)


def test_the_arrows_have_no_cycle_and_none_leads_to_the_command_line() -> None:
    """An arrow to a part of a room counts for the room, but for what errors need for their types."""
    left = {room: {room_of(name) for name in names} - {room} for room, names in ARROWS.items()}
    left["errors"] -= {"decisions", "policy"}
    while free := {room for room, names in left.items() if not names}:
        left = {room: names - free for room, names in left.items() if room not in free}
    assert left == {}
    assert [room for room, names in ARROWS.items() if "cli" in names] == ["__main__"]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("money", "from budget_guard.clock import EPOCH"),
        ("pricing.book", "from budget_guard.policy.model import Policy"),
        ("ledger.store", "import budget_guard.markets.windows"),
        ("ledger.store", "from budget_guard.vendor import client"),
        ("ledger.store", "from ..markets import windows"),
        ("guard.lease", "def f():\n    from budget_guard.markets.windows import WindowBook"),
        (
            "guard.lease",
            "if TYPE_CHECKING:\n    from budget_guard.gateway.live import relay",
        ),
        ("sandbox.bill", "from budget_guard.pricing.book import PriceBook"),
        ("gateway.historical.door", "from budget_guard.vendor.client import VendorClient"),
        ("planning.plan", "from budget_guard import cli"),
        ("planning.plan", "import importlib\nimportlib.import_module('budget_guard.cli.run')"),
        ("render.plan", "from budget_guard import load_policy"),
        ("reviewing.review", "from budget_guard.planning.plan import plan"),
    ],
)
def test_a_bad_import_is_caught(module: str, source: str) -> None:
    assert len(wrong_arrows(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("guard.lease", "from budget_guard.guard.periods import BudgetLimit\nfrom . import periods"),
        ("guard.lease", "from budget_guard.markets.model import Interval"),
        ("sandbox.bill", "from budget_guard.pricing.sheet import RECORD_BYTES"),
        ("vendor.client", "import pandas\nfrom budget_guard.pricing import ranges"),
    ],
)
def test_a_good_import_is_not(module: str, source: str) -> None:
    assert wrong_arrows(source, module) == []


# --- weight ---------------------------------------------------------------------------------------------------


def test_every_public_name_can_be_imported() -> None:
    for name in budget_guard.__all__:
        assert getattr(importlib.import_module(PACKAGE), name) is not None
    assert set(budget_guard.__all__) <= set(dir(budget_guard))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = budget_guard.nothing


def heavy_after(code: str, *, env: Mapping[str, str] | None = None) -> set[str]:
    """Which heavy libraries a fresh interpreter has imported after running some code."""
    report = f"import sys; {code}\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", report], capture_output=True, text=True, check=True, env=env, timeout=60
    )
    return set(done.stdout.splitlines()[-1].split())


def test_what_is_heavy_is_seen() -> None:
    assert heavy_after("import numpy") == {"numpy"}


def test_packages_bring_nothing_heavy_themselves() -> None:
    packages = [module.removesuffix(".__init__") for module in MODULES if module.endswith(".__init__")]
    assert "guard" in packages
    code = "import budget_guard, " + ", ".join(f"budget_guard.{name}" for name in packages)
    assert heavy_after(code) == set()


def test_help_brings_nothing_heavy() -> None:
    code = """
from budget_guard.cli import cli
try:
    cli.main(["--help"], standalone_mode=False)
except SystemExit:
    pass
"""
    assert heavy_after(code) == set()


def test_status_brings_nothing_heavy_once_the_calendars_are_kept(tmp_path: Path) -> None:
    load_policy(POLICY, cache_dir=tmp_path / "cache" / "budget-guard")
    code = f"""
from budget_guard.cli import main
try:
    main(["status", {str(POLICY)!r}, "--format", "json"])
except SystemExit as done:
    assert done.code == 0, done.code
print()
"""
    env = {
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "PATH": "/usr/bin:/bin",
    }
    assert heavy_after(code, env=env) == set()


def test_a_policy_is_checked_without_the_calendar_library_once_its_answer_is_kept(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from budget_guard.loading import load_policy
load_policy({str(POLICY)!r}, cache_dir=Path({str(tmp_path)!r}))"""
    assert "exchange_calendars" in heavy_after(code)
    assert heavy_after(code) == set()


# --- size -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TooLong:
    name: str
    lines: int


def long_functions(source: str, module: str, most: int = FUNCTION_LINES) -> list[TooLong]:
    """Functions of more lines than that, docstring and all, as `module:function`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > most:
                found.append(TooLong(f"{module}:{node.name}", lines))
    return found


def test_no_module_is_too_long() -> None:
    lines = {module: len(source_of(module).splitlines()) for module in MODULES}
    assert {m: n for m, n in lines.items() if n > MODULE_LINES and m not in LONG_MODULES} == {}


def test_no_function_is_too_long() -> None:
    found = [long for module in MODULES for long in long_functions(source_of(module), module)]
    assert [long for long in found if long.name not in LONG_FUNCTIONS] == []


def test_a_long_function_is_caught() -> None:
    lines = ["    pass"] * FUNCTION_LINES
    assert long_functions("\n".join(["def f():", *lines]), "m") == [TooLong("m:f", 61)]
    assert long_functions("\n".join(["async def f():", *lines[1:]]), "m") == []


def test_what_is_listed_as_long_still_is() -> None:
    found = {long.name for module in MODULES for long in long_functions(source_of(module), module)}
    assert set(LONG_FUNCTIONS) <= found
    assert {m for m in LONG_MODULES if len(source_of(m).splitlines()) > MODULE_LINES} == set(LONG_MODULES)
