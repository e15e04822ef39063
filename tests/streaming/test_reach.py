"""What keeps a program from the guard is seen in its command, or said when nobody came."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from budget_guard.streaming.reach import left_out, not_reached
from tests.streaming.rehearsal import Rehearsal, rehearsing


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    with rehearsing(tmp_path_factory.mktemp("desk"), rate=1000) as rehearsal:
        yield rehearsal


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("python -I app.py", "-I"),
        ("python3.12 -S app.py", "-S"),
        ("/opt/venv/bin/python -E -m app", "-E"),
        ("python -uE app.py", "-E"),
        ("python -X dev -I app.py", "-I"),
        ("python -Wignore -I app.py", "-I"),
        ("python -W ignore -bS app.py", "-S"),
        ("python --check-hash-based-pycs=always -I app.py", "-I"),
        ("pypy3 -S app.py", "-S"),
        ("env A=b nice python -I app.py", "-I"),
    ],
)
def test_an_option_that_leaves_the_hook_out_is_named(command: str, option: str) -> None:
    text = left_out(command.split())
    assert text is not None
    assert text.startswith(f"python {option} leaves out")
    assert "BUDGET_GUARD_RELAY" in text


@pytest.mark.parametrize(
    "command",
    [
        "python app.py -I",
        "python -m app -S",
        "python -c pass -E",
        "python -uc pass -I",
        "python -W error::ImportWarning app.py",
        "python -X importtime app.py",
        "python - -I",
        "python",
        "node -I app.js",
        "cargo run -S",
        "env",
    ],
)
def test_what_is_the_programs_own_is_not_taken_for_an_option_of_python(command: str) -> None:
    assert left_out(command.split()) is None


@pytest.mark.parametrize(
    ("first", "option"),
    [
        ("#!/usr/bin/python3 -I", "-I"),
        ("#!/usr/bin/env -S python3 -sE", "-E"),
        ("#!/usr/bin/env python3", None),
        ("#!/bin/sh -E", None),
        ("import this", None),
        ("", None),
    ],
)
def test_the_first_line_of_a_script_is_looked_at(tmp_path: Path, first: str, option: str | None) -> None:
    script = tmp_path / "app"
    script.write_bytes(first.encode() + b"\n\xff")
    text = left_out([str(script)])
    assert (None if text is None else text.split()[1]) == option


def test_a_script_on_the_path_is_found_and_what_is_nowhere_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "app"
    script.write_text("#!/usr/bin/python3 -S\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert left_out(["app"]) is not None
    assert left_out(["nothing"]) is None
    assert left_out([]) is None


def test_a_program_whose_clients_came_is_told_nothing() -> None:
    assert not_reached(1) is None


def test_a_program_that_never_came_is_told_what_may_have_kept_it_away() -> None:
    text = not_reached(0)
    assert text is not None and text.startswith("no Databento client of the program came to the guard")
    assert "BUDGET_GUARD_RELAY" in text


# --- as `run` says it -------------------------------------------------------------------------------------------


def test_run_says_before_the_start_what_keeps_the_program_away(rehearsal: Rehearsal) -> None:
    """And starts it: it may know the way itself."""
    done = rehearsal.run([sys.executable, "-I", "-c", "print('started'); raise SystemExit(3)"])
    assert (done.returncode, done.stdout) == (3, "started\n")
    assert done.stderr.count("python -I leaves out") == 1
    assert "no Databento client" not in done.stderr


def test_run_says_after_a_failure_that_nobody_came(rehearsal: Rehearsal) -> None:
    done = rehearsal.run(["sh", "-c", "unset PYTHONPATH; exit 7"])
    assert done.returncode == 7
    assert "budget-guard: no Databento client of the program came to the guard" in done.stderr


@pytest.mark.parametrize(
    "code", ["raise SystemExit(0)", "import databento as d; d.Historical().metadata.list_datasets(); 1 / 0"]
)
def test_run_says_nothing_of_it_when_all_is_well_or_a_client_came(rehearsal: Rehearsal, code: str) -> None:
    done = rehearsal.run([sys.executable, "-c", code])
    assert "no Databento client" not in done.stderr


def test_a_program_without_the_hook_that_takes_the_advice_streams(rehearsal: Rehearsal) -> None:
    code = """
import databento, os, threading
host, port = os.environ["BUDGET_GUARD_RELAY"].rsplit(":", 1)
client = databento.Live(gateway=host, port=int(port))
client.subscribe("GLBX.MDP3", "mbo", "NQ.v.0", "continuous")
came = threading.Event()
client.add_callback(lambda record: came.set())
client.start()
assert came.wait(30)
client.terminate()
"""
    done = rehearsal.run([sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}\n{code}"])
    assert done.returncode == 0, done.stderr
    assert [entry.stream for entry in rehearsal.entries()] == ["nq"]
