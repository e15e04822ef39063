"""A real sandbox killed in mid-stream: its bill covers what the client received, or says by how much it may not."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from budget_guard.clock import SystemClock
from budget_guard.sandbox.billing.bill import read_bill
from tests.sandbox.bare_client import NQ_MBO, BareClient

COMMAND = [sys.executable, "-m", "budget_guard", "sandbox", "--live-port", "0", "--http-port", "0"]

# What the kernels of both sides can hold: the send buffer of at most 4 MiB, and a client that does not read here.
BUFFERS = 4 * 2**20 + 4 * 2**20
ONE_SEND = 256 * 1024


@contextmanager
def sandbox_at(path: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A sandbox that keeps its bill at a path, and what it says of itself."""
    command = [*COMMAND, "--format", "json", "--rate", "0", "--bill", str(path), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def receive(client: BareClient, size: int) -> int:
    """Read on until a size is reached or the connection is gone; returns what was read."""
    received = 0
    while received < size:
        try:
            part = client.socket.recv(1 << 16)
        except ConnectionResetError:
            break
        if not part:
            break
        received += len(part)
    return received


def stream_and_kill(path: Path, chance: random.Random) -> tuple[int, int]:
    """Kill a sandbox somewhere in its stream; (received at the kill, received in all), without the DBN header."""
    subscriptions = [NQ_MBO, "schema=trades|stype_in=parent|symbols=ES.FUT"][: chance.randint(1, 2)]
    with sandbox_at(path) as (process, facts):
        login = chance.choice(["", "|ts_out=1"])
        with BareClient(facts["live_port"], *subscriptions, key=facts["key"], login=login) as client:
            client.start()
            before = receive(client, chance.randrange(1, 24 * 2**20))
            process.kill()
            process.wait(timeout=20)
            return before, before + receive(client, 2**40)


@pytest.mark.parametrize("seed", range(3))
def test_the_bill_covers_what_was_received(seed: int, tmp_path: Path) -> None:
    """Bytes received are at most those billed and those said to be uncertain; the bill is ahead by buffers only."""
    path = tmp_path / "bill.json"
    _, received = stream_and_kill(path, random.Random(seed))
    whole = read_bill(path, SystemClock())
    assert received <= whole["bytes"] + whole["uncertain_bytes"]
    assert whole["bytes"] - received <= BUFFERS
    assert whole["uncertain_bytes"] <= ONE_SEND
    (line,) = whole["connections"]
    assert line["ended"] == "lost with the sandbox"


def test_the_next_sandbox_goes_on_with_it(tmp_path: Path) -> None:
    """Killed twice, three sandboxes keep one bill: nothing is forgotten, nothing counted twice."""
    path = tmp_path / "bill.json"
    chance = random.Random(7)
    received = sum(stream_and_kill(path, chance)[1] for _ in range(2))
    left = read_bill(path, SystemClock())
    with sandbox_at(path) as (process, facts):
        assert json.loads(path.read_text())["bytes"] == left["bytes"]
        with BareClient(facts["live_port"], NQ_MBO, key=facts["key"]) as client:
            client.start()
            received += receive(client, 100_000)
            process.terminate()
            received += receive(client, 2**40)
        _, said = process.communicate(timeout=20)
    whole = json.loads(path.read_text())
    assert [line["id"] for line in whole["connections"]] == [1, 2, 3]
    assert whole["connections"][2]["ended"] == "closed by the sandbox"
    assert received <= whole["bytes"] + whole["uncertain_bytes"]
    assert whole["bytes"] - received <= 2 * BUFFERS
    assert "GLBX.MDP3" in said


def test_a_second_sandbox_is_refused_the_bill(tmp_path: Path) -> None:
    """It says why, and the first goes on."""
    path = tmp_path / "bill.json"
    with sandbox_at(path):
        second = subprocess.run(
            [*COMMAND, "--bill", str(path)], capture_output=True, text=True, check=False, timeout=60
        )
        assert second.returncode == 1
        assert "another sandbox keeps this bill" in second.stderr
