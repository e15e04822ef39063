"""A program that submits a batch job through a gateway of its own and is killed at a step: `python -m ... STEP`.

The surroundings come as JSON on stdin. Steps: `held`, `asked`, `answered`, `recorded`, `settling`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from databento.historical.api.batch import BatchHttpAPI

from budget_guard.clock import RehearsalClock
from budget_guard.gateway.historical import following
from budget_guard.gateway.historical.room import Room
from budget_guard.guard.download import RequestHold
from budget_guard.guard.purchases import Purchases
from budget_guard.settings import Settings
from budget_guard.streaming.assembly import open_gateway
from tests.gateway.desk import NQ, policy

JOB: dict[str, Any] = {**NQ, "start": "2026-11-20T15:00", "end": "2026-11-20T15:01"}


def die(*_: Any, **__: Any) -> Any:
    """As a machine that loses its power."""
    os.kill(os.getpid(), signal.SIGKILL)


def _before_asking(original: Callable[..., Any]) -> Callable[..., Any]:
    def asked(self: Room, method: str, url: str, **options: Any) -> Any:
        if url.endswith("batch.submit_job"):
            die()
        return original(self, method, url, **options)

    return asked


def _once_answered(original: Callable[..., Any]) -> Callable[..., Any]:
    async def said(self: Room, answer: Any) -> Any:
        if answer.url.path.endswith("batch.submit_job"):
            die()
        return await original(self, answer)

    return said


def _once_recorded(original: Callable[..., Any]) -> Callable[..., Any]:
    def renew(self: Purchases, purchase: Any) -> None:
        original(self, purchase)
        die()

    return renew


def arm(step: str) -> None:
    """Let this process die at a step."""
    if step == "held":
        Purchases.ask = die  # type: ignore[method-assign]
    elif step == "asked":
        Room.asked = _before_asking(Room.asked)  # type: ignore[method-assign]
    elif step == "answered":
        Room.said = _once_answered(Room.said)  # type: ignore[method-assign]
    elif step == "recorded":
        Purchases.renew = _once_recorded(Purchases.renew)  # type: ignore[method-assign]
    elif step == "settling":
        RequestHold.settle_job = die  # type: ignore[method-assign]


def main(step: str) -> None:
    """Submit, and wait to be killed."""
    given = json.load(sys.stdin)
    folder = Path(given["folder"])
    now = datetime.fromisoformat(given["now"])
    following.FIRST_LOOK_S = 0.05
    settings = Settings(
        key=given["key"],
        ledger_url=given["ledger_url"],
        live_gateway=("127.0.0.1", given["live_port"]),
        historical_gateway=given["http_url"],
        now=now,
        data_dir=folder,
        cache_dir=folder / "cache",
    )
    gateway = open_gateway(policy(), settings, RehearsalClock(now))
    arm(step)
    with contextlib.closing(gateway):
        BatchHttpAPI(key=gateway.host.token(), gateway=gateway.host.http_url).submit_job(**JOB)
        if step == "settling":
            threading.Event().wait(30)


if __name__ == "__main__":
    main(sys.argv[1])
