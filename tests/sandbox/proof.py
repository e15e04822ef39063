"""What the sandbox is worth as a judge, measured: docs/sandbox-proof.md.

`python -m tests.sandbox.proof` writes the page anew, in a minute or two; tests hold a part of it true. With `--schemas`
or `--faults` (names, separated by commas) it prints the lines of those instead. It has to be a process of its own: each
fault is tried in a fork of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from budget_guard.render.tables import markdown_table
from budget_guard.sandbox.faults.model import KINDS
from budget_guard.sandbox.market.records import SPECS
from tests.sandbox.proving.faults import cases_of, outcomes
from tests.sandbox.proving.outcomes import Outcome
from tests.sandbox.proving.ways import Row, measure, merged

PAGE = Path(__file__).parents[2] / "docs" / "sandbox-proof.md"

_HEAD = """# The sandbox, proven

Two tables, measured with the official Python client (databento 0.87), unchanged, against a [sandbox](sandbox.md) on
this machine. The page is written by `python -m tests.sandbox.proof`; tests measure a part of it anew.

"""

_WAYS = """## Every schema, every way

Records that the market has in the range, records and bytes that the client decoded, bytes that were billed. *Control*
are mappings, system messages and errors of a live session: decoded and billed, apart from the rest. `equal` stands
where all of it agrees and the records are the market's own, byte for byte (the time of sending aside). Ways with the
same figures share a row.

- Futures (NQ.v.0 and ES.v.0 at 10,000 and 4,000 records a session) and stocks over four days with a weekend and a
  roll, schemas of a second over an hour, options over ten minutes.
- Live data has what is published in the range: a bar when its interval is over, so the first bars are those of just
  before. The replays ask for the same records; their reach is widened for it.
- `get_range` always asks for zstd; the request without compression is ours, read by the client's `DBNStore`. `quote`
  is `get_record_count` and `get_billable_size`: nothing is billed.

"""

_FAULTS = """## Every fault, and the client by itself

What a program with the client alone sees of each [fault](sandbox.md#faults). Nothing stands between it and the sandbox.

- Live: mbo of NQ at 1,000 records a second. Faults of a stream strike after 500 records, switches after 1,000. The
  program has a *callback* and waits in `block_for_close`, or is a *loop* over the client. *Reconnecting* is
  `reconnect_policy="reconnect"`: logins are then struck as the client comes back from a reset. Heartbeats are asked for
  every 5 s. `slow_link` and `delay` last a second.
- Requests: ten seconds of mbo, 4,434 records.
- *Lost* are records that the market had, also while a client was away, and that no client decoded; the last column
  counts bytes that were billed and never decoded. Seconds are cut to fives.

"""

_NO_RECORDS = "–"


def way_lines(schemas: Iterable[str]) -> list[str]:
    """The first table. Each schema is measured."""
    head = ("schema", "way", "market", "decoded", "bytes decoded", "billed", "control", "billed", "")
    rows = [_way_cells(row) for schema in schemas for row in merged(measure(schema))]
    return markdown_table(head, rows, right=range(2, 8))


def _way_cells(row: Row) -> tuple[str, ...]:
    figures = (
        row.market_records,
        row.records,
        row.size_bytes,
        row.billed_bytes,
        row.control_bytes,
        row.control_billed,
    )
    shown = [_NO_RECORDS if figure is None else f"{figure:,}" for figure in figures]
    return (f"`{row.schema}`", "; ".join(row.ways), *shown, "equal" if row.equal else "**differs**")


def fault_lines(faults: Iterable[str]) -> list[str]:
    """The second table. Each fault is tried; where the same came of it, places share a row."""
    cases = [case for fault in faults for case in cases_of(fault)]
    head = ("fault", "where", "the client does", "records lost or doubled", "billed beyond delivered")
    rows = [
        (f"`{one.fault}`", one.where, one.does, one.records or _NO_RECORDS, one.billed or _NO_RECORDS)
        for one in _shared(outcomes(cases))
    ]
    return markdown_table(head, rows, right=[4])


def _shared(found: Sequence[Outcome]) -> list[Outcome]:
    where: dict[Outcome, list[str]] = {}
    for one in found:
        where.setdefault(replace(one, where=""), []).append(one.where)
    return [replace(one, where="; ".join(places)) for one, places in where.items()]


def page_text() -> str:
    """The whole page."""
    # Faults first: clients leave threads behind, and a process that forks may not have any.
    faults = fault_lines(KINDS)
    ways = way_lines(SPECS)
    return _HEAD + _WAYS + "\n".join(ways) + "\n\n" + _FAULTS + "\n".join(faults) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schemas", type=lambda text: text.split(","), default=[])
    parser.add_argument("--faults", type=lambda text: text.split(","), default=[])
    options = parser.parse_args()
    if options.faults:
        print("\n".join(fault_lines(options.faults)))
    if options.schemas:
        print("\n".join(way_lines(options.schemas)))
    if not options.faults and not options.schemas:
        PAGE.write_text(page_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
