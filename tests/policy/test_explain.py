"""A policy in sentences: golden texts of the examples, and the sentences that each key gives rise to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from budget_guard.cli.policy import command
from budget_guard.policy.explain import Explanation, explain
from budget_guard.policy.loading import parse_document
from budget_guard.render.policy import render_explanation
from tests.policy.broken import SOUND
from tests.policy.explained import FOLDER, example_policies, explained, golden_of


def explanation(*edits: tuple[str, str]) -> Explanation:
    text = SOUND
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    policy = parse_document(text, "p").policy
    assert policy is not None
    return explain(policy)


def said(*edits: tuple[str, str]) -> str:
    """All sentences on one line each, whatever the width."""
    return render_explanation(explanation(*edits), width=1000)


@pytest.mark.parametrize("path", example_policies(), ids=lambda path: path.stem)
def test_an_example_is_explained_as_it_was_read(path: Path) -> None:
    assert explained(path) == golden_of(path).read_text(encoding="utf-8"), "python -m tests.policy.explained"


def test_there_is_a_golden_text_for_every_example_and_none_besides() -> None:
    assert {golden_of(path) for path in example_policies()} == set(FOLDER.glob("*.txt"))


WINDOWS = "[{session: regular, from: open - 5m, to: close + 5m}]"


@pytest.mark.parametrize(
    ("window", "sentence"),
    [
        ("always", "It may run at any time."),
        ("{session: full}", "It may run during each full session."),
        (
            "{session: regular, from: close - 1h30m}",
            "It may run from 1 hour 30 minutes before the close to the close of each regular session.",
        ),
        (
            "{session: regular, days: [fri, mon], skip: 2026-12-24}",
            "It may run during each regular session, on Mondays and Fridays, by the label of the session, "
            "but not on 2026-12-24.",
        ),
        (
            "{session: full, only: [2026-12-16, 2026-12-09]}",
            "It may run during each full session, only on 2026-12-09 and 2026-12-16, by the label of the session.",
        ),
        (
            '{hours: "22:00-02:00", days: sun}',
            "It may run from 22:00 to 02:00 the next day (America/New_York), on Sundays, as far as the market is open.",
        ),
        (
            '{hours: "18:00-24:00"}',
            "It may run from 18:00 to midnight (America/New_York), as far as the market is open.",
        ),
        ('{hours: "00:00-24:00"}', "It may run all day (America/New_York), as far as the market is open."),
        (
            "[{session: regular}, {session: full, days: fri}]",
            "It may run during each regular session; and during each full session, on Fridays, by the label of the "
            "session.",
        ),
    ],
)
def test_windows_in_sentences(window: str, sentence: str) -> None:
    assert sentence in said((WINDOWS, window))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("month: 200 USD", "month: unlimited", "Everything, live and historical: no limit."),
        ("month: 200 USD", "month: 0 USD", "A limit of 0 refuses all of it."),
        ("month: 200 USD", "total: 1 connections", "at most 1 connection in total."),
        ("month: 200 USD", "total: 5 USD", "A limit in total stays reached until the policy is changed."),
        ("month: 200 USD", "week: 60 GiB", "Its weeks begin at midnight in America/New_York."),
        ("dataset: GLBX.MDP3, mode: live", "schema: [mbo, trades]", "historical data of schemas mbo and trades: "),
        ("dataset: GLBX.MDP3, mode: live", "stream: nq, mode: live", "Live data for stream nq: "),
        ("live: metered", "live: none", "Every live request is refused: GLBX.MDP3 is not bought live."),
        ("live: metered", "live: flat, plan: plus", "Its bytes cost nothing: the plan of the dataset includes them."),
        ("live: metered", "live: metered, license: 10 USD", "by the byte, and $10.00 a month for the licence."),
        ("replay: 15m", "replay: 0m", "What a lost connection missed is not replayed; a client's own"),
        ("client_replay: 0m", "client_replay: 90s", "a client may ask for the last 1 minute 30 seconds itself."),
        ("spend: 0.50 USD", "spend: unlimited", "is replayed, at most 15 minutes; a client's own"),
        ("max_request: 5 USD", "max_request: unlimited", "One request may cost as much as its budgets have left."),
        ("all_symbols: false", "all_symbols: true", "A request may leave its symbols out, which means"),
        (
            "all_symbols: false",
            "cache: {folder: kept, keep_days: 7}",
            "The answer of a request is kept in kept for 7 days; the same request is then answered from there and "
            "costs nothing.",
        ),
        ("all_symbols: false", "buy_again: true", "A batch job is bought again whenever it is submitted again."),
        ("covers: historical", "covers: live", "There is a credit of $125.00 for live data until 2027-03-01."),
        ("[NQ.v.0]", "[a.v.0, b.v.0, c.v.0, d.v.0, e.v.0, f.v.0, g.v.0]", "d.v.0, e.v.0 and 2 more (continuous)"),
    ],
)  # fmt: skip
def test_every_key_says_its_sentence(old: str, new: str, sentence: str) -> None:
    assert sentence in said((old, new))


def test_a_stream_that_no_budget_matches_is_refused_and_says_so() -> None:
    text = said(("    month: 200 USD\n", "    match: {mode: live}\n    month: 200 USD\n"))
    assert "Historical requests for it are refused: no budget matches them." in text
    both = said(
        ("    month: 200 USD\n", "    match: {mode: historical}\n    month: 200 USD\n"),
        ("match: {dataset: GLBX.MDP3, mode: live}", "match: {mode: historical}"),
    )
    assert "Every live request is refused: no budget matches it." in both


def test_lines_keep_within_the_width() -> None:
    assert max(len(line) for line in render_explanation(explanation(), width=60).splitlines()) <= 60


def test_the_command_prints_text_or_json_alone(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(SOUND)
    text = CliRunner().invoke(command, ["explain", str(path)])
    assert text.stdout == render_explanation(explanation())
    data = json.loads(CliRunner().invoke(command, ["explain", str(path), "--format", "json"]).stdout)
    assert data == explanation().as_json()
    assert data["streams"][0]["budgets"] == {"live": ["account", "live"], "historical": ["account"]}
    assert data["budgets"][0]["limits"] == [{"period": "month", "unit": "usd", "limit": "200"}]
    assert data["budgets"][0]["sentences"][0] == "Everything, live and historical: at most $200.00 a month."
