"""`budget_guard.Live` and `budget_guard.Historical` in programs of their own, before a sandbox."""

from __future__ import annotations

import inspect
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import databento
import pytest

import budget_guard
from tests.streaming.rehearsal import POLICY, Rehearsal, rehearsing

# What the programs below have in common: a client that has received some records, and a request that is cheap.
PRELUDE = """
import json, os, sys, threading
import budget_guard

def received(client, records=100):
    enough, seen = threading.Event(), []
    def take(record):
        seen.append(record)
        if len(seen) >= records:
            enough.set()
    client.add_callback(take)
    client.subscribe("GLBX.MDP3", "mbo", "NQ.v.0", stype_in="continuous")
    client.start()
    assert enough.wait(30), f"only {len(seen)} records"
    return len(seen)

def bought(client):
    return client.timeseries.get_range(
        dataset="GLBX.MDP3", schema="mbo", symbols="NQ.v.0", stype_in="continuous",
        start="2026-11-20T15:00", end="2026-11-20T15:01",
    ).to_ndarray().size

def kind(error):
    return [type(error).__name__, str(error)]

def open_holds():
    from budget_guard.ledger.store import open_ledger
    ledger = open_ledger(os.environ["BUDGET_GUARD_LEDGER"])
    try:
        return sum(hold.terms.mode == "live" for hold in ledger.open_holds())
    finally:
        ledger.close()
"""


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    with rehearsing(tmp_path_factory.mktemp("vendor"), rate=5000) as rehearsal:
        yield rehearsal


@pytest.fixture
def rehearsal(vendor: Rehearsal, tmp_path: Path) -> Rehearsal:
    """A folder of its own before the module's sandbox."""
    folder = tmp_path / "desk"
    folder.mkdir()
    fresh = replace(vendor, folder=folder)
    fresh.policy.write_text(POLICY.replace(", approve_above: 0 USD", ""))
    return fresh


def printed(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_clients_of_one_policy_share_a_gateway_and_everything_is_settled_at_exit(
    rehearsal: Rehearsal,
) -> None:
    """However the policy is named; the connections are still open when the program ends."""
    code = f"""{PRELUDE}
from budget_guard.streaming.mounts import gateway_for
os.chdir({str(rehearsal.folder.parent)!r})
policy = budget_guard.load_policy("desk/policy.yaml")
clients = [
    budget_guard.Live(policy="desk/policy.yaml"),
    budget_guard.Live(policy={str(rehearsal.policy)!r}, stream="nq"),
    budget_guard.Live(policy=policy),
]
counts = [received(client) for client in clients]
size = bought(budget_guard.Historical(policy=policy, stream="nq"))
threads = [thread.name for thread in threading.enumerate()]
print(json.dumps([counts, size, len({{client.port for client in clients}}), threads.count("budget-guard")]))
"""
    counts, size, ports, gateways = printed(rehearsal.python(code))
    assert min(counts) >= 100
    assert size > 0
    assert (ports, gateways) == (1, 1)
    assert rehearsal.open_holds() == []
    entries = rehearsal.entries()
    assert sorted((entry.mode, entry.stream) for entry in entries) == [
        ("historical", "nq"),
        *[("live", "nq")] * 3,
    ]
    assert {entry.ending for entry in entries} == {"exact"}
    assert list((rehearsal.folder / "data").rglob("*.meter")) == []


def test_a_program_that_fails_is_settled_too(rehearsal: Rehearsal) -> None:
    code = f"{PRELUDE}\nreceived(budget_guard.Live(policy='policy.yaml'))\nraise RuntimeError('mine')"
    done = rehearsal.python(code)
    assert done.returncode == 1
    assert "RuntimeError: mine" in done.stderr
    assert rehearsal.open_holds() == []
    assert len(rehearsal.entries()) == 1


def test_a_policy_that_was_changed_in_the_program_has_a_gateway_of_its_own(rehearsal: Rehearsal) -> None:
    """A stricter budget must not be served by the gateway of the laxer one that came from the same file."""
    code = f"""{PRELUDE}
from dataclasses import replace
from decimal import Decimal
lax = budget_guard.load_policy("policy.yaml")
strict = replace(lax, historical=replace(lax.historical, max_request_usd=Decimal("0.0000001")))
size = bought(budget_guard.Historical(policy=lax))
try:
    bought(budget_guard.Historical(policy=strict))
except Exception as error:
    print(json.dumps([size, *kind(error)]))
"""
    size, name, text = printed(rehearsal.python(code))
    assert size > 0
    assert name == "BentoClientError"
    assert "would_exceed" in text
    assert "historical.max_request" in text


def test_what_cannot_be_guarded_is_said_when_the_client_is_made(rehearsal: Rehearsal) -> None:
    (rehearsal.folder / "bad.yaml").write_text("version: 1\nname: bad\n")
    code = f"""{PRELUDE}
from dataclasses import replace
said = []
def attempt(**options):
    try:
        budget_guard.Live(**options)
    except Exception as error:
        said.append(kind(error))
attempt(policy="policy.yaml", stream="none")
attempt(policy="bad.yaml")
attempt(policy="missing.yaml")
attempt(policy="policy.yaml", key="db-mine")
del os.environ["DATABENTO_API_KEY"]
attempt(policy=replace(budget_guard.load_policy("policy.yaml"), name="other"))
print(json.dumps(said))
"""
    unknown, bad, missing, key, no_key = printed(rehearsal.python(code))
    assert unknown[0] == "PolicyError"
    assert "no stream 'none'; the policy has nq" in unknown[1]
    assert bad[0] == "PolicyError"
    assert "bad.yaml:1:1: " in bad[1]
    assert missing[0] == "PolicyError"
    assert "missing.yaml:1:1: " in missing[1]
    assert key[0] == "TypeError"
    assert no_key == ["KeyRejected", no_key[1]]
    assert "DATABENTO_API_KEY is not set" in no_key[1]


def test_a_refusal_reaches_the_program_as_the_clients_own_error(rehearsal: Rehearsal) -> None:
    code = f"""{PRELUDE}
import databento
client = budget_guard.Live(policy="policy.yaml")
client.subscribe("GLBX.MDP3", "trades", "NQ.v.0", stype_in="continuous")
client.start()
try:
    client.block_for_close(timeout=30)
except databento.BentoError as error:
    print(json.dumps(kind(error)))
"""
    name, text = printed(rehearsal.python(code))
    assert name == "BentoError"
    assert "budget-guard: not_covered" in text
    assert "it is for schema mbo" in text


def test_a_forked_child_has_a_gateway_of_its_own_and_leaves_its_parents_alone(rehearsal: Rehearsal) -> None:
    """Nor does it settle what the parent still streams; each settles its own when it ends."""
    code = f"""{PRELUDE}
import multiprocessing, warnings
from budget_guard.streaming.mounts import gateway_for

def buy(results):
    gateway = gateway_for("policy.yaml")
    results.put([bought(budget_guard.Historical(policy="policy.yaml")), gateway.live_port])

if __name__ == "__main__":
    warnings.simplefilter("ignore")  # a fork beside threads: what this is about
    mine = gateway_for("policy.yaml")
    first = received(budget_guard.Live(policy="policy.yaml"))
    fork = multiprocessing.get_context("fork")
    results = fork.Queue()
    child = fork.Process(target=buy, args=(results,))
    child.start()
    size, port = results.get(timeout=40)
    child.join(40)
    holds = open_holds()
    again = received(budget_guard.Live(policy="policy.yaml"))
    print(json.dumps([size, port != mine.live_port, child.exitcode, holds, first, again]))
"""
    size, apart, exit_code, holds, first, again = printed(rehearsal.python(code))
    assert size > 0
    assert apart
    assert (exit_code, holds) == (0, 1)
    assert min(first, again) >= 100
    assert rehearsal.open_holds() == []
    assert sorted(entry.mode for entry in rehearsal.entries()) == ["historical", "live", "live"]


def await_end(pid: int) -> None:
    """Until a process that may be anybody's child has ended."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([process], [], [], 60)[0], f"process {pid} has not ended"
    finally:
        os.close(process)


# --- as the vendor's own ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("guarded", "own"),
    [(budget_guard.Live, databento.Live), (budget_guard.Historical, databento.Historical)],
    ids=["Live", "Historical"],
)
def test_every_parameter_of_the_vendors_client_but_key_and_gateway_is_there(guarded: Any, own: Any) -> None:
    """With its default; what connects to the guard is the guard's."""
    ours = inspect.signature(guarded).parameters
    theirs = inspect.signature(own).parameters
    expected = {name: one.default for name, one in theirs.items() if name not in ("key", "gateway", "port")}
    assert {name: one.default for name, one in ours.items() if name not in ("policy", "stream")} == expected
    documented = inspect.getdoc(guarded)
    assert documented is not None and all(name in documented for name in ours)


def test_the_clients_options_reach_it(rehearsal: Rehearsal) -> None:
    """Compressed, stamped when sent, on an event loop of the program's own."""
    code = f"""{PRELUDE}
import asyncio, databento
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
client = budget_guard.Live(
    policy="policy.yaml", stream="nq", ts_out=True, heartbeat_interval_s=7, reconnect_policy="reconnect",
    slow_reader_behavior="warn", compression=databento.Compression.ZSTD, loop=loop,
)
stamped = []
client.add_callback(lambda record: stamped.append(getattr(record, "ts_out", None)))
count = received(client)
client.stop()
print(json.dumps([count, stamped[-1] is not None, client._session.heartbeat_interval_s]))
"""
    count, stamped, heartbeat = printed(rehearsal.python(code))
    assert (count >= 100, stamped, heartbeat) == (True, True, 7)


# --- programs of every kind -------------------------------------------------------------------------------------


def test_asyncio_programs_iterate_and_download_while_their_loop_runs_on(rehearsal: Rehearsal) -> None:
    """As in a notebook, whose own loop runs in the main thread while cells are run."""
    code = f"""{PRELUDE}
import asyncio
async def main():
    client = budget_guard.Live(policy="policy.yaml")
    client.subscribe("GLBX.MDP3", "mbo", "NQ.v.0", stype_in="continuous")
    count = 0
    async for record in client:
        count += 1
        if count == 100:
            break
    client.stop()
    await client.wait_for_close()
    store = await budget_guard.Historical(policy="policy.yaml").timeseries.get_range_async(
        dataset="GLBX.MDP3", schema="mbo", symbols="NQ.v.0", stype_in="continuous",
        start="2026-11-20T15:00", end="2026-11-20T15:01",
    )
    return [count, store.to_ndarray().size]
print(json.dumps(asyncio.run(main())))
"""
    count, size = printed(rehearsal.python(code))
    assert count == 100
    assert size > 0
    assert rehearsal.open_holds() == []


TWO_STREAMS = POLICY.replace(
    "historical:",
    """\
  es:
    dataset: GLBX.MDP3
    schema: trades
    symbols: [ES.v.0]
    stype_in: continuous
    windows: {session: regular}
historical:""",
)


def test_streams_and_policies_of_one_process_each_keep_to_their_own(rehearsal: Rehearsal) -> None:
    (rehearsal.folder / "two.yaml").write_text(TWO_STREAMS)
    code = f"""{PRELUDE}
clients = [budget_guard.Live(policy="two.yaml", stream="nq"), budget_guard.Live(policy="policy.yaml")]
counts = [received(client) for client in clients]
other = budget_guard.Live(policy="two.yaml", stream="es")
other.subscribe("GLBX.MDP3", "mbo", "NQ.v.0", stype_in="continuous")
other.start()
try:
    other.block_for_close(timeout=30)
except Exception as error:
    print(json.dumps([counts, clients[0].port != clients[1].port, str(error)]))
"""
    counts, apart, text = printed(rehearsal.python(code))
    assert min(counts) >= 100
    assert apart
    assert "budget-guard: not_covered" in text
    assert [entry.stream for entry in rehearsal.entries()] == ["nq", "nq"]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_of_multiprocessing_stream_too_and_are_settled_when_they_end(
    rehearsal: Rehearsal, method: str
) -> None:
    """Beside a parent that streams. A fork has the parent's modules, and none of its threads."""
    (rehearsal.folder / "program.py").write_text(
        f"""{PRELUDE}
import multiprocessing, warnings

def stream(results):
    results.put(received(budget_guard.Live(policy="policy.yaml")))

if __name__ == "__main__":
    warnings.simplefilter("ignore")  # a fork beside threads: what this is about
    first = received(budget_guard.Live(policy="policy.yaml"))
    context = multiprocessing.get_context({method!r})
    results = context.Queue()
    child = context.Process(target=stream, args=(results,))
    child.start()
    count = results.get(timeout=50)
    child.join(50)
    print(json.dumps([first, count, child.exitcode, open_holds()]))
"""
    )
    first, count, exit_code, holds = printed(
        rehearsal.python("import runpy; runpy.run_path('program.py', run_name='__main__')")
    )
    assert min(first, count) >= 100
    assert (exit_code, holds) == (0, 1)
    assert [entry.ending for entry in rehearsal.entries()] == ["exact", "exact"]


def test_a_thread_that_streams_on_after_the_main_one_has_ended_is_served_to_its_end(
    rehearsal: Rehearsal,
) -> None:
    code = f"""{PRELUDE}
def later():
    threading.main_thread().join()
    print(json.dumps(received(budget_guard.Live(policy="policy.yaml"))))
mine = budget_guard.Live(policy="policy.yaml")
threading.Thread(target=later).start()
"""
    assert printed(rehearsal.python(code)) >= 100
    assert rehearsal.open_holds() == []


def test_behind_run_a_policy_of_the_programs_own_is_refused_with_the_reason(rehearsal: Rehearsal) -> None:
    code = f"{PRELUDE}\nbudget_guard.Live(policy='policy.yaml')"
    done = rehearsal.python(code, env=rehearsal.env(BUDGET_GUARD_RELAY="127.0.0.1:1"))
    assert "SettingsError: this program runs behind `budget-guard run` already" in done.stderr


# --- ends -------------------------------------------------------------------------------------------------------

STREAMS_AND_WAITS = f"""{PRELUDE}
from budget_guard.streaming.mounts import gateway_for
received(budget_guard.Live(policy="policy.yaml"))
print(gateway_for("policy.yaml").pid, flush=True)
"""


@pytest.mark.parametrize(
    "end",
    [
        "os.kill(os.getpid(), 9)",
        "os._exit(3)",
        # Its fork holds the program's end of the line, as one of a C library would, which runs none of Python's hooks.
        "os.register_at_fork = None\nimport ctypes\nif ctypes.CDLL(None).fork() == 0:\n    sys.stdin.read()\n"
        "else:\n    os._exit(3)",
    ],
    ids=["killed", "left without a word", "outlived by a fork"],
)
def test_a_program_that_cannot_say_goodbye_is_settled_exactly(rehearsal: Rehearsal, end: str) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", STREAMS_AND_WAITS + end],
        env=rehearsal.env(),
        cwd=rehearsal.folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with program:
        assert program.stdout is not None
        gateway = int(program.stdout.readline())
        await_end(gateway)
    assert rehearsal.open_holds() == []
    assert [entry.ending for entry in rehearsal.entries()] == ["exact"]
    assert list((rehearsal.folder / "data").rglob("*.meter")) == []


def test_a_gateway_that_was_killed_is_said_and_the_next_client_opens_another(rehearsal: Rehearsal) -> None:
    code = f"""{PRELUDE}
import logging
from budget_guard.streaming.mounts import gateway_for
said = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
logging.getLogger("budget_guard").addHandler(handler)
client = budget_guard.Live(policy="policy.yaml")
received(client)
gateway = gateway_for("policy.yaml")
os.kill(gateway.pid, 9)
gateway._listener.join(30)
count = received(budget_guard.Live(policy="policy.yaml"))
print(json.dumps([said, count, open_holds()]))
"""
    said, count, holds = printed(rehearsal.python(code))
    assert any("has ended unexpectedly" in text for text in said)
    # What the next one finds and books is said in the program's own log.
    assert any("settled" in text or "booked" in text for text in said[1:]), said
    assert (count >= 100, holds) == (True, 1)


def test_what_is_sent_to_the_whole_group_is_for_the_program_to_answer(rehearsal: Rehearsal) -> None:
    """Ctrl-C in a notebook or a terminal interrupts the program; what it streams goes on."""
    code = f"""{PRELUDE}
client = budget_guard.Live(policy="policy.yaml")
received(client)
import signal
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda *_: None)
    os.killpg(0, number)
more = threading.Semaphore(0)
client.add_callback(lambda record: more.release())
for _ in range(5000):
    assert more.acquire(timeout=30)
print(json.dumps(client.is_connected()))
"""
    assert printed(rehearsal.python(code, start_new_session=True))
    assert rehearsal.open_holds() == []


def test_the_gateways_process_shows_the_key_to_nobody(rehearsal: Rehearsal) -> None:
    """Neither on its command line nor in its environment, wherever the program has it."""
    code = f"""{PRELUDE}
from pathlib import Path
from budget_guard.streaming.mounts import gateway_for
place = Path(f"/proc/{{gateway_for('policy.yaml').pid}}")
print(json.dumps([(place / name).read_bytes().decode() for name in ("cmdline", "environ")]))
"""
    key = rehearsal.sandbox.key
    shown = printed(rehearsal.python(code, env=rehearsal.env(MY_URL=f"https://{key}@hist.databento.com")))
    assert "budget_guard.streaming.aside" in shown[0]
    assert "BUDGET_GUARD_NOW" in shown[1]
    assert all(key not in text for text in shown)
