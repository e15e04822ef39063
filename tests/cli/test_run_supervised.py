"""`budget-guard run` as a supervisor, for real: windows that close, signals, crashes, fallbacks, the live line."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.cli.test_run import ON_TERMINAL, PYTHON, REQUEST, STREAM, says
from tests.streaming.rehearsal import POLICY, TIMEOUT_S, Rehearsal, ready, rehearsing

# Eleven o'clock in New York is the close.
HOURS = POLICY.replace("windows: {session: regular}", 'windows: {hours: "10:00-11:00"}')
CLOSE = datetime(2026, 11, 23, 16, 0, tzinfo=UTC)
# Far enough before it for a slow machine to have the program running.
BEFORE_CLOSE = datetime(2026, 11, 23, 15, 59, 50, tzinfo=UTC)

# Not `signal.pause`: a signal that comes just before it would be waited for in vain.
ENDS_WELL = """
import os, signal, sys, time
def end(*_):
    os.write(1, b'ending\\n')
    sys.exit(9)
signal.signal(signal.SIGTERM, end)
while True: time.sleep(0.05)
"""
DEAF = """
import os, signal, time
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: os.write(1, b'heard\\n'))
print('ready', flush=True)
while True: time.sleep(0.05)
"""


# --- the close of a window ------------------------------------------------------------------------------------


def test_at_the_close_of_the_window_a_program_is_asked_to_end_and_its_code_is_its_own(
    rehearsal: Rehearsal,
) -> None:
    rehearsal.policy.write_text(HOURS)
    done = replace(rehearsal, now=BEFORE_CLOSE).run([*PYTHON, ENDS_WELL])
    assert (done.returncode, done.stdout) == (9, "ending\n"), says(done)
    assert "the window has closed: the program is ended" in done.stderr


def test_a_program_that_dies_of_that_has_not_failed(rehearsal: Rehearsal) -> None:
    rehearsal.policy.write_text(HOURS)
    done = replace(rehearsal, now=BEFORE_CLOSE).run(["sleep", "600"])
    assert done.returncode == 0, says(done)


def test_a_program_that_reads_its_stream_to_the_end_ends_by_itself(tmp_path: Path) -> None:
    """The guard closes the stream: there is time to write what was read, and no signal."""
    with rehearsing(tmp_path, HOURS) as rehearsal:
        late = replace(rehearsal, now=BEFORE_CLOSE)
        done = late.run([*PYTHON, STREAM + "\nprint('all written')"])
    assert done.returncode == 0, says(done)
    assert done.stdout.endswith("all written\n")
    assert "the window of stream nq closed at 2026-11-23T16:00:00Z" in done.stderr


# --- signals and deaths ---------------------------------------------------------------------------------------


def test_a_second_ctrl_c_kills_and_is_told_as_an_interruption(rehearsal: Rehearsal) -> None:
    with ready(rehearsal, [*PYTHON, DEAF]) as process:
        assert process.stdout is not None
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "heard\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
    assert "went through the guard" in errors


def test_after_sigterm_a_program_has_its_grace_and_is_killed(rehearsal: Rehearsal) -> None:
    with ready(rehearsal, [*PYTHON, DEAF], "--grace", "0.3") as process:
        assert process.stdout is not None
        process.terminate()
        assert process.stdout.readline() == "heard\n"
        process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 137


STREAMING = STREAM.replace("left = int", "print('ready', os.getpid(), flush=True)\nleft = int").replace(
    "print(lines.readline().decode().strip())", "lines.readline()"
)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's own")
def test_a_guard_that_is_killed_leaves_no_program_and_its_money_is_settled_at_the_next_start(
    tmp_path: Path,
) -> None:
    with rehearsing(tmp_path) as rehearsal:
        process = rehearsal.start([*PYTHON, STREAMING])
        assert process.stdout is not None
        _, pid = process.stdout.readline().split()
        rehearsal.sandbox.wait_for(lambda bill: bill["bytes"] > 10_000)
        ended = os.pidfd_open(int(pid))
        try:
            process.kill()
            process.communicate(timeout=TIMEOUT_S)
            assert select.select([ended], [], [], TIMEOUT_S)[0], "the program goes on"
        finally:
            os.close(ended)
        assert rehearsal.open_holds()
        status = rehearsal.guard("status", str(rehearsal.policy), "--format", "json")
        assert status.returncode == 0, status.stderr
        assert rehearsal.open_holds() == []
        booked = sum(entry.cost_nano_usd + entry.residual_nano_usd for entry in rehearsal.entries())
        billed = float(rehearsal.sandbox.bill()["cost_usd"]) * 1e9
        assert 0 < billed <= booked


def test_a_program_that_is_killed_is_settled_to_the_byte(rehearsal: Rehearsal) -> None:
    code = STREAM.replace("left -= len(data)", "os.kill(os.getpid(), 9)")
    done = rehearsal.run([*PYTHON, code])
    assert done.returncode == 137, says(done)
    (entry,) = rehearsal.entries()
    assert (entry.ending, entry.residual_bytes) == ("exact", 0)
    assert rehearsal.open_holds() == []


# --- crashes --------------------------------------------------------------------------------------------------


def test_a_crash_loop_that_buys_comes_to_its_end(rehearsal: Rehearsal) -> None:
    rehearsal.policy.write_text(POLICY.replace(", approve_above: 0 USD", ""))
    done = rehearsal.run([*PYTHON, f"{REQUEST}\nsys.exit(3)"], "--restart", "1")
    assert done.returncode == 3, says(done)
    assert len(rehearsal.entries()) == 2
    assert "the program was started twice, 1 of these after a crash" in done.stderr
    assert "after it was started again once in an hour: that is the limit" in done.stderr


def test_a_crash_loop_that_is_refused_ends_at_once(rehearsal: Rehearsal) -> None:
    done = rehearsal.run([*PYTHON, f"{REQUEST}\nsys.exit(3)", "schema=mbp-10"], "--restart", "5")
    assert done.returncode == 4, says(done)
    assert "the program was started once" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_CHILD_SUBREAPER is Linux's own")
def test_what_a_crashed_wrapper_left_running_is_ended_before_the_next_start(rehearsal: Rehearsal) -> None:
    wrapper = "sleep 600 > /dev/null 2>&1 & echo $!; exit 3"
    done = rehearsal.run(["sh", "-c", wrapper], "--restart", "1")
    assert done.returncode == 3, says(done)
    first, last = (int(text) for text in done.stdout.split())
    os.kill(last, signal.SIGKILL)
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    assert "a process was left behind by what ran before" in done.stderr


# --- fallbacks ------------------------------------------------------------------------------------------------

OTHER = [
    sys.executable, "-S", "-c",
    "import json, os; print(json.dumps(dict(os.environ)), flush=True)",
]  # fmt: skip


def with_fallback(policy: str, *commands: list[str]) -> str:
    rows = [{"name": f"other{number}", "run": command} for number, command in enumerate(commands)]
    return policy.replace("    windows:", f"    fallback: {json.dumps(rows)}\n    windows:")


def test_at_a_limit_the_fallback_runs_without_key_token_or_guard_and_the_code_stays_4(tmp_path: Path) -> None:
    policy = with_fallback(POLICY.replace("month: 200 USD", "month: 0.02 USD"), ["no-such-program"], OTHER)
    with rehearsing(tmp_path, policy, rate=400_000) as rehearsal:
        env = rehearsal.env(MY_COPY=rehearsal.sandbox.key)
        done = rehearsal.run([*PYTHON, STREAM], env=env)
        key = rehearsal.sandbox.key
    assert done.returncode == 4, says(done)
    environment = json.loads(done.stdout.splitlines()[-1])
    assert not [name for name in environment if name.startswith(("BUDGET_GUARD_", "DATABENTO"))]
    assert environment["MY_COPY"] == ""
    assert key not in done.stdout + done.stderr
    assert "the money is out (limit_reached: budget account has" in done.stderr
    assert "fallback other0 cannot be run: no-such-program" in done.stderr
    assert "instead of it ran: other1 once" in done.stderr


BOTH = STREAM.replace("start_session", "schema=trades|stype_in=continuous|symbols=NQ.v.0\\nstart_session")
TRADES = POLICY[POLICY.index("  nq:") : POLICY.index("historical:")].replace("nq:", "nq-trades:", 1)


def test_a_program_of_which_one_stream_is_cut_off_reads_the_other_to_its_end(tmp_path: Path) -> None:
    both = POLICY.replace("historical:", TRADES.replace("schema: mbo", "schema: trades") + "historical:")
    policy = with_fallback(both.replace("month: 200 USD", "month: 1 USD"), OTHER)
    with rehearsing(tmp_path, policy, rate=400_000) as rehearsal:
        done = rehearsal.run([*PYTHON, BOTH + "\nprint('all read', flush=True)"], "--grace", "0.1")
        ledger = rehearsal.entries()
    assert done.returncode == 4, says(done)
    assert done.stdout.index("all read") < done.stdout.index("{"), says(done)
    assert [entry.stream for entry in ledger].count("nq") >= 2, (
        "its connection was opened again without trades"
    )


def test_without_a_licence_the_fallback_runs_and_the_code_stays_5(tmp_path: Path) -> None:
    with rehearsing(
        tmp_path, with_fallback(POLICY, OTHER), live_entitlements=frozenset({"XNAS.ITCH"})
    ) as rehearsal:
        done = rehearsal.run([*PYTHON, STREAM])
    assert done.returncode == 5, says(done)
    assert "the vendor refuses (not_entitled: " in done.stderr
    assert "the vendor is asked again" in done.stderr


def test_with_a_wrong_key_the_fallback_runs_and_the_program_does_not(rehearsal: Rehearsal) -> None:
    rehearsal.policy.write_text(with_fallback(POLICY, OTHER))
    wrong = "db-a-wrong-key-of-32-characters"
    done = rehearsal.run([*PYTHON, "print('started')"], env=rehearsal.env(DATABENTO_API_KEY=wrong))
    assert done.returncode == 5, says(done)
    assert "started" not in done.stdout
    assert wrong not in done.stdout


def test_with_the_next_period_the_program_comes_back(tmp_path: Path) -> None:
    """The day ends at midnight in New York: what is out on Monday is back on Tuesday."""
    policy = with_fallback(
        POLICY.replace("month: 200 USD", "day: 0.02 USD").replace("{session: regular}", "always"),
        ["sh", "-c", "echo other; exec sleep 600"],
    )
    # The first run reads to its limit, the second is content with little.
    program = (
        "import os, sys\nfirst = not os.path.exists('ran')\nopen('ran', 'w').close()\n"
        "sys.argv = sys.argv[:1] if first else [sys.argv[0], '5000']\n" + STREAM
    )
    with rehearsing(tmp_path, policy, rate=400_000) as rehearsal:
        late = replace(rehearsal, now=datetime(2026, 11, 24, 4, 59, 48, tzinfo=UTC))
        done = late.run([*PYTHON, program])
    assert done.returncode == 0, says(done)
    assert done.stdout.split() == [*done.stdout.split()[:1], "other", *done.stdout.split()[-1:]]
    assert (
        "it is looked at again at 2026-11-24T05:00:00Z (Tue 2026-11-24 00:00 America/New_York)" in done.stderr
    )
    assert "the cause is over: fallback other0 is ended, and the program runs again" in done.stderr


# --- the terminal ---------------------------------------------------------------------------------------------


def on_terminal(rehearsal: Rehearsal, *options: str) -> tuple[str, str, int]:
    """What a terminal is given, what stdout, and the code: stderr and stdin are the terminal, stdout is a pipe."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    shown: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(ours, 4096):
                shown.append(data)
        except OSError:  # how Linux says that nobody has it open any more
            pass

    command = [sys.executable, "-m", "budget_guard", "run", str(rehearsal.policy), *options, "--"]
    process = subprocess.Popen(
        [*PYTHON, ON_TERMINAL, *command, *PYTHON, STREAM, "150000"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=rehearsal.env(TERM="xterm-256color"),
        start_new_session=True,
    )
    os.close(theirs)
    reader = threading.Thread(target=read)
    reader.start()
    try:
        out, _ = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
        reader.join(TIMEOUT_S)
        os.close(ours)
    return b"".join(shown).decode(), out.decode(), process.returncode


def test_on_a_terminal_a_line_says_what_is_left_and_stdout_is_the_programs(rehearsal: Rehearsal) -> None:
    shown, out, code = on_terminal(rehearsal)
    assert code == 0, shown
    assert "account month: $0" in shown
    assert "window closes in " in shown
    assert out.startswith("success=1")
    assert "\x1b" not in out
    # In the end the whole screen scrolls again, and the last row is empty.
    assert shown.rindex("\x1b[r") > shown.rindex("\x1b[1;23r")


def test_quiet_leaves_the_terminal_to_the_program(rehearsal: Rehearsal) -> None:
    shown, out, code = on_terminal(rehearsal, "--quiet")
    assert (code, out.startswith("success=1")) == (0, True), shown
    assert "\x1b" not in shown
    assert "went through the guard" in shown
