"""The example reports, as the package makes them. `python -m tests.examples` writes them again."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

from click.testing import CliRunner
from rich.console import Console, RenderableType

from budget_guard.cli.windows import command as windows_command
from budget_guard.ledger.model import BalanceKey, Claim, Entry, HoldTerms, Ledger, Posting, Refusal
from budget_guard.ledger.store import open_ledger
from budget_guard.loading import load_policy
from budget_guard.money import cost_nano_usd, usd_from_nano
from budget_guard.planning.model import Plan
from budget_guard.planning.plan import plan
from budget_guard.render import plan as render_of_plan
from budget_guard.render import review as render_of_review
from budget_guard.reviewing.review import review

ROOT = Path(__file__).parent.parent
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
AFTER = datetime(2026, 12, 1, 6, 0, tzinfo=UTC)
MONTH = "2026-11"
WIDTH = 100
# A session's window share of 0.41 GiB, give or take, on five days of the month.
SIZES_MIB = (301, 287, 342, 410, 296)

# rich's own frame names fonts on a web host; the picture must stand alone.
SVG_FORMAT = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: {char_height}px;
  line-height: {line_height}px; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def make_examples() -> dict[str, str]:
    """Every example by its path from the root of the project."""
    full_feed, nq = _plan("full-feed"), _plan("nq-futures")
    return {
        "reports/examples/plan-full-feed-2026-11.md": render_of_plan.render_markdown(full_feed),
        "reports/examples/plan-full-feed-2026-11.json": render_of_plan.render_json(full_feed),
        "reports/examples/plan-nq-futures-2026-11.md": render_of_plan.render_markdown(nq),
        "reports/examples/windows-nq-futures-2026-11.txt": _windows(),
        "reports/examples/review-nq-futures-2026-11.md": _review(),
        "docs/images/plan.svg": _svg(render_of_plan.render_plan(full_feed)),
    }


def _plan(name: str) -> Plan:
    return plan(load_policy(ROOT / "policies" / f"{name}.yaml"), MONTH, now=NOW)


def _windows() -> str:
    """What the command itself prints."""
    policy = str(ROOT / "policies" / "nq-futures.yaml")
    arguments = [policy, "--from", "2026-11-23", "--to", "2026-11-29"]
    result = CliRunner().invoke(
        windows_command, arguments, env={"COLUMNS": str(WIDTH)}, catch_exceptions=False
    )
    return "\n".join(line.rstrip() for line in result.stdout.splitlines()) + "\n"


def _svg(renderable: RenderableType) -> str:
    console = Console(
        width=WIDTH, file=io.StringIO(), record=True, color_system="truecolor", legacy_windows=False
    )
    console.print(renderable)
    picture = console.export_svg(
        title="budget-guard plan policies/full-feed.yaml --month 2026-11",
        code_format=SVG_FORMAT,
        unique_id="plan",
    )
    return "\n".join(line.rstrip() for line in picture.splitlines()) + "\n"


def _review() -> str:
    policy = load_policy(ROOT / "policies" / "nq-futures.yaml")
    planned = _plan("nq-futures").total
    with TemporaryDirectory() as folder:
        ledger = open_ledger(f"sqlite:///{folder}/ledger.sqlite")
        try:
            _fill(ledger)
            assert planned is not None
            month = review(policy, ledger, MONTH, now=AFTER, plan_usd=usd_from_nano(planned.p50))
            return render_of_review.render_markdown(month)
        finally:
            ledger.close()


def _fill(ledger: Ledger) -> None:
    """A month of five streamed days, one of which ended unclean, and two refused downloads."""
    for day, size_mib in zip((16, 17, 18, 19, 20), SIZES_MIB, strict=True):
        _spend(ledger, datetime(2026, 11, day, 14, 25, tzinfo=UTC), size_mib << 20, broken=day == 18)
    for number, cents in ((1, 1742), (2, 1742)):
        ledger.record_refusal(
            Refusal(
                id=f"refused-{number}",
                at_utc=datetime(2026, 11, 19, 16, number, tzinfo=UTC),
                account="desk",
                stream="nq-mbo",
                dataset="GLBX.MDP3",
                schema="mbo",
                mode="historical",
                code="would_exceed",
                decision='{"verdict": "deny", "reasons": []}',
                asked_nano_usd=cents * 10**7,
            )
        )


def _spend(ledger: Ledger, opened: datetime, size_bytes: int, *, broken: bool) -> None:
    price = Decimal("2.16")
    residual = 6 << 20 if broken else 0
    cost, total = cost_nano_usd(size_bytes, price), cost_nano_usd(size_bytes + residual, price)
    key = BalanceKey("desk", "account", "month", datetime(2026, 11, 1, tzinfo=UTC), "usd")
    hold = f"live-{opened:%d}"
    terms = HoldTerms(
        hold, "desk", "nq-mbo", "GLBX.MDP3", "mbo", "live", hold, MONTH, price, "the account's list_unit_prices",
        8 << 20, "desk-1", None, opened,
    )  # fmt: skip
    ledger.open_hold(terms, [key], lambda _balances: Posting((Claim(key, 0, total),)))
    ledger.activate(hold)
    entry = Entry(
        f"{hold}:1", hold, "desk", "nq-mbo", "GLBX.MDP3", "mbo", "live", MONTH, opened,
        opened + timedelta(hours=6, minutes=40), size_bytes, 0, price, "the account's list_unit_prices", cost,
        residual, total - cost, "residual" if broken else "exact", "window",
    )  # fmt: skip
    ledger.settle(hold, {key: total}, [entry])


def write_examples() -> None:
    for name, text in make_examples().items():
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_examples()
