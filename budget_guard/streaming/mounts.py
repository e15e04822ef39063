"""`Live` and `Historical` as Python users know them, with the guard between them and the vendor.

The guard's gateway runs in a thread of this process, one for each policy, and is stopped when the program ends.
In this mount the program and the key share a process: it protects from mistakes, not from the program itself.
"""

from __future__ import annotations

import atexit
import os
import threading
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

_lock = threading.Lock()
_gateways: dict[tuple[int, str], OpenGateway] = {}


def gateway_for(policy: Policy | str | Path) -> OpenGateway:
    """This process's gateway for a policy, started on first use.

    Raises PolicyError, SettingsError, LedgerError, VendorError.
    """
    loaded = policy if isinstance(policy, Policy) else load_policy(policy)
    name = str(Path(loaded.path).resolve()) if loaded.path else f"{loaded.account.name}/{loaded.name}"
    # A forked child has none of its parent's threads: it starts a gateway of its own.
    key = (os.getpid(), name)
    with _lock:
        if key not in _gateways:
            settings = load_settings()
            gateway = open_gateway(loaded, settings, settings.clock(), approve=ask_on_terminal)
            _gateways[key] = gateway
        return _gateways[key]


def close_gateways() -> None:
    """End and settle everything that this process has running behind the guard."""
    with _lock:
        mine = [key for key in _gateways if key[0] == os.getpid()]
        for key in mine:
            _gateways.pop(key).close()


atexit.register(close_gateways)


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
