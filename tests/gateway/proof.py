"""What the guard makes of every fault, measured: docs/faults.md.

`python -m tests.gateway.proof` writes the page anew, in some minutes; with `--faults` (names, separated by commas) it
prints the lines of those instead. It has to be a process of its own: each fault is tried in a fork of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from budget_guard.render.tables import markdown_table
from budget_guard.sandbox.faults.model import KINDS
from tests.gateway.proving import guarded_outcome_of
from tests.sandbox.proving.faults import cases_of, outcomes
from tests.sandbox.proving.outcomes import Outcome

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"

_HEAD = """# Every fault, without the guard and with it

The official Python client (databento 0.87), unchanged, against every [fault](sandbox.md#faults) of the
[sandbox](sandbox.md): alone, and with the gateway between them. The page is written by `python -m tests.gateway.proof`;
a test measures a part of it anew.

- Live: mbo of NQ at 1,000 records a second for three seconds. Faults of a stream strike after 500 records, switches
  after 1,000. The program has a *callback* and waits in `block_for_close`, or is a *loop* over the client.
  *Reconnecting* is `reconnect_policy="reconnect"`: logins are then struck as a lost connection is opened again. The
  policy allows `recovery: {replay: 15m}`.
- Requests: ten seconds of mbo, 4,434 records, asked for once before the fault and once with it.
- *Lost* are records that the market had, also while nobody was connected, and that no client decoded. After each
  guarded case the gateway is closed and the ledger compared with the sandbox's bill; where the ledger did not cover the
  bill, the row says so in bold. Seconds are cut to fives.
- A vendor that sends heartbeats and no data of an open market is left after two minutes
  ([reconnecting](reconnecting.md#heartbeats-without-data)); here after a second of the market.
- What no guard can know: a price that the vendor changes under an open connection (prices are read as a guard starts,
  every hour, and when a quote is above them), records that come twice or late within a stream, and what the vendor
  leaves out of a replay that the client itself asked for.

"""
_NOTHING = "–"


def fault_lines(faults: Iterable[str]) -> list[str]:
    """The table. Each fault is tried twice; where the same came of it, places share a row."""
    cases = [case for fault in faults for case in cases_of(fault)]
    alone, guarded = outcomes(cases), outcomes(cases, guarded_outcome_of)
    head = ("fault", "where", "the client alone", "records", "behind the guard", "records")
    rows: dict[tuple[Outcome, Outcome], list[str]] = {}
    for one, other in zip(alone, guarded, strict=True):
        rows.setdefault((_anywhere(one), _anywhere(other)), []).append(one.where)
    return markdown_table(
        head,
        [
            (
                f"`{one.fault}`",
                "; ".join(places),
                one.does,
                one.records or _NOTHING,
                other.does,
                other.records or _NOTHING,
            )
            for (one, other), places in rows.items()
        ],
        right=[],
    )


def _anywhere(outcome: Outcome) -> Outcome:
    """The outcome without where, and without the bytes that were billed and not delivered."""
    return replace(outcome, where="", beyond=None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=lambda text: text.split(","), default=[])
    options = parser.parse_args()
    lines = fault_lines(options.faults or KINDS)
    if options.faults:
        print("\n".join(lines))
    else:
        PAGE.write_text(_HEAD + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
