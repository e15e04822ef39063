"""A program of one host of the team: the vendor's client, which waits for a word before it streams.

`python client.py plain` is unchanged (`run` points it at the guard); `mounted` asks for `budget_guard.Live`.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import databento


def make_client(mode: str) -> Any:
    if mode == "mounted":
        import budget_guard

        return budget_guard.Live(policy=os.environ["TEAM_POLICY"])
    return databento.Live()


def main() -> None:
    client = make_client(sys.argv[1])
    client.subscribe("GLBX.MDP3", "mbo", "NQ.v.0", "continuous")
    client.add_callback(lambda _record: None)
    print(os.getpid(), flush=True)
    sys.stdin.readline()
    client.start()
    client.block_for_close()


if __name__ == "__main__":
    main()
