"""Every schema in every way in which the official client can get it: records, bytes and bill against the market.

The client is the vendor's own, unchanged. Time is moved by hand, so that a run is the same every time.
"""

from __future__ import annotations

import base64
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import databento
import databento_dbn as dbn
import numpy as np
import requests

from budget_guard.clock import SteppedClock, ns_from_instant
from budget_guard.sandbox.config import Limits, SandboxConfig
from budget_guard.sandbox.market.model import Selection
from budget_guard.sandbox.market.records import SPECS
from budget_guard.sandbox.prices import DEFAULT_PRICES, DatasetPrices
from budget_guard.sandbox.server import Sandbox, running_sandbox

TIMEOUT_S = 60.0
CONTROL = (dbn.SystemMsg, dbn.ErrorMsg, dbn.SymbolMappingMsg)
# Four UTC days of futures and stocks: a weekend, a roll, bars of every length, all that comes once a day. What comes
# every second fills an hour as well, and options fill ten minutes.
FOUR_DAYS = (datetime(2026, 12, 11, tzinfo=UTC), datetime(2026, 12, 15, tzinfo=UTC))
HOUR = (datetime(2026, 11, 24, 14, tzinfo=UTC), datetime(2026, 11, 24, 15, tzinfo=UTC))
TEN_MINUTES = (datetime(2026, 11, 24, 15, tzinfo=UTC), datetime(2026, 11, 24, 15, 10, tzinfo=UTC))
# Fewer records than a real day has, so that all of them can be compared.
VOLUMES = {
    (schema, root): volume
    for root, volume in (("NQ", 10_000), ("ES", 4_000))
    for schema in ("mbo", "mbp-1", "mbp-10", "trades")
}
FUTURES = ("GLBX.MDP3", ("NQ.v.0", "ES.v.0"), "continuous")
OPTIONS = ("OPRA.PILLAR", ("SPY   261127C00660000", "SPY   261127P00660000"), "raw_symbol")
STOCKS = ("XNAS.ITCH", ("AAPL", "MSFT"), "raw_symbol")
CONSOLIDATED = frozenset({"cmbp-1", "tcbbo", "cbbo-1s", "cbbo-1m"})
# The bundled prices have none of imbalances: history without a price is not sold.
IMBALANCE_PRICE = Decimal("1.20")
PRICES = {**DEFAULT_PRICES, "XNAS.ITCH": DatasetPrices({"imbalance": IMBALANCE_PRICE})}

LIVE_WAYS: dict[str, dict[str, Any]] = {
    "live": {},
    "live, `ts_out`": {"ts_out": True},
    "live, zstd": {"compression": dbn.Compression.ZSTD},
}
REPLAY = "replay by `start`"
REPLAY_WAYS: dict[str, dict[str, Any]] = {
    REPLAY: {},
    "replay, zstd and `ts_out`": {"compression": dbn.Compression.ZSTD, "ts_out": True},
}


@dataclass(frozen=True, slots=True)
class Case:
    """One schema: what is asked for, `[start, end)`."""

    schema: str
    dataset: str
    symbols: tuple[str, ...]
    stype_in: str
    start: datetime
    end: datetime

    @property
    def asked(self) -> dict[str, Any]:
        """What every API of the client takes."""
        return {
            "dataset": self.dataset,
            "schema": self.schema,
            "symbols": list(self.symbols),
            "stype_in": self.stype_in,
        }

    @property
    def ranged(self) -> dict[str, Any]:
        return {**self.asked, "start": self.start, "end": self.end}


@dataclass(frozen=True, slots=True)
class Row:
    """What one way brought, beside what the market has and the bill says. `same`: the records are the market's.

    None where nothing is decoded, or nothing is billed.
    """

    schema: str
    ways: tuple[str, ...]
    market_records: int
    market_bytes: int
    records: int
    size_bytes: int
    billed_bytes: int | None
    control_bytes: int
    control_billed: int
    same: bool | None

    @property
    def equal(self) -> bool:
        """Whether everything that can be compared is equal."""
        return (
            self.records == self.market_records
            and self.size_bytes == self.market_bytes
            and self.billed_bytes in (None, self.size_bytes)
            and self.control_bytes == self.control_billed
            and self.same in (None, True)
        )


def case_of(schema: str) -> Case:
    """What is asked for to see a schema."""
    if schema in CONSOLIDATED:
        return Case(schema, *OPTIONS, *TEN_MINUTES)
    if schema == "imbalance":
        return Case(schema, *STOCKS, *FOUR_DAYS)
    return Case(schema, *FUTURES, *(HOUR if schema.endswith("-1s") else FOUR_DAYS))


def measure(schema: str) -> list[Row]:
    """One schema in every way: one row for each, in the order in which the page has them."""
    case = case_of(schema)
    clock = SteppedClock(case.start)
    config = SandboxConfig(
        clock=clock,
        rate=None,
        prices=PRICES,
        records_per_session=VOLUMES,
        limits=Limits.none(),
        # The longest replay begins with a bar of the day before.
        replay_limit_s=5 * 86_400 + 60,
        # Time passes at once: nobody is slow by that.
        slow_reader_s=10**6,
    )
    with running_sandbox(config) as sandbox:
        # The first question reads the calendars: here, before the sandbox's own threads ask.
        market_count(sandbox, case)
        rows = _live(sandbox, clock, case)
        rows += _replays(sandbox, case)
        rows += _history(sandbox, case)
        rows.append(_batch(sandbox, clock, case))
    return rows


def merged(rows: Sequence[Row]) -> list[Row]:
    """Rows of a schema with the same figures as one, with all their ways."""
    ways: dict[Row, tuple[str, ...]] = {}
    for row in rows:
        alike = replace(row, ways=())
        ways[alike] = ways.get(alike, ()) + row.ways
    return [replace(row, ways=names) for row, names in ways.items()]


class Taker:
    """A client with a callback that keeps every record's bytes, market data apart from control."""

    def __init__(self, sandbox: Sandbox, case: Case, options: dict[str, Any], start: datetime | None) -> None:
        self.data: list[bytes] = []
        self.control_bytes = 0
        self.replayed = threading.Event()
        self.client = sandbox.live(**options)
        self.client.subscribe(**case.asked, start=start)
        self.client.add_callback(self._take)
        self.client.start()

    def _take(self, record: Any) -> None:
        if isinstance(record, CONTROL):
            self.control_bytes += record.record_size()
            if isinstance(record, dbn.SystemMsg) and record.code == dbn.SystemCode.REPLAY_COMPLETED:
                self.replayed.set()
        else:
            self.data.append(bytes(record))


@contextmanager
def _taking(
    sandbox: Sandbox, case: Case, ways: dict[str, dict[str, Any]], start: datetime | None
) -> Iterator[dict[str, Taker]]:
    """Clients that stream, one for each way; all of them have ended afterwards."""
    takers = {way: Taker(sandbox, case, options, start) for way, options in ways.items()}
    wait_until(lambda: sandbox.live_progress.streaming == len(takers))
    yield takers
    sandbox.close_live()
    for taker in takers.values():
        taker.client.block_for_close(timeout=TIMEOUT_S)


def _live(sandbox: Sandbox, clock: SteppedClock, case: Case) -> list[Row]:
    """The range as live data: all clients at once, from its start to its end."""
    with _taking(sandbox, case, LIVE_WAYS, None) as takers:
        clock.step_to(case.end)
        sandbox.wake()
        wait_until(lambda: sandbox.live_progress.lag_s == 0)
        # Further in the same 10 ms: whoever has looked at the clock again has nothing left to send.
        clock.step_to(case.end + timedelta(microseconds=1))
        sandbox.wake()
        wait_until(lambda: sandbox.live_progress.lag_s == 0)
    return _rows_of(sandbox, case, takers)


def _replays(sandbox: Sandbox, case: Case) -> list[Row]:
    """The same records again, by `start`, after the range's end."""
    with _taking(sandbox, case, REPLAY_WAYS, case.start - _lag(case)) as takers:
        for taker in takers.values():
            assert taker.replayed.wait(TIMEOUT_S)
    return _rows_of(sandbox, case, takers)


def _lag(case: Case) -> timedelta:
    """How long after its stamp a record is published."""
    return timedelta(microseconds=SPECS[case.schema].lag_ns // 1000)


def _rows_of(sandbox: Sandbox, case: Case, takers: dict[str, Taker]) -> list[Row]:
    """What clients took, beside what was published in the range: a bar when its interval is over."""
    lines = _last_lines(sandbox, len(takers))
    published = replace(case, start=case.start - _lag(case), end=case.end - _lag(case))
    expected, count = market_records(sandbox, published), market_count(sandbox, published)
    rows = []
    for line, (way, taker) in zip(lines, takers.items(), strict=True):
        ts_out = "ts_out" in way
        stamp = 8 if ts_out else 0
        rows.append(
            Row(
                case.schema,
                (way,),
                count,
                count * (SPECS[case.schema].size + stamp),
                len(taker.data),
                sum(map(len, taker.data)),
                line["schemas"][case.schema]["bytes"],
                taker.control_bytes,
                line["control_bytes"],
                _sorted(b"".join(_unstamped(taker.data, ts_out=ts_out)), case.schema) == expected,
            )
        )
    return rows


def _history(sandbox: Sandbox, case: Case) -> list[Row]:
    """What a quote says, and downloads: into memory, into a file, and without compression."""
    client = sandbox.historical()
    ends = partial(_stored_row, sandbox, case)
    count = client.metadata.get_record_count(**case.ranged)
    size = client.metadata.get_billable_size(**case.ranged)
    market = market_count(sandbox, case)
    market_bytes = market * SPECS[case.schema].size
    quoted = Row(case.schema, ("quote",), market, market_bytes, count, size, None, 0, 0, None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "range.dbn.zst")
        rows = [
            ends("`get_range`", client.timeseries.get_range(**case.ranged)),
            ends("`get_range` to a file", client.timeseries.get_range(**case.ranged, path=path)),
            ends("HTTP without compression", _plain(sandbox, case)),
        ]
    return [quoted, *rows]


def _batch(sandbox: Sandbox, clock: SteppedClock, case: Case) -> Row:
    """A job, and its data files."""
    batch = sandbox.historical().batch
    job = batch.submit_job(**case.ranged, split_duration="day")
    clock.step_to(case.end + timedelta(minutes=1))
    with tempfile.TemporaryDirectory() as folder:
        paths = [path for path in batch.download(job["id"], Path(folder)) if path.name.endswith(".dbn.zst")]
        data = b"".join(_bytes_of(databento.DBNStore.from_file(path)) for path in sorted(paths))
    return _data_row(sandbox, case, "batch", data)


def _plain(sandbox: Sandbox, case: Case) -> databento.DBNStore:
    """The client always asks for zstd: a request of our own, read with its reader."""
    form = {
        **case.ranged,
        "symbols": ",".join(case.symbols),
        "start": case.start.isoformat(),
        "end": case.end.isoformat(),
        "encoding": "dbn",
        "compression": "none",
    }
    token = base64.b64encode(f"{sandbox.key}:".encode()).decode()
    answer = requests.post(
        f"{sandbox.http_url}/v0/timeseries.get_range",
        data=form,
        headers={"Authorization": f"Basic {token}"},
        timeout=TIMEOUT_S,
    )
    answer.raise_for_status()
    return databento.DBNStore.from_bytes(answer.content)


def _stored_row(sandbox: Sandbox, case: Case, way: str, store: databento.DBNStore) -> Row:
    return _data_row(sandbox, case, way, _bytes_of(store))


def _data_row(sandbox: Sandbox, case: Case, way: str, data: bytes) -> Row:
    (line,) = _last_lines(sandbox, 1)
    count = market_count(sandbox, case)
    size = SPECS[case.schema].size
    return Row(
        case.schema,
        (way,),
        count,
        count * size,
        len(data) // size,
        len(data),
        line["schemas"][case.schema]["bytes"],
        0,
        line["control_bytes"],
        _sorted(data, case.schema) == market_records(sandbox, case),
    )


def _bytes_of(store: databento.DBNStore) -> bytes:
    try:
        return store.to_ndarray().tobytes()
    finally:
        store.reader.close()


def market_count(sandbox: Sandbox, case: Case) -> int:
    """How many records the market says it has in a range."""
    return sandbox.market.count(_selection(case), ns_from_instant(case.start), ns_from_instant(case.end))


def market_records(sandbox: Sandbox, case: Case) -> bytes:
    """The market's own records of a range, sorted as bytes: what every way has to bring."""
    parts = sandbox.market.parts(_selection(case), ns_from_instant(case.start), ns_from_instant(case.end))
    return _sorted(b"".join(part.rows.tobytes() for part in parts), case.schema)


def _selection(case: Case) -> Selection:
    return Selection(case.dataset, case.schema, case.symbols, case.stype_in)


def _sorted(data: bytes, schema: str) -> bytes:
    size = SPECS[schema].size
    if len(data) % size:
        return b""
    return np.sort(np.frombuffer(data, dtype=f"S{size}")).tobytes()


def _unstamped(records: list[bytes], *, ts_out: bool) -> list[bytes]:
    """Records without their time of sending."""
    if not ts_out:
        return records
    return [bytes((record[0] - 2,)) + record[1:-8] for record in records]


def _last_lines(sandbox: Sandbox, count: int) -> list[dict[str, Any]]:
    """The bill's last lines, once they are closed."""
    bill = sandbox.wait_for(lambda bill: all(line["closed_utc"] for line in bill["connections"][-count:]))
    lines: list[dict[str, Any]] = bill["connections"][-count:]
    return lines


def wait_until(holds: Callable[[], object], timeout_s: float = TIMEOUT_S) -> None:
    """Until something is true that nobody announces. Raises TimeoutError."""
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"it did not come to that in {timeout_s} s")
        time.sleep(0.002)
