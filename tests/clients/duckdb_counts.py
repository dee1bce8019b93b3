"""Counts the rows of Cordon's tables with DuckDB and its delta extension, from a data folder.

Usage: duckdb_counts.py DATA. Prints one JSON object: table to count.
"""

import json
import sys

import duckdb
from duckdb_extensions import import_extension

import_extension("delta")
base = sys.argv[1]
db = duckdb.connect()
db.execute("LOAD delta")
counts = {
    table: db.execute(f"SELECT count(*) FROM delta_scan('{base}/tables/{table}')").fetchone()[0]
    for table in ("events", "calls", "attempts", "decisions")
}
print(json.dumps(counts))
