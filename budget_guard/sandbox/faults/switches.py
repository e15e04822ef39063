"""Faults that go on for everybody until they are over: restarts, licences, prices, a door that is shut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

from budget_guard.sandbox.account import Account
from budget_guard.sandbox.billing.bill import Bill
from budget_guard.sandbox.faults.engine import Armed, Faults

# How often the sandbox's clock is looked at while a switch waits for it.
_LOOK_S = 0.005


class LiveSide(Protocol):
    """What the live gateway can be told."""

    def close_all(self, dataset: str | None = None, why: str = "") -> int:
        """End connections."""


class Switches:
    """Turns them when their time has come. `http` opens (True) or shuts the HTTP door."""

    def __init__(
        self,
        faults: Faults,
        account: Account,
        bill: Bill,
        live: LiveSide,
        http: Callable[[bool], Awaitable[None]],
    ) -> None:
        self._faults = faults
        self._account = account
        self._bill = bill
        self._live = live
        self._http = http
        self._wake = asyncio.Event()
        faults.armed_changed = self.look

    def look(self) -> None:
        """Turn what is to be turned now."""
        for armed, on in self._faults.switches():
            self._turn(armed, on=on)
        self._wake.set()

    async def keep(self) -> None:
        """Look on as time goes on, for as long as there is something to wait for."""
        is_open = True
        while True:
            await self._wake.wait()
            self._wake.clear()
            while True:
                self.look()
                is_open = await self._keep_door(is_open)
                if not self._faults.awaits():
                    break
                await asyncio.sleep(_LOOK_S)
            self._wake.clear()

    async def _keep_door(self, is_open: bool) -> bool:
        wanted = not self._faults.is_on("http_down", None)
        if wanted != is_open:
            # The port may be taken meanwhile: the next look tries again.
            with contextlib.suppress(OSError):
                await self._http(wanted)
                return wanted
        return is_open

    def _turn(self, armed: Armed, *, on: bool) -> None:
        fault = armed.fault
        if fault.do == "gateway_restart" and on:
            self._live.close_all(fault.dataset, "gateway restart")
        elif fault.do == "unpaid":
            self._account.set_unpaid(on=self._faults.is_on("unpaid", None))
        elif fault.do in ("revoke_live", "revoke_history") and fault.dataset is not None:
            mode: Literal["live", "historical"] = "live" if fault.do == "revoke_live" else "historical"
            self._account.set_revoked(mode, fault.dataset, on=self._faults.is_on(fault.do, fault.dataset))
        elif fault.do == "price" and fault.dataset is not None:
            self._price(armed, fault.dataset, on=on)

    def _price(self, armed: Armed, dataset: str, *, on: bool) -> None:
        mode, schema = armed.fault.args["mode"], armed.fault.args["schema"]
        self._account.change_price(
            armed.number, mode, dataset, schema, armed.fault.args["usd_per_gib"] if on else None
        )
        if mode == "live":  # a download costs what it cost when it was asked for
            self._bill.reprice("live", dataset, schema, self._account.live_price(dataset, schema))
