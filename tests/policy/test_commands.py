"""`init`, `check` and `schema` as a user runs them: what they print where, and their exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from budget_guard.cli import main
from budget_guard.policy.schema import policy_schema
from budget_guard.policy.templates import template_names, template_text
from tests.policy.broken import SOUND


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(args))
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize("template", template_names())
def test_init_writes_a_commented_policy_that_passes_check(
    template: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("init", "--template", template, "mine.yaml") == 0
    text = (folder / "mine.yaml").read_text()
    assert text == template_text(template)
    assert "# " in text
    assert run("check", "mine.yaml") == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "wrote mine.yaml" in shown.err
    assert "1 policy: no problems, no notes" in shown.err


def test_init_writes_the_front_future_to_the_usual_name_when_nothing_is_said(folder: Path) -> None:
    assert run("init") == 0
    assert (folder / "budget-guard.yaml").read_text() == template_text("nq-futures")


def test_init_never_overwrites(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "budget-guard.yaml").write_text("mine")
    assert run("init") == 2
    assert "budget-guard.yaml is already there" in capsys.readouterr().err
    assert (folder / "budget-guard.yaml").read_text() == "mine"


def test_init_says_why_a_path_cannot_be_written_and_which_templates_there_are(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("init", "no/such/folder.yaml") == 2
    assert "cannot be written: No such file or directory" in capsys.readouterr().err
    assert run("init", "--template", "nothing") == 2
    assert "'full-feed', 'live', 'nq-futures'" in capsys.readouterr().err


def test_check_prints_problems_and_notes_of_every_file_and_exits_with_2(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.yaml").write_text(SOUND.replace("200 USD", "0 USD").replace("schema: mbo", "schema: mb0"))
    (folder / "b.yaml").write_text(SOUND)
    assert run("check", "a.yaml", "b.yaml", "c.yaml") == 2
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        "a.yaml:10:12: note: a limit of 0 refuses everything that budget 'account' matches",
        "a.yaml:18:13: unknown schema 'mb0'; did you mean 'mbo'?",
        "c.yaml:1:1: there is no such file: `budget-guard init` writes a starting policy",
    ]
    assert shown.err == "3 policies: 2 problems, 1 note\n"


def test_check_with_notes_alone_exits_with_0(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.yaml").write_text(SOUND.replace("200 USD", "0 USD"))
    assert run("check", "a.yaml") == 0
    assert "note: a limit of 0" in capsys.readouterr().out


def test_check_as_json_is_one_list_alone_on_stdout(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.yaml").write_text(SOUND.replace("200 USD", "0 USD").replace("schema: mbo", "schema: mb0"))
    assert run("check", "--format", "json", "a.yaml") == 2
    assert json.loads(capsys.readouterr().out) == [
        {
            "file": "a.yaml",
            "line": 10,
            "column": 12,
            "severity": "note",
            "message": "a limit of 0 refuses everything that budget 'account' matches",
        },
        {
            "file": "a.yaml",
            "line": 18,
            "column": 13,
            "severity": "problem",
            "message": "unknown schema 'mb0'; did you mean 'mbo'?",
        },
    ]
    (folder / "a.yaml").write_text(SOUND)
    assert run("check", "--format", "json", "a.yaml") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_check_without_a_file_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check") == 2
    assert "Missing argument 'POLICY...'" in capsys.readouterr().err


def test_schema_prints_the_schema_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("schema") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == policy_schema()
    assert shown.err == ""


def test_reading_a_policy_imports_no_heavy_library() -> None:
    """Loading a document needs YAML and pydantic, and neither calendars, tables nor the vendor's client."""
    code = (
        "import sys; import budget_guard.policy.loading, budget_guard.policy.schema, budget_guard.loading; "
        "print([name for name in ('pandas', 'numpy', 'databento', 'exchange_calendars', 'aiohttp') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
