"""The gateway's own process: what it is started with, what comes back from it, and what when it cannot be had."""

from __future__ import annotations

import logging
import multiprocessing.spawn
import os
import sys
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path

import pytest

from budget_guard.errors import KeyRejected, PolicyError, SettingsError, VendorUnavailable
from budget_guard.policy.problems import Place, Problem
from budget_guard.settings import Settings
from budget_guard.streaming.aside.__main__ import Forwarding, Line, serve
from budget_guard.streaming.aside.messages import Failed, Order, Said
from budget_guard.streaming.aside.process import environment, start_aside
from tests.streaming.rehearsal import read_policy

KEY = "db-realKEYrealKEYrealKEYrealKEY1"


# --- errors that travel -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        PolicyError([Problem(Place("policy.yaml", 3, 7), "no such schema")]),
        VendorUnavailable("no answer", advice="try later", status=503, case="busy"),
        SettingsError("BUDGET_GUARD_NOW is not set"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_the_guards_own_arrives_as_it_was(error: Exception) -> None:
    arrived = Failed.of(error).error()
    assert type(arrived) is type(error)
    assert (str(arrived), arrived.__dict__) == (str(error), error.__dict__)


def test_an_error_that_nobody_expected_brings_its_traceback_along() -> None:
    try:
        raise ZeroDivisionError("a defect")
    except ZeroDivisionError as error:
        arrived = Failed.of(error).error()
    assert isinstance(arrived, ZeroDivisionError)
    assert "test_aside.py" in arrived.__notes__[0]


def test_an_error_that_cannot_be_sent_arrives_in_words() -> None:
    error = ValueError("odd")
    error.carried = lambda: None  # type: ignore[attr-defined]
    assert str(Failed.of(error).error()) == "ValueError: odd"


def test_what_is_raised_where_the_gateway_is_opened_is_raised_where_it_was_asked_for(
    settings: Settings,
) -> None:
    with pytest.raises(KeyRejected, match="DATABENTO_API_KEY is not set"):
        start_aside(read_policy(), replace(settings, key=None))


# --- starting it ------------------------------------------------------------------------------------------------


def test_it_serves_until_it_is_closed_and_may_be_closed_twice(settings: Settings) -> None:
    gateway = start_aside(read_policy(), settings)
    assert gateway.alive
    assert gateway.live_port > 0
    assert gateway.http_url.startswith("http://127.0.0.1:")
    assert gateway.token() != gateway.token("nq") != settings.key
    gateway.close()
    gateway.close()
    assert not gateway.alive


def test_its_environment_has_the_programs_modules_and_nothing_secret(settings: Settings) -> None:
    known = replace(settings, key=KEY)
    given = {
        "DATABENTO_API_KEY": KEY,
        "BUDGET_GUARD_LEDGER": "postgresql://me:secret@db/ledger",
        "URL": f"https://{KEY}@x",
        "HOME": "/home/me",
        "PYTHONPATH": "/elsewhere",
    }
    found = environment(given, known)
    assert found == {"URL": "https://@x", "HOME": "/home/me", "PYTHONPATH": found["PYTHONPATH"]}
    assert found["PYTHONPATH"].split(os.pathsep) == [str(Path(entry).absolute()) for entry in sys.path]


def test_a_frozen_program_is_told_to_use_run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(SettingsError, match="start it with `budget-guard run`"):
        start_aside(read_policy(), settings)


def test_without_a_python_to_start_it_says_how_to_name_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", b"/nowhere/python")
    with pytest.raises(SettingsError, match=r"multiprocessing\.set_executable"):
        start_aside(read_policy(), settings)


def test_a_python_that_cannot_serve_is_an_error_and_not_a_wait(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", b"/bin/false")
    with pytest.raises(SettingsError, match="ended with 1 before it listened"):
        start_aside(read_policy(), settings)


# --- inside it --------------------------------------------------------------------------------------------------


def test_a_program_that_is_gone_before_its_order_is_served_nothing() -> None:
    ours, theirs = Pipe()
    ours.close()
    with theirs:
        serve(theirs)


def test_a_program_that_dies_while_the_gateway_opens_leaves_nothing_running(settings: Settings) -> None:
    ours, theirs = Pipe()
    ours.send(Order(read_policy(), settings, logging.WARNING, os.getppid()))
    ours.close()
    handlers, level = list(logging.root.handlers), logging.root.level
    try:
        with theirs:
            serve(theirs)
    finally:
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
    assert not list(settings.data_dir.rglob("*.meter"))


def test_what_is_said_goes_to_the_programs_log_and_to_stderr_once_that_is_gone(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = Pipe()
    with theirs:
        handler = Forwarding(Line(theirs))
        record = logging.makeLogRecord(
            {"name": "budget_guard.x", "levelno": 30, "msg": "a %s", "args": ("b",)}
        )
        handler.emit(record)
        said = ours.recv()
        assert isinstance(said, Said)
        said.log()
        assert ("budget_guard.x", 30, "a b") in caplog.record_tuples
        ours.close()
        handler.emit(record)
    assert capsys.readouterr().err == "budget-guard: a b\n"
