"""The program under `run`: the key is nowhere within its reach, and it hears every signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from budget_guard.streaming.child import (
    HOOK_DIR,
    Forwarding,
    child_environment,
    forwarded_signals,
    run_child,
    without_key,
)

KEY = "db-realKEYrealKEYrealKEYrealKEY1"
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


# --- signals --------------------------------------------------------------------------------------------------

READY = "import signal, sys, time\nprint('ready', flush=True)\n"


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
    with forwarded_signals() as signals:
        assert run_child([sys.executable, "-S", "-c", code], os.environ, signals) == expected


def test_a_program_that_is_not_there_cannot_be_started(tmp_path: Path) -> None:
    with forwarded_signals() as signals, pytest.raises(FileNotFoundError):
        run_child([str(tmp_path / "none")], os.environ, signals)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT]
)
def test_a_signal_before_the_program_has_started_waits_for_it(number: signal.Signals) -> None:
    """And does not end this process, which has something to settle."""
    forwarding = Forwarding()
    forwarding.hear(number, None)
    code = "import signal, sys\nsignal.pause()"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", code], start_new_session=True, stderr=subprocess.DEVNULL
    ) as child:
        forwarding.attach(child)
        assert child.wait(20) in (-number, 1)


def test_handlers_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    with forwarded_signals():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)] == before


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """Under nohup a hang-up ends neither this process nor the program."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with forwarded_signals() as signals:
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            code = "import signal; raise SystemExit(3 if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else 4)"
            assert run_child([sys.executable, "-S", "-c", code], os.environ, signals) == 3
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_after_the_program_has_ended_is_kept_from_this_process() -> None:
    with forwarded_signals() as signals:
        assert run_child([sys.executable, "-S", "-c", ""], os.environ, signals) == 0
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)


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
