"""What one policy allows that another does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from budget_guard.cli.policy import command
from budget_guard.policy.diff import PolicyDiff, diff
from budget_guard.policy.loading import parse_document
from budget_guard.policy.model import Policy
from budget_guard.render.policy import render_diff
from tests.policy.broken import SOUND


def policy(old: str = "", new: str = "") -> Policy:
    assert old in SOUND
    loaded = parse_document(SOUND.replace(old, new, 1), "p")
    assert loaded.policy is not None, loaded.problems
    return loaded.policy


def rows(found: PolicyDiff) -> list[tuple[str, str]]:
    return [(row.side, f"{row.about}: {row.text}") for row in found.differences]


def test_a_policy_allows_what_it_allows() -> None:
    assert diff(policy(), policy()).differences == ()
    assert render_diff(diff(policy(), policy()), "a.yaml", "b.yaml") == "a.yaml and b.yaml allow the same.\n"


LIVE = "live data of GLBX.MDP3 without its limit of $8.00 and 8 hours of connections a session"
HOURS = "from 5 minutes before the open to 5 minutes after the close of each regular session"
WINDOW = "{session: regular, from: open - 5m, to: close + 5m}"

# (what stands in A, what in B, what is found)
CHANGES: list[tuple[str, str, list[tuple[str, str]]]] = [
    ("month: 200 USD", "month: 300 USD", [("b", "budget account: $300.00 a month, not $200.00")]),
    ("month: 200 USD", "month: 100 USD", [("a", "budget account: $200.00 a month, not $100.00")]),
    ("month: 200 USD", "month: unlimited", [("b", "budget account: any amount a month, not $200.00")]),
    (
        "month: 200 USD",
        "total: 60 GiB",
        [
            ("b", "budget account: any amount a month, not $200.00"),
            ("a", "budget account: any amount in total, not 60 GiB"),
        ],
    ),
    (
        "match: {dataset: GLBX.MDP3, mode: live}",
        "match: {stream: nq}",
        [
            (
                "both",
                "budget live: it counts live data of GLBX.MDP3 in A, live and historical data for stream nq in B",
            )
        ],
    ),
    (
        "  - name: live\n",
        "  - name: other\n",
        [
            (
                "b",
                f"budget live: {LIVE}",
            ),
            (
                "a",
                f"budget other: {LIVE}",
            ),
        ],
    ),
    ("[NQ.v.0]", "[NQ.v.0, ES.v.0]", [("b", "stream nq: symbols ES.v.0")]),
    ("[NQ.v.0]", "ALL_SYMBOLS", [("b", "stream nq: all symbols")]),
    (
        "[NQ.v.0]",
        "[ES.v.0]",
        [("a", "stream nq: symbols NQ.v.0"), ("b", "stream nq: symbols ES.v.0")],
    ),
    (
        "schema: mbo",
        "schema: trades",
        [
            (
                "a",
                f"stream nq: live GLBX.MDP3 mbo of NQ.v.0 (continuous), {HOURS}",
            ),
            (
                "b",
                f"stream nq: live GLBX.MDP3 trades of NQ.v.0 (continuous), {HOURS}",
            ),
        ],
    ),
    (WINDOW, "{session: full}", [("b", "stream nq: it may run during each full session")]),
    (WINDOW, "always", [("b", "stream nq: it may run at any time")]),
    (
        WINDOW,
        "{session: regular}",
        [
            (
                "a",
                f"stream nq: it may run {HOURS}",
            )
        ],
    ),
    (
        WINDOW,
        f"{WINDOW}, {{hours: '18:00-19:00'}}",
        [("b", "stream nq: it may run from 18:00 to 19:00 (America/New_York), as far as the market is open")],
    ),
    (
        "replay: 15m",
        "replay: 1h",
        [("b", "stream nq: a replay of 1 hour after a lost connection, not 15 minutes")],
    ),
    (
        "client_replay: 0m",
        "client_replay: 5m",
        [("b", "stream nq: a client's own replay of 5 minutes, not no time")],
    ),
    ("spend: 0.50 USD", "spend: unlimited", [("b", "stream nq: any amount to mend a gap, not $0.50")]),
    ("max_request: 5 USD", "max_request: 3 USD", [("a", "historical: one request of $5.00, not $3.00")]),
    (
        "approve_above: 2 USD",
        "approve_above: 4 USD",
        [("b", "historical: one request of $4.00 without asking anybody, not $2.00")],
    ),
    (
        "approve_above: 2 USD",
        "approve_above: 7 USD",
        [("b", "historical: one request of $5.00 without asking anybody, not $2.00")],
    ),
    (
        "  approve_above: 2 USD\n",
        "",
        [("b", "historical: one request of $5.00 without asking anybody, not $2.00")],
    ),
    (
        "all_symbols: false",
        "all_symbols: true",
        [("b", "historical: requests that leave their symbols out, which means the whole dataset")],
    ),
    (
        "all_symbols: false",
        "all_symbols: false\n  buy_again: true",
        [("b", "historical: buying a batch job again that was bought before")],
    ),
    (
        "all_symbols: false",
        "all_symbols: false\n  cache: {folder: kept}",
        [("both", "historical: answers are not kept in A, kept in kept for 30 days in B")],
    ),
    (
        "mbo: 2.16",
        "mbo: 1.80",
        [("both", "prices: live mbo of GLBX.MDP3 costs $2.16 per GiB in A, $1.8 per GiB in B")],
    ),
    (
        "live: metered",
        "live: flat, plan: plus",
        [
            (
                "both",
                "billing: live data of GLBX.MDP3 is paid for by the byte in A, paid for by plan plus in B",
            )
        ],
    ),
    (
        "live: metered",
        "live: none",
        [("a", "billing: live data of GLBX.MDP3")],
    ),
    (
        "account:\n",
        "account:\n  name: other\n",
        [("both", "account: A books on account desk, B on other: they share no balance")],
    ),
]


@pytest.mark.parametrize(("old", "new", "found"), CHANGES, ids=[new[:40] for _, new, _ in CHANGES])
def test_a_change_is_told_on_the_side_that_allows_it(
    old: str, new: str, found: list[tuple[str, str]]
) -> None:
    assert rows(diff(policy(), policy(old, new))) == found


@pytest.mark.parametrize(("old", "new", "found"), CHANGES, ids=[new[:40] for _, new, _ in CHANGES])
def test_the_reverse_is_the_same_with_the_sides_exchanged(
    old: str, new: str, found: list[tuple[str, str]]
) -> None:
    """What B allows that A does not is what A allows that B does not, the other way round."""
    there, back = diff(policy(), policy(old, new)), diff(policy(old, new), policy())
    assert {row.text for row in there.of("b")} == {row.text for row in back.of("a")}
    assert {row.text for row in there.of("a")} == {row.text for row in back.of("b")}


def test_days_that_begin_elsewhere_are_told_only_where_both_have_days() -> None:
    zone = ("timezone: America/New_York", "timezone: America/Chicago")
    assert diff(policy(), policy(*zone)).differences == ()
    text = SOUND.replace("month: 200 USD", "day: 20 USD")
    one, two = parse_document(text, "p").policy, parse_document(text.replace(*zone), "p").policy
    assert one is not None and two is not None
    assert rows(diff(one, two)) == [
        ("both", "budget account: its days and weeks begin in America/New_York in A, in America/Chicago in B")
    ]


def test_the_command_prints_text_or_json_alone_and_exits_with_0(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(SOUND)
    two.write_text(SOUND.replace("200 USD", "300 USD").replace("mbo: 2.16", "mbo: 2.00"))
    result = CliRunner().invoke(command, ["diff", str(one), str(two)])
    text = " ".join(result.stdout.split())
    assert f"B ({two}) allows, and A does not budget account: $300.00 a month, not $200.00" in text
    assert f"A ({one}) allows, and B does not nothing" in text
    assert "They say differently prices: live mbo of GLBX.MDP3 costs" in text
    data = json.loads(CliRunner().invoke(command, ["diff", str(one), str(two), "--format", "json"]).stdout)
    assert data["only_b"] == [{"about": "budget account", "text": "$300.00 a month, not $200.00"}]
    assert data["only_a"] == []
    assert [row["about"] for row in data["otherwise"]] == ["prices"]
