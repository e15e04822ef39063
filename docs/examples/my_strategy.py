"""A small strategy: buys when trades run up, sells when they run down, and counts what it would have made.

It uses the vendor's client as anybody would. Nothing in it knows of a guard, a sandbox or a rehearsal:

    budget-guard rehearse policies/nq-futures.yaml --days 2 -- python docs/examples/my_strategy.py
    budget-guard run policies/nq-futures.yaml -- python docs/examples/my_strategy.py
"""

import databento

LOOK_BACK = 200
SCALE = 1e9

client = databento.Live()
client.subscribe(dataset="GLBX.MDP3", schema="mbo", symbols="NQ.v.0", stype_in="continuous")

prices: list[float] = []
position, entered, made, trades = 0, 0.0, 0.0, 0
first = last = None
for record in client:
    if not isinstance(record, databento.MBOMsg):
        continue
    first, last = first or record.ts_event, record.ts_event
    if record.action != "T":
        continue
    prices.append(record.price / SCALE)
    del prices[:-LOOK_BACK]
    wanted = (prices[-1] > prices[0]) - (prices[-1] < prices[0])
    if len(prices) == LOOK_BACK and wanted != position:
        made += position * (prices[-1] - entered)
        position, entered, trades = wanted, prices[-1], trades + 1

print(f"{trades} trades made {made:+.2f} points between {first} and {last}")
