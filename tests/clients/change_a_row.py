"""Changes the outcome of one call in the Parquet files of a table, as a forger would.

Usage: change_a_row.py TABLE CALL_ID.
"""

import os
import sys

import duckdb

table, call_id = sys.argv[1:3]
changed = 0
for root, _, names in os.walk(table):
    for name in names:
        if not name.endswith(".parquet") or "_delta_log" in root:
            continue
        path = os.path.join(root, name)
        db = duckdb.connect()
        db.execute(f"CREATE TABLE t AS SELECT * FROM read_parquet('{path}', hive_partitioning=false)")
        found = db.execute("SELECT count(*) FROM t WHERE call_id = ?", [call_id]).fetchone()[0]
        if found:
            db.execute("UPDATE t SET outcome = 'denied' WHERE call_id = ?", [call_id])
            db.execute(f"COPY t TO '{path}' (FORMAT parquet)")
            changed += found
sys.exit(0 if changed else "no row with that call")
