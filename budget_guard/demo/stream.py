"""An ordinary Databento program. It knows nothing of budget-guard."""

import databento as db

count = 0


def on_record(record: db.DBNRecord) -> None:
    global count
    if isinstance(record, db.MBOMsg):
        count += 1


client = db.Live()
client.subscribe(dataset="GLBX.MDP3", schema="mbo", symbols=["NQ.v.0"], stype_in="continuous")
client.add_callback(on_record)
client.start()
try:
    client.block_for_close()
    print(f"the stream was closed after {count:,} records")
except db.BentoError as error:
    print(f"{count:,} records, then {type(error).__name__}: {error}")
