"""Clients in other languages, of a socket and nothing else: they stream through the relay and are refused by it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.desk import TIMEOUT_S, policy, running_desk, stream

FOLDER = Path(__file__).parent
RECORDS = 20_000
RECORD_BYTES = 56
Command = list[str]


def node(_: Path) -> Command:
    program = shutil.which("node")
    if program is None:
        pytest.skip("NOT TESTED: there is no node here")
    return [program, str(FOLDER / "live_client.mjs")]


def c(folder: Path) -> Command:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("NOT TESTED: there is no C compiler here")
    binary = folder / "live_client"
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra"]
    subprocess.run([compiler, *flags, "-o", binary, FOLDER / "live_client.c"], check=True)
    return [str(binary)]


LANGUAGES = pytest.mark.parametrize("language", [node, c])


def run(command: Command, port: int, key: str, symbols: str = "NQ.v.0") -> tuple[int, dict[str, Any]]:
    """Exit code and what it said."""
    arguments = ["127.0.0.1", str(port), key, "GLBX.MDP3", "mbo", "continuous", symbols, str(RECORDS)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@LANGUAGES
def test_it_streams_through_the_relay_and_is_booked(
    tmp_path: Path, language: Callable[[Path], Command]
) -> None:
    with running_desk(tmp_path, rate=0) as desk:
        code, said = run(language(tmp_path), desk.live_port, desk.token)
        assert code == 0, said
        assert said == {"records": RECORDS, "bytes": RECORDS * RECORD_BYTES, "version": 3}
        desk.close()
        assert sum(entry.size_bytes for entry in desk.entries()) == desk.sandbox.bill()["bytes"]


@LANGUAGES
def test_it_is_refused_at_the_logon_without_a_token(
    tmp_path: Path, language: Callable[[Path], Command]
) -> None:
    with running_desk(tmp_path) as desk:
        code, said = run(language(tmp_path), desk.live_port, desk.sandbox.key)
        assert code == 3
        assert said["refused"].startswith("budget-guard: not this guard's token")
        assert desk.sandbox.bill()["connections"] == []


@LANGUAGES
def test_it_is_told_in_a_record_why_a_subscription_is_refused(
    tmp_path: Path, language: Callable[[Path], Command]
) -> None:
    rules = policy(stream(), stream("es", symbols=("ES.v.0",)))
    with running_desk(tmp_path, rules) as desk:
        token = desk.gateway.host.token("es")
        code, said = run(language(tmp_path), desk.live_port, token)
        assert code == 4
        assert said["error"].startswith("budget-guard: not_covered")
        assert said["records"] == 0
