"""`Live` and `Historical` as Python users know them, with the guard between them and the vendor.

The guard's gateway runs in a process beside the program, one for each policy, and ends with it: at an ordinary exit the
program waits until everything is settled, and a program that is killed is settled all the same. The program has the key
in its own environment here: this mount protects from mistakes, not from the program itself.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from dataclasses import replace
from multiprocessing.util import Finalize
from pathlib import Path

import databento
from databento import Compression, ReconnectPolicy
from databento.common.enums import SlowReaderBehavior
from databento.historical.api.batch import BatchHttpAPI
from databento.historical.api.metadata import MetadataHttpAPI
from databento.historical.api.symbology import SymbologyHttpAPI
from databento.historical.api.timeseries import TimeseriesHttpAPI

from budget_guard.errors import PolicyError, SettingsError
from budget_guard.loading import load_policy
from budget_guard.policy.model import Policy
from budget_guard.policy.problems import Place, Problem
from budget_guard.settings import load_settings
from budget_guard.streaming.aside.process import GatewayAside, start_aside


class _Gateways:
    """This process's gateways, one for each policy."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: list[tuple[Policy, GatewayAside]] = []
        self._inherited: list[tuple[Policy, GatewayAside]] = []
        self._closes_at_exit = False

    def of(self, policy: Policy) -> GatewayAside:
        """The gateway of a policy that says exactly this, wherever its file lies; opened on first use.

        One whose process was killed is opened again.
        """
        said = replace(policy, path=None)
        with self._lock:
            for known, gateway in list(self._open):
                if not gateway.alive:
                    gateway.close()
                    self._open.remove((known, gateway))
                elif known == said:
                    return gateway
            gateway = start_aside(policy, load_settings())
            self._open.append((said, gateway))
            self._close_at_exit()
            return gateway

    def close(self) -> None:
        with self._lock:
            while self._open:
                self._open.pop()[1].close()

    def forget(self) -> None:
        """In a forked child, which opens gateways of its own: the line to its parent's is the parent's alone."""
        self._lock = threading.Lock()
        for _, gateway in self._open:
            gateway.forget()
        self._inherited = self._open
        self._open = []
        self._closes_at_exit = False

    def _close_at_exit(self) -> None:
        """When this process ends; those that multiprocessing has forked do not come past `atexit`."""
        if not self._closes_at_exit:
            self._closes_at_exit = True
            atexit.register(self.close)
            Finalize(None, self.close, exitpriority=-100)


class _ClientLoop:
    """The event loop that this process's clients run on, in a thread of its own.

    The vendor's client has one too, which a forked child inherits without its thread: there nothing would ever happen.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._inherited: asyncio.AbstractEventLoop | None = None

    def get(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                run = self._loop.run_forever
                threading.Thread(target=run, name="budget-guard-clients", daemon=True).start()
            return self._loop

    def forget(self) -> None:
        """In a forked child: its copy of the parent's loop is kept, since closing it would trouble the parent's."""
        self._lock = threading.Lock()
        self._inherited, self._loop = self._loop, None


_gateways = _Gateways()
_client_loop = _ClientLoop()
os.register_at_fork(after_in_child=_gateways.forget)
os.register_at_fork(after_in_child=_client_loop.forget)


def gateway_for(policy: Policy | str | Path) -> GatewayAside:
    """This process's gateway for a policy, started on first use.

    Raises PolicyError, SettingsError, LedgerError, VendorError.
    """
    if os.environ.get("BUDGET_GUARD_RELAY"):
        raise SettingsError(
            "this program runs behind `budget-guard run` already, with a policy that is not its own choice: "
            "use databento.Live() and databento.Historical() in it, or start it without `run`"
        )
    if not isinstance(policy, Policy):
        policy = load_policy(policy, cache_dir=load_settings().cache_dir)
    return _gateways.of(policy)


def _token(gateway: GatewayAside, stream: str | None) -> str:
    names = gateway.policy.streams
    if stream is not None and stream not in names:
        place = Place(gateway.policy.path or "policy", 1, 1)
        raise PolicyError([Problem(place, f"no stream {stream!r}; the policy has {', '.join(names)}")])
    return gateway.token(stream)


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

    def __init__(
        self,
        *,
        policy: Policy | str | Path,
        stream: str | None = None,
        ts_out: bool = False,
        heartbeat_interval_s: int | None = None,
        reconnect_policy: ReconnectPolicy | str = ReconnectPolicy.NONE,
        slow_reader_behavior: SlowReaderBehavior | str | None = None,
        compression: Compression | str = Compression.NONE,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        gateway = gateway_for(policy)
        super().__init__(
            key=_token(gateway, stream),
            gateway="127.0.0.1",
            port=gateway.live_port,
            ts_out=ts_out,
            heartbeat_interval_s=heartbeat_interval_s,
            reconnect_policy=reconnect_policy,
            slow_reader_behavior=slow_reader_behavior,
            compression=compression,  # type: ignore[arg-type]  # it takes names too
            loop=_client_loop.get() if loop is None else loop,
        )


class Historical(databento.Historical):
    """A `databento.Historical` whose data requests are priced, decided and booked before they are made.

    Parameters
    ----------
    policy : Policy, str or Path
        The policy that approves requests and sets their budgets, or its file.
    stream : str, optional
        The one stream whose approval and budgets count; any stream of the policy when left out.

    Raises
    ------
    PolicyError, SettingsError, LedgerError, VendorError
        When the guard cannot be started. A refusal arrives as the client's `BentoClientError` with the reason.
    """

    def __init__(self, *, policy: Policy | str | Path, stream: str | None = None) -> None:
        gateway = gateway_for(policy)
        token, url = _token(gateway, stream), gateway.http_url
        super().__init__(key=token)
        # The constructor would turn a gateway of one's own into https; these take it as it is.
        self._gateway = url
        self.batch = BatchHttpAPI(key=token, gateway=url)
        self.metadata = MetadataHttpAPI(key=token, gateway=url)
        self.symbology = SymbologyHttpAPI(key=token, gateway=url)
        self.timeseries = TimeseriesHttpAPI(key=token, gateway=url)
