"""Points an unchanged program's Databento clients at the guard. Runs in the child of `budget-guard run`.

Python imports this at start because its folder comes first on PYTHONPATH. It uses the standard library only: the
child may run in another environment than the guard. It changes two constructor defaults and nothing else:
`databento.Live()` without a gateway goes to the relay, `databento.Historical()` without one to the guard's door.
A program that names a gateway of its own keeps it, and holds no key that works there.
"""

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import os
import sys
from typing import Any

RELAY = os.environ.get("BUDGET_GUARD_RELAY", "")
DOOR = os.environ.get("BUDGET_GUARD_HTTP", "")
HERE = os.path.dirname(os.path.abspath(__file__))


def point_live_at(relay: str, live_class: Any) -> None:
    """`Live()` connects to `relay` (host:port) unless the program names a gateway."""
    host, _, port = relay.rpartition(":")
    original = live_class.__init__
    signature = inspect.signature(original)

    @functools.wraps(original)
    def pointed(self: Any, *args: Any, **kwargs: Any) -> None:
        given = signature.bind_partial(self, *args, **kwargs)
        if given.arguments.get("gateway") is None:
            given.arguments["gateway"] = host
            given.arguments["port"] = int(port)
        original(*given.args, **given.kwargs)

    live_class.__init__ = pointed


def point_historical_at(door: str, historical_class: Any) -> None:
    """`Historical()` asks `door` (a base URL) unless the program names a gateway.

    The constructor insists on https for a gateway of one's own; its parts take a base URL as it is.
    """
    original = historical_class.__init__
    signature = inspect.signature(original)

    @functools.wraps(original)
    def pointed(self: Any, *args: Any, **kwargs: Any) -> None:
        given = signature.bind_partial(self, *args, **kwargs)
        original(*given.args, **given.kwargs)
        if "gateway" not in given.arguments:
            self._gateway = door
            for name in ("batch", "metadata", "symbology", "timeseries"):
                part = getattr(self, name)
                setattr(self, name, type(part)(key=self.key, gateway=door))

    historical_class.__init__ = pointed


class _Loader(importlib.abc.Loader):
    """Loads databento as it would be loaded, then changes the two defaults and steps back."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        # The module's own loader stands where anybody looks for it: resources, sources, pickles.
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        if RELAY and hasattr(module, "Live"):
            point_live_at(RELAY, module.Live)
        if DOOR and hasattr(module, "Historical"):
            point_historical_at(DOOR, module.Historical)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds databento where the others do."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname != "databento":
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader)
                return spec
        return None


def run_next_sitecustomize() -> None:
    """Another sitecustomize may have been in force: it runs too, as if this one were not here."""
    others = [entry for entry in sys.path if os.path.abspath(entry or ".") != HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


if RELAY or DOOR:
    sys.meta_path.insert(0, _Finder())
run_next_sitecustomize()
