"""`budget_guard.Live` and `budget_guard.Historical` in programs of their own, before a sandbox."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

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
    results.put([bought(budget_guard.Historical(policy="policy.yaml")), gateway.host.live_port])

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
    holds = len(mine.opened.ledger.open_holds())
    again = received(budget_guard.Live(policy="policy.yaml"))
    print(json.dumps([size, port != mine.host.live_port, child.exitcode, holds, first, again]))
"""
    size, apart, exit_code, holds, first, again = printed(rehearsal.python(code))
    assert size > 0
    assert apart
    assert (exit_code, holds) == (0, 1)
    assert min(first, again) >= 100
    assert rehearsal.open_holds() == []
    assert sorted(entry.mode for entry in rehearsal.entries()) == ["historical", "live", "live"]
