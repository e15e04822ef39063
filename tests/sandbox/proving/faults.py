"""Every fault of the language, and with what the official client is put through it."""

from __future__ import annotations

import logging
import multiprocessing
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from budget_guard.clock import ns_from_instant
from budget_guard.sandbox.faults.model import KINDS
from budget_guard.sandbox.market.model import Selection
from budget_guard.sandbox.market.synthetic import Market
from tests.sandbox.proving.live import BOUND_S, START, STRIKES_AFTER, LiveCase, live_outcome
from tests.sandbox.proving.outcomes import Outcome
from tests.sandbox.proving.requests import RequestCase, request_outcome

Case = LiveCase | RequestCase
Words = Mapping[str, Any]
Play = Callable[[Case], Outcome]

AT_ONCE = 16
# A process that says nothing for that long hangs, whatever it waits for.
TIMEOUT_S = 3 * BOUND_S

SLOW = frozenset(
    {"glue_reply", "refuse_live", "unknown_reply_field", "silence", "heartbeats_only", "unpaid", "http_delay"}
)

# Words that a stream fault needs beside where it strikes.
STREAM_WORDS: Mapping[str, Words] = {
    # For a second of the sandbox's clock, which stands still at the end.
    "slow_link": {"bytes_per_s": 20_000, "for_": "1s"},
    "delay": {"ms": 100, "for_": "1s"},
    "duplicate": {"records": 3},
    "lose_replay": {"share": 0.25},
}
# With these the client drops what it read together with them.
UNREADABLE = frozenset({"corrupt_length", "corrupt_rtype", "unknown_record"})
LOGIN_WORDS: Mapping[str, Sequence[Words]] = {"glue_reply": ({}, {"early": True})}
# Switches that live sessions meet in their midst, and what they are told.
LIVE_SWITCHES: Mapping[str, Words] = {
    "gateway_restart": {"for_": "1h"},
    "unpaid": {},
    "revoke_live": {"dataset": "GLBX.MDP3"},
    "price": {"dataset": "GLBX.MDP3", "schema": "mbo", "mode": "live", "usd_per_gib": 1000},
}
HISTORY_PRICE = {"dataset": "GLBX.MDP3", "schema": "mbo", "mode": "historical", "usd_per_gib": 1000}
DOWNLOADS = ("get_range", "get_range_async", "get_range(path=...)")
# What requests meet: the calls, and what the fault is told.
REQUESTS: Mapping[str, Sequence[tuple[Sequence[str], Words]]] = {
    "unpaid": [(("get_cost", "get_range", "submit_job, download"), {})],
    "revoke_history": [(("get_cost", "get_range", "submit_job, download"), {"dataset": "GLBX.MDP3"})],
    "price": [(("get_cost, get_range",), HISTORY_PRICE)],
    "http_down": [(("get_cost", "get_range", "submit_job, download"), {"for_": "1h"})],
    "http_error": [
        (("get_cost", "get_range", "submit_job, download"), {"status": 429, "retry_after_s": 1}),
        (("get_cost", "get_range"), {"status": 500}),
        (("get_cost", "get_range"), {"status": 504}),
    ],
    "http_reset": [(("get_cost", "get_range", "get_range_async", "submit_job, download"), {})],
    "http_delay": [(("get_cost", "get_range"), {"ms": 6000})],
    "unparsable": [(("get_cost", "resolve", "submit_job, download"), {"on": "all"})],
    "wrong_number": [
        (("get_record_count",), {"answer": "get_record_count", "factor": 0.5}),
        (("get_billable_size",), {"answer": "get_billable_size", "factor": 0.5}),
        (("get_cost, get_range",), {"answer": "get_cost", "factor": 0.5}),
    ],
    "missing_price": [(("list_unit_prices",), {"schema": "mbo"})],
    "break_history": [(DOWNLOADS, {"after": "200000 bytes"})],
    "slow_history": [(("get_range",), {"bytes_per_s": 40_000})],
    "batch_queued": [(("submit_job, download",), {})],
    "batch_failed": [(("submit_job, download",), {})],
    "batch_lost": [(("submit_job, download",), {})],
}


def cases_of(fault: str) -> list[Case]:
    """All that is tried with a fault. Raises LookupError for one with which nothing is: none may be forgotten."""
    cases = [*_live_cases(fault), *_request_cases(fault)]
    if not cases:
        raise LookupError(f"{fault} is in the language of faults and in no case here")
    return cases


def _live_cases(fault: str) -> Iterator[Case]:
    door = KINDS[fault].door
    for reconnects in (False, True):
        for iterates in (False, True):
            way = f"{'loop' if iterates else 'callback'}{', reconnecting' if reconnects else ''}"
            if door == "stream":
                words = {"after": STRIKES_AFTER, **STREAM_WORDS.get(fault, {})}
                if fault == "lose_replay":
                    del words["after"]
                replays, walks = fault == "lose_replay", fault in UNREADABLE
                yield LiveCase(fault, way, words, iterates, reconnects, replays=replays, walks=walks)
            elif door == "login":
                # The second login is that of the client itself, after a reset.
                for told in LOGIN_WORDS.get(fault, ({},)):
                    words = {**told, **({"skip": 1} if reconnects else {})}
                    where = f"{way}{_told(told)}"
                    yield LiveCase(fault, where, words, iterates, reconnects, resets=reconnects)
            elif fault in LIVE_SWITCHES:
                at_login = fault == "revoke_live" and not reconnects
                resets = fault == "revoke_live" and reconnects
                told = LIVE_SWITCHES[fault]
                yield LiveCase(fault, way, told, iterates, reconnects, before=at_login, resets=resets)


def _request_cases(fault: str) -> Iterator[Case]:
    for calls, words in REQUESTS.get(fault, ()):
        for call in calls:
            names = ", ".join(f"`{name}`" for name in call.split(", "))
            where = f"{names}{_told({name: words[name] for name in words if name == 'status'})}"
            yield RequestCase(fault, where, words, call)


def _told(words: Words) -> str:
    return "".join(f", {name}" if value is True else f", {name} {value}" for name, value in words.items())


def outcome_of(case: Case) -> Outcome:
    """What the official client alone does. In a process of its own: see `outcomes`."""
    return live_outcome(case) if isinstance(case, LiveCase) else request_outcome(case)


def outcomes(cases: Sequence[Case], play: Play = outcome_of, at_once: int = AT_ONCE) -> list[Outcome]:
    """The outcome of each, in their order, each in a process of its own. One that does not answer hangs.

    The processes are forks: this one may not have threads.
    """
    _read_calendars()
    context = multiprocessing.get_context("fork")
    # Those that wait for time-outs come first: the others run meanwhile.
    waiting = sorted(enumerate(cases), key=lambda one: one[1].fault not in SLOW)
    running: dict[Connection, tuple[int, Any, float]] = {}
    found: dict[int, Outcome] = {}
    while waiting or running:
        while waiting and len(running) < at_once:
            number, case = waiting.pop(0)
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_report, args=(play, case, theirs), daemon=True)
            process.start()
            theirs.close()
            running[ours] = (number, process, time.monotonic())
        ready = wait(list(running), timeout=1.0)
        for pipe, (number, process, since_s) in list(running.items()):
            late = time.monotonic() - since_s > TIMEOUT_S
            if pipe in ready or late:
                found[number] = _received(pipe if pipe in ready else None, cases[number])
                process.kill()
                process.join()
                pipe.close()
                del running[pipe]
    return [found[number] for number in range(len(cases))]


def _read_calendars() -> None:
    """Once for all processes: it takes a second."""
    selection = Selection("GLBX.MDP3", "mbo", ("NQ.v.0",), "continuous")
    now_ns = ns_from_instant(START)
    Market(0).count(selection, now_ns - 10**9, now_ns)


def _received(pipe: Connection | None, case: Case) -> Outcome:
    """What a process reports. Raises what went wrong there."""
    if pipe is None:
        return Outcome(case.fault, case.where, f"the process hangs: it is ended after {TIMEOUT_S:g} s")
    told = pipe.recv()
    if not isinstance(told, Outcome):
        raise RuntimeError(f"{case}: {told}")
    return told


def _report(play: Play, case: Case, pipe: Connection) -> None:
    # What is worth saying of the client's logs is in the outcome.
    logging.getLogger().addHandler(logging.NullHandler())
    warnings.simplefilter("ignore")
    try:
        pipe.send(play(case))
    except Exception as error:  # noqa: BLE001 - the process that waits tells it
        pipe.send(repr(error))
