"""A plan on a terminal, in Markdown and in JSON."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console

from budget_guard.planning.model import Plan
from budget_guard.planning.plan import plan
from budget_guard.policy.model import LiveBilling, Policy
from budget_guard.render.plan import plan_json, render_json, render_markdown, render_plan
from budget_guard.render.tables import nano_text
from tests.planning.desk import FULL, GLBX, NOW, FakeVendor, budget, limit, policy, stream


def made(whole: Policy) -> Plan:
    return plan(whole, "2026-11", now=NOW)


def on_screen(result: Plan, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    console.print(render_plan(result))
    written: str = console.file.getvalue()  # type: ignore[attr-defined]
    return written


FULL_FEED = policy(stream("glbx-mbo", windows=(FULL,), gib_per_session=Decimal("15.9")))
MISSING = policy(stream("known", gib_per_session=Decimal(1)), stream("missing"))


def test_the_json_has_its_stable_shape() -> None:
    """Money, sizes and hours are strings of exact decimals; instants end in Z."""
    shown = plan_json(made(FULL_FEED))
    assert shown["policy"] == "test"
    assert shown["month"] == "2026-11"
    assert shown["generated_utc"] == "2026-11-22T12:00:00Z"
    assert isinstance(shown["source"], str)
    one = shown["streams"][0]
    assert {key: one[key] for key in ("name", "dataset", "schema", "mode")} == {
        "name": "glbx-mbo",
        "dataset": GLBX,
        "schema": "mbo",
        "mode": "live",
    }
    assert one["windows"] == {"count": 21, "hours": "475.25"}
    assert one["gib"] == {"p50": "333.9", "p90": "333.9"}
    assert one["unit_price_usd"] == "2.16"
    assert "bundled sheet of 2026-06-12" in one["price_source"]
    assert one["cost_usd"] == {"p50": "721.224", "p90": "721.224"}
    assert shown["fixed_usd"] == "0"
    assert shown["total_usd"] == {"p50": "721.224", "p90": "721.224"}
    row = {key: shown["budgets"][0][key] for key in ("name", "period", "unit", "limit", "p_within")}
    assert row == {"name": "account", "period": "month", "unit": "usd", "limit": "200", "p_within": "0"}
    assert shown["verdict"] == "over"


def test_a_budget_uses_what_its_streams_cost() -> None:
    """Rounded alike, to the nano-dollar and upwards, so that the two figures agree."""
    shown = plan_json(made(policy(stream(gib_per_session=Decimal("0.41")))))
    assert shown["budgets"][0]["used"] == shown["total_usd"]


def test_the_json_text_is_the_json() -> None:
    """One document and a newline; no number that a reader would take for a float."""
    text = render_json(made(FULL_FEED))
    assert text.endswith("}\n")
    assert json.loads(text) == plan_json(made(FULL_FEED))
    assert not any(isinstance(value, float) for value in leaves(json.loads(text)))


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


def test_unknown_is_null_with_a_reason() -> None:
    """No figure is made up, and the reason has a code."""
    shown = plan_json(made(MISSING))
    one = shown["streams"][1]
    assert one["gib"] == {"p50": None, "p90": None}
    assert one["cost_usd"] == {"p50": None, "p90": None}
    assert [reason["code"] for reason in one["unknown"]] == ["size_unknown"]
    assert shown["total_usd"] == {"p50": None, "p90": None}
    assert shown["budgets"][0]["p_within"] is None
    assert shown["verdict"] == "unknown"


def test_an_unlimited_budget_has_no_limit() -> None:
    """`unlimited` is null in JSON and certain to hold."""
    shown = plan_json(made(policy(stream(gib_per_session=Decimal(1)), budgets=[budget(limit(None))])))
    assert (shown["budgets"][0]["limit"], shown["budgets"][0]["p_within"]) == (None, "1")


def test_the_table_reads_at_a_hundred_columns() -> None:
    """Figures are not folded, no line is longer than the terminal, and every source is named."""
    text = on_screen(made(FULL_FEED))
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 100
    assert "over: a limit of the month is exceeded at p50" in text
    assert any(
        line.split() == ["glbx-mbo", "21", "475.25", "333.90", "333.90", "2.16", "$721.22", "$721.22", "1-4"]
        for line in text.splitlines()
    )
    assert "$200.00 a month" in text
    assert "regular hours only" in text
    assert "bundled sheet of 2026-06-12" in text


def test_unknown_is_a_word_on_the_screen() -> None:
    """Never a zero and never a blank."""
    text = on_screen(made(MISSING))
    assert "unknown: a figure is missing" in text
    assert "size_unknown" in text
    line = next(line for line in text.splitlines() if line.startswith("total"))
    assert line.split() == ["total", "unknown", "unknown"]


def test_fees_are_lines_of_their_own() -> None:
    """The plan and its licence stand under the streams and in the total."""
    billing = {GLBX: LiveBilling("flat", "standard", Decimal("36.50"))}
    result = made(policy(stream(gib_per_session=Decimal(1)), billing=billing, budgets=[budget(limit("300"))]))
    text = on_screen(result)
    assert "GLBX.MDP3 + licence $36.50" in text
    assert "$235.50" in text
    assert plan_json(result)["fixed"][0]["fee_usd"] == "199"


def test_the_markdown_page_holds_the_same_figures() -> None:
    """Verdict, streams, budgets, ways down and the sources."""
    page = render_markdown(made(FULL_FEED))
    assert page.startswith("# test: plan of 2026-11\n")
    assert "**over**" in page
    assert (
        "| glbx-mbo | GLBX.MDP3 mbo | 21 | 475.25 | 333.90 | 333.90 | 2.16 | $721.22 | $721.22 | 1-4 |"
        in page
    )
    assert "## Ways down" in page
    assert "- (1) price: bundled sheet of 2026-06-12" in page


def test_names_with_markup_are_shown_as_they_are() -> None:
    """A stream called [red] is not a colour."""
    odd = stream("[red]x", gib_per_session=Decimal(1))
    result = plan(policy(odd), "2026-11", now=datetime(2026, 11, 1, tzinfo=UTC))
    assert "[red]x" in on_screen(result)


def longest(text: str) -> int:
    return max(len(line.rstrip()) for line in text.splitlines())


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("whole", [FULL_FEED, MISSING])
def test_nothing_is_cut_off_at_common_widths(whole: Policy, width: int) -> None:
    """Every figure is there whatever the width; a narrow terminal has p90 below p50."""
    result = made(whole)
    text = on_screen(result, width)
    assert longest(text) <= width
    figures = [one.cost for one in result.streams if one.cost is not None]
    for cost in figures:
        assert text.count(nano_text(cost.p50)) >= 2
    assert "within" in text
    assert ("p < 0.5: no" in text) == (result.verdict == "over")


def test_an_answer_of_the_vendor_shows_its_age() -> None:
    """Prices and sizes that were kept say when they were asked for; in JSON it is an instant."""
    vendor = FakeVendor(prices={"live": {"mbo": Decimal("2.16")}}, asked_utc=NOW - timedelta(hours=3))
    result = plan(policy(stream()), "2026-11", now=NOW, vendor=vendor)
    text = " ".join(on_screen(result, 140).split())
    assert "mode live, read 2026-11-22 (asked 3 h ago)" in text
    assert "to 2026-11-20 (asked 3 h ago)" in text
    assert "(asked 3 h ago)" in render_markdown(result)
    one = plan_json(result)["streams"][0]
    assert (one["price_read_utc"], one["size_asked_utc"]) == ("2026-11-22T09:00:00Z", "2026-11-22T09:00:00Z")
    assert one["price_as_of"] == "2026-11-22"


def test_a_figure_that_nobody_was_asked_for_has_no_age() -> None:
    """The policy's own, and the sheet's, which has a date instead."""
    one = plan_json(made(FULL_FEED))["streams"][0]
    assert (one["price_read_utc"], one["size_asked_utc"], one["price_as_of"]) == (None, None, "2026-06-12")
    assert "asked" not in on_screen(made(FULL_FEED))
