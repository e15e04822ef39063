"""`budget-guard run`: what it says, where, and with which exit code it ends."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.streaming.rehearsal import POLICY, TIMEOUT_S, Rehearsal, ready, rehearsing

PYTHON = [sys.executable, "-S", "-c"]

# A historical request with nothing but the standard library, as any language would make it.
REQUEST = """
import base64, os, sys, urllib.error, urllib.parse, urllib.request
form = dict(dataset="GLBX.MDP3", schema="mbo", symbols="NQ.v.0", stype_in="continuous", encoding="dbn",
            start="2026-11-20T15:00", end="2026-11-20T15:10")
form.update(pair.split("=") for pair in sys.argv[1:])
request = urllib.request.Request(
    os.environ["BUDGET_GUARD_HTTP"] + "/v0/timeseries.get_range", urllib.parse.urlencode(form).encode(),
    {"Authorization": "Basic " + base64.b64encode((os.environ["DATABENTO_API_KEY"] + ":").encode()).decode()})
try:
    print(len(urllib.request.urlopen(request).read()))
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
"""

HISTORICAL_STREAM = """\
  nq-history:
    mode: historical
    dataset: GLBX.MDP3
    schema: trades
    symbols: [NQ.v.0]
    stype_in: continuous
"""

# A live client with nothing but the standard library: reads N bytes, or to the end.
STREAM = """
import hashlib, os, socket, sys
host, port = os.environ["BUDGET_GUARD_RELAY"].split(":")
key = os.environ["DATABENTO_API_KEY"]
peer = socket.create_connection((host, int(port)))
lines = peer.makefile("rb")
lines.readline()
challenge = lines.readline().decode().strip().removeprefix("cram=")
digest = hashlib.sha256(f"{challenge}|{key}".encode()).hexdigest()
peer.sendall(f"auth={digest}-{key[-5:]}|dataset=GLBX.MDP3|encoding=dbn|ts_out=0\\n".encode())
print(lines.readline().decode().strip())
peer.sendall(b"schema=mbo|stype_in=continuous|symbols=NQ.v.0\\nstart_session=0\\n")
left = int(sys.argv[1]) if len(sys.argv) > 1 else 1 << 60
while left > 0 and (data := lines.read1(65536)):
    left -= len(data)
"""


def says(done: subprocess.CompletedProcess[str]) -> str:
    """What run said, for messages of failed tests and to look into."""
    return f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"


# --- the program's own ----------------------------------------------------------------------------------------


def test_the_programs_output_and_exit_code_are_its_own(rehearsal: Rehearsal) -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); print(sys.stdin.read()); sys.exit(7)"
    done = rehearsal.guard("run", str(rehearsal.policy), "--", *PYTHON, code, input="in")
    assert done.returncode == 7, says(done)
    assert done.stdout == "out\nin\n"
    lines = done.stderr.splitlines()
    assert "err" in lines
    assert all(line.startswith("budget-guard: ") for line in lines if line != "err")


def test_the_key_is_nowhere_in_the_programs_environment_or_arguments(rehearsal: Rehearsal) -> None:
    """Not even where the user's shell has put it."""
    key = rehearsal.sandbox.key
    code = "import json, os, sys; print(json.dumps([dict(os.environ), sys.argv]))"
    env = rehearsal.env(MY_COPY=f"key={key}")
    done = rehearsal.run([*PYTHON, code, "--key", key], env=env)
    environment, arguments = json.loads(done.stdout)
    assert key not in done.stdout
    assert key not in done.stderr
    token = environment["DATABENTO_API_KEY"]
    assert len(token) == 32
    assert environment["MY_COPY"] == f"key={token}"
    assert arguments == ["-c", "--key", token]
    assert environment["BUDGET_GUARD_RELAY"].startswith("127.0.0.1:")
    assert environment["BUDGET_GUARD_HTTP"].startswith("http://127.0.0.1:")


def test_the_key_is_in_none_of_the_files_that_are_left_behind(rehearsal: Rehearsal) -> None:
    done = rehearsal.run([*PYTHON, REQUEST])
    assert done.returncode == 4, says(done)
    key = rehearsal.sandbox.key.encode()
    written = [path for path in rehearsal.folder.parent.rglob("*") if path.is_file()]
    assert written
    assert [path for path in written if key in path.read_bytes()] == []


def test_a_program_that_is_not_there_is_said_so(rehearsal: Rehearsal) -> None:
    done = rehearsal.run(["no-such-program", "--flag"])
    assert done.returncode == 2
    assert "cannot run no-such-program: No such file or directory" in done.stderr


# --- refused and cut ------------------------------------------------------------------------------------------


def test_a_request_that_nothing_covers_ends_with_4_whatever_the_program_says(rehearsal: Rehearsal) -> None:
    done = rehearsal.run([*PYTHON, REQUEST, "schema=mbp-10"])
    assert done.returncode == 4, says(done)
    assert done.stdout.startswith("403 ")
    assert json.loads(done.stdout[4:])["detail"]["payload"]["reasons"][0]["code"] == "not_covered"
    assert "refused: not_covered" in done.stderr
    with rehearsal.ledger() as ledger:
        assert [row.code for row in ledger.refusals("desk", "2026-11")] == ["not_covered"]


def test_a_request_that_needs_a_yes_is_refused_where_nobody_can_say_it(rehearsal: Rehearsal) -> None:
    done = rehearsal.run([*PYTHON, REQUEST])
    assert done.returncode == 4, says(done)
    assert "refused: approval_needed" in done.stderr
    assert rehearsal.entries() == []


def test_a_request_within_the_budget_passes_and_is_booked(rehearsal: Rehearsal) -> None:
    rehearsal.policy.write_text(POLICY.replace(", approve_above: 0 USD", ""))
    done = rehearsal.run([*PYTHON, REQUEST])
    assert done.returncode == 0, says(done)
    (entry,) = rehearsal.entries()
    assert entry.mode == "historical"
    assert 0 < entry.size_bytes < int(done.stdout)
    assert "went through the guard" in done.stderr
    assert rehearsal.open_holds() == []


LOSE_LEDGER = """
os.rename(sys.argv[2], sys.argv[2] + ".away")
peer.close()
"""


def test_what_went_through_and_could_not_be_booked_is_said(rehearsal: Rehearsal) -> None:
    """It is not nothing; and what is said of it later is that it had ended, not that it died."""
    file = rehearsal.ledger_url.removeprefix("sqlite:///")
    done = rehearsal.run([*PYTHON, f"{STREAM}{LOSE_LEDGER}", "100000", file])
    said = re.search(r" went through the guard, and ([0-9.]+ KiB) more that could not be booked", done.stderr)
    assert said is not None and float(said[1].split()[0]) > 90, says(done)
    Path(f"{file}.away").rename(file)
    status = rehearsal.guard("status", str(rehearsal.policy))
    assert f"it had ended and could not be booked then; settled with {said[1]} counted" in status.stderr
    assert rehearsal.open_holds() == []


def test_a_status_that_is_to_be_watched_needs_a_terminal(rehearsal: Rehearsal) -> None:
    """Into a pipe it would write nothing."""
    done = rehearsal.guard("status", str(rehearsal.policy), "--watch")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--watch draws over what it drew, which takes a terminal" in done.stderr


def test_a_stream_that_meets_its_limit_is_cut_and_ends_with_4(tmp_path: Path) -> None:
    """And what the vendor bills is no more than the ledger, and that no more than the limit."""
    policy = POLICY.replace("month: 200 USD", "month: 0.02 USD")
    with rehearsing(tmp_path, policy, rate=400_000) as rehearsal:
        done = rehearsal.run([*PYTHON, STREAM])
        assert done.returncode == 4, says(done)
        assert "cut: limit_reached: budget account has" in done.stderr
        (entry,) = rehearsal.entries()
        ledger_nano = entry.cost_nano_usd + entry.residual_nano_usd
        billed = float(rehearsal.sandbox.bill()["cost_usd"]) * 1e9
        assert billed <= ledger_nano <= 20_000_000
        assert rehearsal.open_holds() == []


def test_a_stream_that_the_program_ends_leaves_its_code_alone(rehearsal: Rehearsal) -> None:
    done = rehearsal.run([*PYTHON, STREAM, "5000"])
    assert done.returncode == 0, says(done)
    assert "success=1" in done.stdout
    (entry,) = rehearsal.entries()
    assert (entry.ending, entry.residual_bytes) == ("exact", 0)


def test_one_stream_of_the_policy_can_be_chosen(rehearsal: Rehearsal) -> None:
    other = (
        POLICY.split("streams:\n")[1]
        .split("historical:")[0]
        .replace("nq:", "depth:")
        .replace("schema: mbo", "schema: mbp-10")
    )
    rehearsal.policy.write_text(POLICY.replace("historical:", f"{other}historical:"))
    done = rehearsal.run([*PYTHON, STREAM, "5000"], "--stream", "depth")
    assert done.returncode == 4, says(done)
    assert "refused: not_covered" in done.stderr


UNCHANGED = """
import databento, threading
history = databento.Historical().timeseries.get_range(
    dataset="GLBX.MDP3", schema="mbo", symbols="NQ.v.0", stype_in="continuous",
    start="2026-11-20T15:00", end="2026-11-20T15:01")
enough, seen = threading.Event(), []
def take(record):
    seen.append(record)
    if len(seen) == 100:
        enough.set()
live = databento.Live()
live.add_callback(take)
live.subscribe("GLBX.MDP3", "mbo", "NQ.v.0", stype_in="continuous")
live.start()
assert enough.wait(30)
live.stop()
live.block_for_close(timeout=30)
print(history.to_ndarray().size, len(seen))
"""


def test_an_unchanged_program_with_the_vendors_own_client_is_guarded(rehearsal: Rehearsal) -> None:
    rehearsal.policy.write_text(POLICY.replace(", approve_above: 0 USD", ""))
    done = rehearsal.run([sys.executable, "-c", UNCHANGED])
    assert done.returncode == 0, says(done)
    bought, streamed = map(int, done.stdout.split())
    assert bought > 0
    assert streamed >= 100
    assert [entry.mode for entry in rehearsal.entries()] == ["historical", "live"]


# --- the vendor -----------------------------------------------------------------------------------------------


def test_a_stream_without_a_licence_ends_with_5(tmp_path: Path) -> None:
    with rehearsing(tmp_path, live_entitlements=frozenset({"XNAS.ITCH"})) as rehearsal:
        done = rehearsal.run([*PYTHON, STREAM])
        assert done.returncode == 5, says(done)
        assert "vendor refused: not_entitled" in done.stderr
        assert rehearsal.entries() == []
        assert rehearsal.open_holds() == []


def test_a_wrong_key_ends_with_5_and_nothing_is_started(rehearsal: Rehearsal) -> None:
    done = rehearsal.run([*PYTHON, "print('started')"], env=rehearsal.env(DATABENTO_API_KEY="db-wrong"))
    assert done.returncode == 5, says(done)
    assert done.stdout == ""
    assert "auth_authentication_failed" in done.stderr


def test_no_key_ends_with_5_and_says_which_variable(rehearsal: Rehearsal) -> None:
    done = rehearsal.run([*PYTHON, "print('started')"], env=rehearsal.env(DATABENTO_API_KEY=None))
    assert done.returncode == 5
    assert (done.stdout, "DATABENTO_API_KEY is not set" in done.stderr) == ("", True)


# --- usage ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["policy.yaml"], "Missing argument 'COMMAND...'"),
        (["none.yaml", "--", "true"], "none.yaml:1:1: "),
        (["policy.yaml", "--stream", "none", "--", "true"], "no stream 'none' in the policy; it has nq"),
        (["policy.yaml", "--wiat", "--", "true"], "no such option: --wiat"),
        (["bad.yaml", "--", "true"], "bad.yaml:1:1: "),
    ],
)
def test_wrong_usage_and_bad_policies_end_with_2(
    rehearsal: Rehearsal, arguments: list[str], said: str
) -> None:
    (rehearsal.folder / "bad.yaml").write_text("version: 1\nname: bad\n")
    done = rehearsal.guard("run", *arguments)
    assert done.returncode == 2, says(done)
    assert said in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("missing", ["BUDGET_GUARD_LIVE_GATEWAY", "BUDGET_GUARD_HISTORICAL_GATEWAY"])
def test_a_rehearsal_that_could_reach_the_vendor_is_not_started(rehearsal: Rehearsal, missing: str) -> None:
    done = rehearsal.run([*PYTHON, "print('started')"], env=rehearsal.env(**{missing: None}))
    assert done.returncode == 2, says(done)
    assert done.stdout == ""
    assert missing in done.stderr
    assert not (rehearsal.folder / "data").exists()


def test_a_rehearsals_ledger_is_not_used_for_real_spending(rehearsal: Rehearsal) -> None:
    with rehearsal.ledger() as ledger:
        ledger.mark_rehearsal()
    real = rehearsal.env(BUDGET_GUARD_NOW=None, BUDGET_GUARD_LIVE_GATEWAY=None)
    rehearsal.policy.write_text(POLICY.replace("windows: {session: regular}", "windows: always"))
    done = rehearsal.run([*PYTHON, "print('started')"], env=real)
    assert done.returncode == 1, says(done)
    assert done.stdout == ""
    assert "this ledger is a rehearsal's" in done.stderr


# --- windows --------------------------------------------------------------------------------------------------


def test_outside_every_window_nothing_is_started_and_the_next_opening_is_named(rehearsal: Rehearsal) -> None:
    night = replace(rehearsal, now=datetime(2026, 11, 24, 3, 0, tzinfo=UTC))
    done = night.run([*PYTHON, "print('started')"])
    assert done.returncode == 4, says(done)
    assert done.stdout == ""
    assert (
        "outside every window; stream nq opens next at 2026-11-24T14:30:00Z "
        "(Tue 2026-11-24 09:30 America/New_York)"
    ) in done.stderr
    assert not (rehearsal.folder / "data").exists()


def test_a_policy_with_a_historical_stream_starts_a_program_at_any_time(rehearsal: Rehearsal) -> None:
    """Windows bind live data only: backfills are for evenings and weekends."""
    text = POLICY.replace("streams:\n", "streams:\n" + HISTORICAL_STREAM, 1)
    assert HISTORICAL_STREAM in text
    rehearsal.policy.write_text(text)
    night = replace(rehearsal, now=datetime(2026, 11, 24, 3, 0, tzinfo=UTC))
    done = night.run([*PYTHON, "print('started')"])
    assert (done.returncode, done.stdout) == (0, "started\n"), says(done)


def test_beyond_the_checked_calendar_nothing_is_started(rehearsal: Rehearsal) -> None:
    later = replace(rehearsal, now=datetime(2031, 1, 6, 15, 0, tzinfo=UTC))
    done = later.run([*PYTHON, "print('started')"])
    assert done.returncode == 4, says(done)
    assert done.stdout == ""
    assert "stream nq: calendar_unknown: " in done.stderr


def test_waiting_starts_the_program_when_the_window_opens(rehearsal: Rehearsal) -> None:
    early = replace(rehearsal, now=datetime(2026, 11, 23, 14, 29, 59, 500_000, tzinfo=UTC))
    done = early.run([*PYTHON, "print('started')"], "--wait")
    assert done.returncode == 0, says(done)
    assert done.stdout == "started\n"
    assert "opens next at 2026-11-23T14:30:00Z" in done.stderr


# --- signals --------------------------------------------------------------------------------------------------

WAITING = "import os, signal, sys, time\n{setup}\nprint('ready', flush=True)\nwhile True: time.sleep(0.05)"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_reaches_the_program_and_its_end_is_told_as_128_more(
    rehearsal: Rehearsal, number: signal.Signals
) -> None:
    with ready(
        rehearsal, [*PYTHON, WAITING.format(setup="signal.signal(signal.SIGINT, signal.SIG_DFL)")]
    ) as process:
        process.send_signal(number)
        _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 128 + number
    assert "went through the guard" in errors


def test_a_program_that_ends_well_on_sigterm_is_not_cut_short(rehearsal: Rehearsal) -> None:
    setup = (
        # Not print: the signal may come while the first print is still returning.
        "def end(*_):\n    os.write(1, b'ending\\n')\n    sys.exit(9)\nsignal.signal(signal.SIGTERM, end)"
    )
    with ready(rehearsal, [*PYTHON, WAITING.format(setup=setup)]) as process:
        process.terminate()
        out, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 9
    assert out == "ending\n"


def test_the_guards_ports_are_closed_when_the_program_has_ended(rehearsal: Rehearsal) -> None:
    done = rehearsal.run([*PYTHON, "import os; print(os.environ['BUDGET_GUARD_RELAY'])"])
    host, port = done.stdout.strip().split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))


# --- a person at the terminal ---------------------------------------------------------------------------------

# Takes its stdin as its terminal, then becomes the command.
ON_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize(("answer", "code", "booked"), [(b"y\n", 0, 1), (b"n\n", 4, 0)])
def test_a_dear_request_is_bought_when_somebody_at_the_terminal_says_yes(
    rehearsal: Rehearsal, answer: bytes, code: int, booked: int
) -> None:
    ours, theirs = pty.openpty()
    try:
        command = [sys.executable, "-m", "budget_guard", "run", str(rehearsal.policy), "--", *PYTHON, REQUEST]
        with subprocess.Popen(
            [*PYTHON, ON_TERMINAL, *command],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=rehearsal.env(),
            start_new_session=True,
        ) as process:
            shown = b""
            while b"[y/N]" not in shown:
                assert select.select([ours], [], [], TIMEOUT_S)[0], "nobody was asked"
                shown += os.read(ours, 4096)
            os.write(ours, answer)
            _, errors = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == code, errors.decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert b"mbo of GLBX.MDP3, 2026-11-20 15:00 to 2026-11-20 15:10 UTC, is" in shown
    assert len(rehearsal.entries()) == booked
