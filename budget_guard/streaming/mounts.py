"""`Live` and `Historical` as Python users know them, with the guard between them and the vendor.

The guard's gateway runs in a thread of this process, one for each policy, and is stopped when the program ends.
In this mount the program and the key share a process: it protects from mistakes, not from the program itself.
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401 - before `_at_exit`: what is registered last is run first
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import databento
from databento.historical.api.batch import BatchHttpAPI
from databento.historical.api.metadata import MetadataHttpAPI
from databento.historical.api.symbology import SymbologyHttpAPI
from databento.historical.api.timeseries import TimeseriesHttpAPI

from budget_guard.errors import PolicyError
from budget_guard.loading import load_policy
from budget_guard.policy.model import Policy
from budget_guard.policy.problems import Place, Problem
from budget_guard.settings import load_settings
from budget_guard.streaming.approval import ask_on_terminal
from budget_guard.streaming.assembly import OpenGateway, open_gateway


class _Gateways:
    """This process's gateways, one for each policy."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: list[tuple[Policy, OpenGateway]] = []

    def of(self, policy: Policy) -> OpenGateway:
        """The gateway of a policy that says exactly this, wherever its file lies; opened on first use."""
        said = replace(policy, path=None)
        with self._lock:
            for known, gateway in self._open:
                if known == said:
                    return gateway
            settings = load_settings()
            gateway = open_gateway(policy, settings, settings.clock(), approve=ask_on_terminal)
            self._open.append((said, gateway))
            return gateway

    def close(self) -> None:
        with self._lock:
            while self._open:
                self._open.pop()[1].close()

    def forget(self) -> None:
        """In a forked child, which has none of its parent's threads: it opens gateways of its own.

        The parent's are kept alive unused: freeing them here would close what the parent still uses.
        """
        self._lock = threading.Lock()
        self._inherited = self._open
        self._open = []


_gateways = _Gateways()
os.register_at_fork(after_in_child=_gateways.forget)


def gateway_for(policy: Policy | str | Path) -> OpenGateway:
    """This process's gateway for a policy, started on first use.

    Raises PolicyError, SettingsError, LedgerError, VendorError.
    """
    if not isinstance(policy, Policy):
        policy = load_policy(policy, cache_dir=load_settings().cache_dir)
    return _gateways.of(policy)


def close_gateways() -> None:
    """End and settle everything that this process has running behind the guard."""
    _gateways.close()


# Plain `atexit` would be too late: by then the interpreter's thread pools, which settle, take no more work.
_at_exit = getattr(threading, "_register_atexit", atexit.register)
_at_exit(close_gateways)


def _require_stream(gateway: OpenGateway, stream: str | None) -> str | None:
    names = gateway.opened.guard.policy.streams
    if stream is not None and stream not in names:
        place = Place(gateway.opened.guard.policy.path or "policy", 1, 1)
        raise PolicyError([Problem(place, f"no stream {stream!r}; the policy has {', '.join(names)}")])
    return stream


class Live(databento.Live):
    """A `databento.Live` that connects through the guard.

    Parameters
    ----------
    policy : Policy, str or Path
        The policy that approves streams and sets their budgets, or its file.
    stream : str, optional
        The one stream that this client may use; any stream of the policy when left out.
    ts_out, heartbeat_interval_s, reconnect_policy, slow_reader_behavior, compression, loop
        As for `databento.Live`. Key, gateway and port are the guard's.

    Raises
    ------
    PolicyError, SettingsError, LedgerError, VendorError
        When the guard cannot be started. Refusals arrive as the client's own `BentoError` with the reason.
    """

    def __init__(self, *, policy: Policy | str | Path, stream: str | None = None, **options: Any) -> None:
        gateway = gateway_for(policy)
        token = gateway.host.token(_require_stream(gateway, stream))
        super().__init__(key=token, gateway="127.0.0.1", port=gateway.host.live_port, **options)


class Historical(databento.Historical):
    """A `databento.Historical` whose data requests are priced, decided and booked before they are made.

    Parameters are those of `Live`. A refusal arrives as the client's `BentoClientError` with the reason.
    """

    def __init__(self, *, policy: Policy | str | Path, stream: str | None = None) -> None:
        gateway = gateway_for(policy)
        token = gateway.host.token(_require_stream(gateway, stream))
        super().__init__(key=token)
        url = gateway.host.http_url
        # The constructor would turn a gateway of one's own into https; these take it as it is.
        self._gateway = url
        self.batch = BatchHttpAPI(key=token, gateway=url)
        self.metadata = MetadataHttpAPI(key=token, gateway=url)
        self.symbology = SymbologyHttpAPI(key=token, gateway=url)
        self.timeseries = TimeseriesHttpAPI(key=token, gateway=url)
