"""The vendor's own client, counting what it is given: the program that is run with and without the guard.

`python client.py MODE SECONDS [SCHEMA ...]`: MODE is `plain` (`databento.Live()`, pointed elsewhere by BENCH_GATEWAY or
by the guard) or `mounted` (`budget_guard.Live`); the schema is mbo unless others are named. It prints its process id
once records flow, and a JSON line at the end: records, seconds, and the seconds of CPU that it used for them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import databento

WARM_UP_S = 1.0
MARKET_DATA = (databento.MBOMsg, databento.TradeMsg, databento.MBP1Msg)


class Counter:
    """Counts records from `WARM_UP_S` after the first on, for a number of seconds; then stops the client."""

    def __init__(self, client: Any, seconds: float) -> None:
        self._client = client
        self._seconds = seconds
        self._begins = 0.0
        self._ends = 0.0
        self.records = 0
        self.seconds = 0.0
        self._cpu_s = 0.0

    def take(self, record: object) -> None:
        if not isinstance(record, MARKET_DATA):
            return
        self.records += 1
        # A look at the clock at every record would be part of what is measured.
        if self.records % 1024 == 1:
            self._look()

    def _look(self) -> None:
        now = time.perf_counter()
        if not self._begins:
            self._begins = now + WARM_UP_S
            print(os.getpid(), flush=True)
        elif not self._ends and now >= self._begins:
            self._ends, self._begins, self.records = now + self._seconds, now, 0
            self._cpu_s = time.process_time()
        elif self._ends and now >= self._ends and not self.seconds:
            self.seconds = now - self._begins
            self._counted = self.records
            self._cpu_s = time.process_time() - self._cpu_s
            self._client.terminate()

    def result(self) -> dict[str, float]:
        return {"records": self._counted, "seconds": self.seconds, "cpu_s": self._cpu_s}


def make_client(mode: str) -> Any:
    if mode == "mounted":
        import budget_guard

        return budget_guard.Live(policy=os.environ["BENCH_POLICY"])
    if "BENCH_GATEWAY" in os.environ:
        host, _, port = os.environ["BENCH_GATEWAY"].rpartition(":")
        return databento.Live(gateway=host, port=int(port))
    return databento.Live()


def main() -> None:
    mode, seconds = sys.argv[1], float(sys.argv[2])
    schemas = sys.argv[3:] or ["mbo"]
    client = make_client(mode)
    counter = Counter(client, seconds)
    for schema in schemas:
        client.subscribe("GLBX.MDP3", schema, "NQ.v.0", "continuous")
    client.add_callback(counter.take)
    client.start()
    client.block_for_close()
    if counter.seconds:
        print(json.dumps(counter.result()), flush=True)


if __name__ == "__main__":
    main()
