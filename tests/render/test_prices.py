"""Prices for people, pages and programs."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from decimal import Decimal

import pytest
from rich.console import Console

from budget_guard.planning.asking import Desk
from budget_guard.planning.model import PriceReport
from budget_guard.planning.prices import price_report
from budget_guard.policy.model import LiveBilling, Policy
from budget_guard.render.prices import prices_json, render_json, render_markdown, render_prices
from tests.planning.desk import GLBX, NOW, FakeVendor, policy, stream

LIST = {"live": {"mbo": Decimal("2.5")}, "historical-streaming": {"mbo": Decimal("1.9")}}
FLAT = {GLBX: LiveBilling("flat", "standard", Decimal("36.50"))}


def reported(whole: Policy | None = None) -> PriceReport:
    vendor = FakeVendor(prices=LIST, asked_utc=NOW - timedelta(hours=3))
    return price_report(whole, None if whole is None else Desk(vendor, NOW), NOW)


def on_screen(report: PriceReport, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    console.print(render_prices(report))
    written: str = console.file.getvalue()  # type: ignore[attr-defined]
    return written


def test_the_json_has_its_stable_shape() -> None:
    """Prices are strings of exact decimals, instants end in Z, and what lost is there."""
    shown = prices_json(reported(policy(stream(), prices={(GLBX, "live", "mbo"): Decimal(3)}, billing=FLAT)))
    assert (shown["policy"], shown["at_utc"]) == ("test", "2026-11-22T12:00:00Z")
    live, history = shown["prices"]
    assert (live["dataset"], live["schema"], live["mode"], live["used_by"]) == (
        GLBX,
        "mbo",
        "live",
        ["nq-mbo"],
    )
    assert (live["usd_per_gib"], live["kind"], live["unknown"]) == ("0", "plan", None)
    assert [lost["kind"] for lost in live["lost"]] == ["override", "vendor", "sheet"]
    assert (history["usd_per_gib"], history["kind"]) == ("1.9", "vendor")
    assert (history["read_utc"], history["as_of"]) == ("2026-11-22T09:00:00Z", "2026-11-22")
    assert history["included_from_utc"] == "2026-10-24T00:00:00Z"
    assert history["lost"][0]["grade"] == "measured"
    (terms,) = shown["plans"]
    assert (terms["plan"], terms["fee_usd"], terms["fee_since"], terms["license_usd"]) == (
        "standard",
        "199",
        "2026-07-01",
        "36.5",
    )
    assert terms["history"][1] == {
        "level": "L1",
        "schemas": ["trades", "tbbo", "bbo-1s", "bbo-1m", "mbp-1"],
        "reach": "12 months",
        "from_utc": "2025-11-23T00:00:00Z",
    }


def test_the_json_text_is_the_json() -> None:
    """One document and a newline."""
    report = reported(policy(stream()))
    assert json.loads(render_json(report)) == prices_json(report)
    assert render_json(report).endswith("}\n")


def test_unknown_is_null_with_a_reason_and_a_word_on_the_screen() -> None:
    """Never a zero and never a blank."""
    report = reported(policy(stream(schema="imbalance")))
    live = prices_json(report)["prices"][0]
    assert (live["usd_per_gib"], live["kind"], live["unknown"]["code"]) == (None, None, "price_unknown")
    assert "unknown" in on_screen(report)
    assert "price_unknown: no price is known of GLBX.MDP3 imbalance live" in " ".join(
        on_screen(report).split()
    )


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("whole", [None, policy(stream(cheaper=("mbp-1",)), billing=FLAT)])
def test_the_table_fits_common_widths(whole: Policy | None, width: int) -> None:
    """No line is longer than the terminal, and no price is folded."""
    text = on_screen(reported(whole), width)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert any(line.split()[:1] == ["mbo"] for line in text.splitlines())


def test_the_table_says_where_each_price_comes_from() -> None:
    """In a word beside the price, in a sentence below, with its age."""
    text = on_screen(reported(policy(stream())), 140)
    line = next(line for line in text.splitlines() if line.split()[:1] == ["mbo"])
    assert "2.50   account, 3 h ago" in line
    assert "1.90   account, 3 h ago" in line
    assert "instead of 2.16: bundled sheet of 2026-06-12 (measured)" in text


def test_the_page_holds_the_same_figures() -> None:
    """Prices, plans and sources."""
    page = render_markdown(reported(policy(stream(), billing=FLAT)))
    assert page.startswith("# test: prices in USD per GiB\n")
    assert "| GLBX.MDP3 mbo | 0.00 | plan | 1.90 | account, 3 h ago |" in page
    assert "| standard (GLBX.MDP3) | $199.00 since 2026-07-01 | $36.50 |" in page
    assert "$0 from 2026-10-24 on" in page
