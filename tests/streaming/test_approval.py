"""A person at a terminal says yes, or it is a no."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable

import pytest

# Asks in a session of its own on the terminal that is its stdin, and prints the answer to the pipe.
ASK = """
import sys
from datetime import UTC, datetime
from decimal import Decimal
from budget_guard.guard.quote import Quote
from budget_guard.pricing.model import DataRange, UnitPrice
from budget_guard.streaming import approval
approval.ANSWER_WITHIN_S = float(sys.argv[1])
start, end = datetime(2026, 11, 20, 14, 30, tzinfo=UTC), datetime(2026, 11, 20, 15, 30, tzinfo=UTC)
wanted = DataRange("GLBX.MDP3", "mbo", ("NQ.v.0",), "continuous", start, end)
quote = Quote(wanted, 2**30, UnitPrice(Decimal("1.80"), "vendor", ""), Decimal("1.80"))
print(approval.ask_on_terminal(quote), flush=True)
"""
# Takes the terminal that is its stdin as its own, as a shell's child has it, then asks.
ON_TERMINAL = "import fcntl, os, sys, termios\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\n" + ASK


def asked(
    answer: bytes | Callable[[int], None], *, within_s: str = "20", code: str = ON_TERMINAL
) -> tuple[str, str]:
    """What was decided, and what the terminal showed, when `answer` is typed at the question."""
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, "-c", code, within_s],
            stdin=theirs,
            stdout=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            shown = _shown_until(ours, b"[y/N]", process)
            if isinstance(answer, bytes):
                os.write(ours, answer)
            else:
                answer(ours)
            assert process.stdout is not None
            decided = process.stdout.read().decode().strip()
        shown += _rest(ours)
        return decided, shown.decode()
    finally:
        os.close(ours)
        os.close(theirs)


def _shown_until(terminal: int, text: bytes, process: subprocess.Popen[bytes]) -> bytes:
    """What a terminal shows up to a text, or until the process has answered without asking."""
    assert process.stdout is not None
    shown = b""
    while text not in shown:
        readable, _, _ = select.select([terminal, process.stdout.fileno()], [], [], 30)
        if terminal not in readable:
            return shown
        shown += os.read(terminal, 4096)
    return shown


def _rest(terminal: int) -> bytes:
    shown = b""
    while select.select([terminal], [], [], 0)[0]:
        shown += os.read(terminal, 4096)
    return shown


@pytest.mark.parametrize("answer", [b"y\n", b"Y\n", b"yes\n", b" YES \n"])
def test_yes_is_a_yes(answer: bytes) -> None:
    decided, shown = asked(answer)
    assert decided == "True"
    assert "mbo of GLBX.MDP3, 2026-11-20 14:30 to 2026-11-20 15:30 UTC, is 1.00 GiB for $1.80." in shown


@pytest.mark.parametrize("answer", [b"n\n", b"\n", b"yep\n", b"no\n", b"\x04"])
def test_anything_else_is_a_no(answer: bytes) -> None:
    assert asked(answer)[0] == "False"


def test_no_answer_in_time_is_a_no() -> None:
    decided, shown = asked(b"", within_s="0.05")
    assert decided == "False"
    assert "no answer: not bought" in shown


def test_what_was_typed_before_the_question_is_no_answer() -> None:
    early = "import os\nos.write(1, b'')\n"
    ours, theirs = pty.openpty()
    try:
        os.write(ours, b"y\ny\n")
        with subprocess.Popen(
            [sys.executable, "-c", early + ON_TERMINAL, "0.05"],
            stdin=theirs,
            stdout=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.read().strip() == b"False"
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_program_in_the_background_is_not_asked() -> None:
    """Reading the terminal there would stop it, and with it the connections that it guards."""
    background = ON_TERMINAL.replace(
        "\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\n",
        "\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "child = os.fork()\n"
        "if child:\n    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "os.setpgid(0, 0)\n",
    )
    assert asked(b"y\n", code=background)[0] == "False"


def test_without_a_terminal_it_is_a_no() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASK, "20"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "False"
