"""An ordinary Databento program that asks for a minute of history, and then for a month of it."""

import databento as db

client = db.Historical()


def fetch(start: str, end: str) -> db.DBNStore:
    return client.timeseries.get_range(
        dataset="GLBX.MDP3",
        schema="mbo",
        symbols=["NQ.v.0"],
        stype_in="continuous",
        start=start,
        end=end,
    )


minute = fetch("2026-11-20T15:00", "2026-11-20T15:01")
print(f"one minute: {sum(1 for _ in minute):,} records")

try:
    fetch("2026-10-20", "2026-11-20")
    print("one month: bought")
except db.BentoError as error:
    print(f"one month: {type(error).__name__}: {error}")
