"""A small strategy with a past: it warms up on history, asks for too much of it once, and then trades the live stream.

It uses the vendor's clients as anybody would, and nothing in it knows of a guard, a sandbox or a rehearsal:

    budget-guard rehearse policies/nq-futures.yaml --days 5 -- python docs/examples/my_desk.py
"""

from datetime import datetime, timedelta

import databento

NQ = {"dataset": "GLBX.MDP3", "schema": "mbo", "symbols": "NQ.v.0", "stype_in": "continuous"}
LOOK_BACK = 200
SCALE = 1e9

history = databento.Historical()
# What is no older than a licence allows; a rehearsal's market has its own time.
end = datetime.fromisoformat(history.metadata.get_dataset_range(NQ["dataset"])["end"][:19] + "+00:00")
warm_up = history.timeseries.get_range(**NQ, start=end - timedelta(minutes=10), end=end)
prices = [record.price / SCALE for record in warm_up if record.action == "T"][-LOOK_BACK:]
print(f"warmed up on {len(prices)} trades before {end:%Y-%m-%d %H:%M}")
try:
    history.timeseries.get_range(**NQ, start=end - timedelta(days=28), end=end)
except databento.BentoError as error:
    print(f"no month of it: {str(error).splitlines()[0][:120]}")

client = databento.Live()
client.subscribe(**NQ)
position, entered, made, trades = 0, 0.0, 0.0, 0
for record in client:
    if not isinstance(record, databento.MBOMsg) or record.action != "T":
        continue
    prices.append(record.price / SCALE)
    del prices[:-LOOK_BACK]
    wanted = (prices[-1] > prices[0]) - (prices[-1] < prices[0])
    if len(prices) == LOOK_BACK and wanted != position:
        made += position * (prices[-1] - entered)
        position, entered, trades = wanted, prices[-1], trades + 1

print(f"{trades} trades made {made:+.2f} points")
