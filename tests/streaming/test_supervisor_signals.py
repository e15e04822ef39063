"""What a supervisor hears: signals reach the child, and never end the guard before it has settled."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from budget_guard.streaming.child import Child
from budget_guard.streaming.supervisor_signals import Interrupted, Signals

TIMEOUT_S = 20.0
PYTHON = [sys.executable, "-S", "-c"]


def test_handlers_are_put_back() -> None:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGCHLD, signal.SIGTSTP, signal.SIGCONT)
    before = [signal.getsignal(number) for number in numbers]
    with Signals().heard():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert [signal.getsignal(number) for number in numbers] == before


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """Under nohup a hang-up ends neither this process nor the program."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals().heard():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            code = "import signal; raise SystemExit(3 if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else 4)"
            assert Child([*PYTHON, code], os.environ).wait(TIMEOUT_S) == 3
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_after_the_program_has_ended_is_kept_from_this_process() -> None:
    signals = Signals()
    with signals.heard():
        child = Child([*PYTHON, ""], os.environ)
        signals.attach(child)
        assert child.wait(TIMEOUT_S) == 0
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)
    assert signals.asked == signal.SIGTERM


def test_a_signal_that_asks_for_nothing_waits_for_the_program() -> None:
    signals = Signals()
    with signals.heard():
        os.kill(os.getpid(), signal.SIGUSR1)
        child = Child(["sleep", "600"], os.environ)
        signals.attach(child)
        assert child.wait(TIMEOUT_S) == 128 + signal.SIGUSR1
    assert signals.asked is None


# In the same session, under a parent of another group: a group that is not orphaned. It says when it has one.
LEADS_ITS_GROUP = """
import os, sys
os.setpgid(0, 0)
with open(sys.argv[1], "w") as ready:
    ready.write("ready")
os.execvp("sleep", ["sleep", "600"])
"""


def test_a_wait_is_over_when_a_child_ends() -> None:
    signals = Signals()
    with signals.heard():
        child = Child(["true"], os.environ)
        deadline_s = time.monotonic() + TIMEOUT_S
        while child.code is None and time.monotonic() < deadline_s:
            signals.wait(TIMEOUT_S)
        assert child.code == 0
        assert time.monotonic() < deadline_s


def test_a_request_to_end_interrupts_what_no_child_hears_of() -> None:
    signals = Signals()

    def take_long() -> None:
        with signals.raising():
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("nobody was interrupted")

    def begin_anew() -> None:
        with signals.raising():
            raise AssertionError("the end had been asked for")

    with signals.heard():
        with pytest.raises(Interrupted):
            take_long()
        with pytest.raises(Interrupted):
            begin_anew()
    assert signals.asked == signal.SIGTERM


@pytest.mark.parametrize(
    ("numbers", "insisted"),
    [
        ([signal.SIGINT], False),
        ([signal.SIGTERM], False),
        ([signal.SIGTERM, signal.SIGTERM], False),
        ([signal.SIGINT, signal.SIGINT], True),
        ([signal.SIGTERM, signal.SIGINT], True),
    ],
)
def test_ctrl_c_after_a_request_to_end_insists(numbers: list[int], insisted: bool) -> None:
    signals = Signals()
    with signals.heard():
        for number in numbers:
            os.kill(os.getpid(), number)
    assert signals.insisted is insisted


def test_a_stop_reaches_the_program_and_so_does_its_end(tmp_path: Path) -> None:
    """Ctrl-Z where no terminal sends it: `kill -TSTP`. An orphaned group does not stop: the program leads one."""
    signals = Signals()
    told: list[str] = []
    signals.before_pause = lambda: told.append("tidy")
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    with signals.heard():
        child = Child([sys.executable, "-c", LEADS_ITS_GROUP, str(ready)], os.environ)
        assert ready.read_text() == "ready"
        signals.attach(child)
        signals._hand_on(signal.SIGTSTP)
        _, status = os.waitpid(child.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        os.kill(os.getpid(), signal.SIGCONT)
        _, status = os.waitpid(child.pid, os.WCONTINUED)
        assert os.WIFCONTINUED(status)
        child.send(signal.SIGKILL)
        child.wait(TIMEOUT_S)
