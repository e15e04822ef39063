"""The program under `run`: the key is nowhere within its reach, and it hears every signal."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from budget_guard.streaming.child import HOOK_DIR, Child, Forwarding, child_environment, without_key

KEY = "db-realKEYrealKEYrealKEYrealKEY1"
TIMEOUT_S = 20.0
TOKEN = "db-tokenTOKENtokenTOKENtokenTOK2"


class Gateway:
    live_port = 13999
    http_url = "http://127.0.0.1:8999"

    def token(self, stream: str | None = None) -> str:
        return TOKEN if stream is None else TOKEN[:-1] + "3"


def environment(**given: str) -> dict[str, str]:
    return child_environment({"DATABENTO_API_KEY": KEY, **given}, Gateway(), None, key=KEY)


def test_the_token_stands_where_the_key_was_with_the_way_to_the_gateway() -> None:
    found = environment(HOME="/home/me")
    assert found == {
        "HOME": "/home/me",
        "DATABENTO_API_KEY": TOKEN,
        "BUDGET_GUARD_RELAY": "127.0.0.1:13999",
        "BUDGET_GUARD_HTTP": "http://127.0.0.1:8999",
        "PYTHONPATH": str(HOOK_DIR),
    }


def test_copies_of_the_key_in_other_variables_are_replaced_too() -> None:
    found = environment(MY_KEY=KEY, URL=f"https://{KEY}:@hist.databento.com", OTHER="db-other")
    assert KEY not in "\0".join(found.values())
    assert (found["MY_KEY"], found["URL"]) == (TOKEN, f"https://{TOKEN}:@hist.databento.com")
    assert found["OTHER"] == "db-other"


@pytest.mark.parametrize(
    ("url", "left"),
    [
        (
            "postgresql://me:se/c:ret@db:5432/ledger?sslmode=require",
            "postgresql://me@db:5432/ledger?sslmode=require",
        ),
        ("postgresql+psycopg://me:secret@db/ledger", "postgresql+psycopg://me@db/ledger"),
        (
            "postgresql://db/ledger?user=me&password=secret&sslmode=require",
            "postgresql://db/ledger?user=me&sslmode=require",
        ),
        ("postgresql:///ledger?password=secret", "postgresql:///ledger"),
        ("postgresql://me@db/ledger", "postgresql://me@db/ledger"),
        ("sqlite:////home/me/ledger.sqlite", "sqlite:////home/me/ledger.sqlite"),
    ],
)
def test_the_ledgers_password_is_not_the_programs(url: str, left: str) -> None:
    assert environment(BUDGET_GUARD_LEDGER=url)["BUDGET_GUARD_LEDGER"] == left


def test_a_program_bound_to_a_stream_has_that_streams_token() -> None:
    found = child_environment({}, Gateway(), "nq", key=KEY)
    assert found["DATABENTO_API_KEY"] == TOKEN[:-1] + "3"


def test_the_path_of_the_program_is_kept_behind_the_hook() -> None:
    assert environment(PYTHONPATH="/a:/b")["PYTHONPATH"] == f"{HOOK_DIR}:/a:/b"
    assert environment(PYTHONPATH="")["PYTHONPATH"] == str(HOOK_DIR)


@pytest.mark.parametrize("key", ["", "a", "/usr"])
def test_a_text_too_short_to_be_a_key_is_not_looked_for(key: str) -> None:
    assert without_key("/usr/bin:/bin a", key, TOKEN) == "/usr/bin:/bin a"


# --- running one ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("raise SystemExit(0)", 0),
        ("raise SystemExit(7)", 7),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", 139),
    ],
)
def test_the_programs_own_code_comes_back_and_128_more_than_a_signal(code: str, expected: int) -> None:
    assert Child([sys.executable, "-S", "-c", code], os.environ).wait(TIMEOUT_S) == expected


def test_a_program_that_is_not_there_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Child([str(tmp_path / "none")], os.environ)


def test_a_signal_to_a_program_that_leads_a_group_reaches_the_whole_group(tmp_path: Path) -> None:
    """A shell with job control, say: the programs that it has started must not be left behind."""
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    code = (
        "import os, signal, subprocess, sys\n"
        "os.setpgid(0, 0)\n"
        f"inner = subprocess.Popen(['sh', '-c', 'echo x > {ready}; exec sleep 600'])\n"
        "signal.signal(signal.SIGTERM, lambda *_: None)\n"
        "sys.exit(128 - inner.wait())"
    )
    child = Child([sys.executable, "-S", "-c", code], os.environ)
    assert ready.read_text() == "x\n"
    assert child.leads_group
    child.send(signal.SIGTERM)
    assert child.wait(TIMEOUT_S) == 128 + signal.SIGTERM


def test_a_signal_to_a_program_that_leads_no_group_is_for_it_alone(tmp_path: Path) -> None:
    child = Child([sys.executable, "-S", "-c", "import signal; signal.pause()"], os.environ)
    assert not child.leads_group
    child.send(signal.SIGKILL)
    assert child.wait(TIMEOUT_S) == 137
    child.send(signal.SIGTERM)  # and nothing is sent to one that has ended


ORPHAN = """
import os, sys
from budget_guard.streaming.child import Child
child = Child(["sh", "-c", "echo here; exec sleep 600"], os.environ)
os.write(1, f"{child.pid}\\n".encode())  # in one piece: the program writes to the same pipe
child.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's own")
def test_a_program_does_not_outlive_a_guard_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True) as guard:
        assert guard.stdout is not None
        try:
            said = {guard.stdout.readline().strip(), guard.stdout.readline().strip()}
            (pid,) = (int(text) for text in said if text.isdigit())
            ended = os.pidfd_open(pid)
        finally:
            guard.kill()
        try:
            assert select.select([ended], [], [], TIMEOUT_S)[0], "it goes on"
        finally:
            os.close(ended)


# --- signals on their way -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT]
)
def test_a_signal_before_the_program_has_started_waits_for_it(number: signal.Signals) -> None:
    """And does not end this process, which has something to settle."""
    forwarding = Forwarding()
    forwarding.hear(number, None)
    # Not `signal.pause`: a signal that comes just before it would be waited for in vain.
    code = "import time\nwhile True: time.sleep(0.05)"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", code], start_new_session=True, stderr=subprocess.DEVNULL
    ) as child:
        forwarding.attach(child)
        assert child.wait(TIMEOUT_S) in (-number, 1)


# --- the parent's own copy ------------------------------------------------------------------------------------

# As another user than root: what the parent was started with can be read by its child, until it is hidden.
SPY = """
import ctypes, os, sys
from budget_guard.streaming.child import hide_own_environment

def readable():
    child = os.fork()
    if child == 0:
        try:
            data = open(f"/proc/{os.getppid()}/environ", "rb").read()
            os._exit(1 if b"THE_KEY=" in data else 2)
        except PermissionError:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

if os.getuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # as a program that was never root
before = readable()
hide_own_environment()
print(before, readable())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/PID/environ and PR_SET_DUMPABLE are Linux's own")
def test_what_the_guard_was_started_with_cannot_be_read_by_its_child() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SPY],
        capture_output=True,
        text=True,
        env={**os.environ, "THE_KEY": KEY},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "0"]
