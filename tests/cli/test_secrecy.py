"""How far the key is out of reach, by trying: for other processes, other users, core dumps, and the program."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.otherwise import OTHER_USER, Ordinary, as_user, ordinary, rehearsal_of
from tests.cli.service import Service, serving
from tests.sandbox.bare_client import BareClient
from tests.streaming.rehearsal import TIMEOUT_S, Rehearsal

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="NOT TESTED: only Linux hides a process's memory"
)

# Tries everything there is to see of a process, and says what could be opened, and where the key was found.
LOOK = """
import ctypes, json, sys
pid, key = sys.argv[1], sys.argv[2].encode()
opened, found = [], []
for name in ("environ", "maps", "mem", "cmdline", "auxv", "io"):
    try:
        with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
            if name == "mem":
                file.seek(4096 * 1024)
                opened.append(name)
                continue
            said = file.read(1 << 20)
    except OSError:
        continue
    opened.append(name)
    if key in said:
        found.append(name)
libc = ctypes.CDLL(None, use_errno=True)
if libc.ptrace(16, int(pid), 0, 0) == 0:
    opened.append("ptrace")
print(json.dumps([opened, found]))
"""
# The same from within, for every process: what the program under `run` can find out.
LOOK_AROUND = """
import json, os, sys
key = bytes.fromhex(sys.argv[1])
seen, found = 0, []
for pid in filter(str.isdigit, os.listdir("/proc")):
    for name in ("environ", "cmdline"):
        try:
            said = open(f"/proc/{pid}/{name}", "rb").read()
        except OSError:
            continue
        seen += 1
        if key in said:
            found.append(f"{pid} {name}")
parent, refused = os.getppid(), []
for name in ("environ", "maps", "mem", "fd"):
    try:
        os.listdir(f"/proc/{parent}/fd") if name == "fd" else open(f"/proc/{parent}/{name}", "rb").close()
    except OSError:
        refused.append(name)
inherited = []
for fd in os.listdir("/proc/self/fd"):
    try:
        inherited.append(os.readlink(f"/proc/self/fd/{fd}")) if int(fd) > 2 else None
    except OSError:
        continue
print(json.dumps([seen, found, refused, inherited]))
"""


@pytest.fixture
def user() -> Ordinary:
    return ordinary()


@pytest.fixture
def service(user: Ordinary, rehearsal: Rehearsal) -> Iterator[Service]:
    """A gateway of an ordinary user, which would be allowed to dump core."""
    with rehearsal_of(user, rehearsal) as theirs:
        env = {**theirs.env(), **user.environment}
        with serving(theirs, env=env, python=user.python, **user.options) as service:
            yield service


def look(user: Ordinary, pid: int, key: str, uid: int | None = None) -> tuple[list[str], list[str]]:
    done = user.run(LOOK, str(pid), key, **({} if uid is None else as_user(uid)))
    assert done.returncode == 0, done.stderr
    opened, found = json.loads(done.stdout)
    return opened, found


def test_a_process_that_is_not_hidden_shows_its_key(user: Ordinary, rehearsal: Rehearsal) -> None:
    """What the other tests try does work where nothing is done against it."""
    key = rehearsal.sandbox.key
    environment = {"DATABENTO_API_KEY": key}
    with subprocess.Popen(["sleep", "60"], env=environment, cwd="/", **user.options) as plain:
        try:
            opened, found = look(user, plain.pid, key)
        finally:
            plain.kill()
    assert "environ" in found
    assert {"environ", "maps", "mem"} <= set(opened)


def test_another_process_of_the_same_user_sees_nothing_of_a_gateway(
    user: Ordinary, rehearsal: Rehearsal, service: Service
) -> None:
    opened, found = look(user, service.process.pid, rehearsal.sandbox.key)
    assert opened == ["cmdline"]
    assert found == []


def test_another_user_sees_nothing_of_a_gateway(
    user: Ordinary, rehearsal: Rehearsal, service: Service
) -> None:
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: only root can become another user")
    opened, found = look(user, service.process.pid, rehearsal.sandbox.key, OTHER_USER)
    assert opened == ["cmdline"]
    assert found == []


def test_a_gateway_dumps_no_core(user: Ordinary, rehearsal: Rehearsal) -> None:
    with rehearsal_of(user, rehearsal) as theirs:
        env = {**theirs.env(), **user.environment}
        with serving(theirs, env=env, python=user.python, **user.options) as service:
            limits = Path(f"/proc/{service.process.pid}/limits").read_text(encoding="ascii").splitlines()
            (core,) = [line.split() for line in limits if line.startswith("Max core file size")]
            assert core[4] == "0"
            service.process.send_signal(signal.SIGABRT)
            service.process.wait(TIMEOUT_S)
        assert service.process.returncode == -signal.SIGABRT
        assert list(theirs.folder.rglob("core*")) == []


# Connects as another user would, without a token, and prints what it is told at both doors.
STRANGER = """
import socket, sys, urllib.error, urllib.request
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20) as peer:
    lines = peer.makefile("rb")
    lines.readline(), lines.readline()
    peer.sendall(b"auth=" + b"0" * 64 + b"-abcde|dataset=GLBX.MDP3|encoding=dbn\\n")
    print(lines.readline().decode().strip())
try:
    urllib.request.urlopen(sys.argv[2] + "/v0/metadata.list_datasets", timeout=20)
except urllib.error.HTTPError as error:
    print(error.code)
"""


def test_another_user_of_this_machine_cannot_use_the_relay_without_a_token(
    user: Ordinary, service: Service
) -> None:
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: only root can become another user")
    done = user.run(STRANGER, str(service.live_port), service.http_url, **as_user(OTHER_USER))
    told, status = done.stdout.splitlines()
    assert told.startswith("success=0|error=budget-guard: not this guard's token")
    assert status == "401"


def test_the_relay_says_the_same_whatever_the_end_of_a_wrong_token(user: Ordinary, service: Service) -> None:
    """It does not tell who guesses the five letters that an answer shows."""
    said = set()
    for tail in ("abcde", "zzzzz"):
        client = BareClient(service.live_port, key="db-" + "x" * 24 + tail)
        said.add(client.reply)
        client.close()
    assert len(said) == 1


# --- the program under `run` --------------------------------------------------------------------------------


def test_the_program_under_run_finds_the_key_nowhere(user: Ordinary, rehearsal: Rehearsal) -> None:
    """Neither in its own environment nor in that of any process, nor can it look into the guard."""
    key = rehearsal.sandbox.key
    with rehearsal_of(user, rehearsal) as theirs:
        program = [user.python, "-I", "-S", "-c", LOOK_AROUND, key.encode().hex()]
        command = [user.python, "-m", "budget_guard", "run", str(theirs.policy), "--", *program]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env={**theirs.env(), **user.environment},
            cwd=theirs.folder,
            timeout=TIMEOUT_S,
            **user.options,
        )
        assert done.returncode == 0, done.stderr
        seen, found, refused, inherited = json.loads(done.stdout)
        assert seen > 2
        assert found == []
        assert refused == ["environ", "maps", "mem", "fd"]
        assert [path for path in inherited if "proc" not in path] == []


def test_history_is_refused_without_a_token_and_with_the_key_itself(
    rehearsal: Rehearsal, user: Ordinary, service: Service
) -> None:
    """The key is no token: a program that still has it does not get past the guard with it."""
    host, port = service.facts["host"], service.facts["http_port"]
    for given in ("", rehearsal.sandbox.key, "x" * 4000):
        basic = base64.b64encode(f"{given}:".encode())
        with socket.create_connection((host, port), TIMEOUT_S) as peer:
            peer.sendall(
                b"GET /v0/metadata.list_datasets HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                b"Authorization: Basic " + basic + b"\r\n\r\n"
            )
            assert peer.makefile("rb").readline().startswith(b"HTTP/1.1 401")
