"""Counts the rows of Cordon's tables with DuckDB and its delta extension, from a data folder.

Usage: duckdb_counts.py DATA. Prints one JSON object: table to count.
"""

import glob
import json
import os
import sys

import duckdb
import duckdb_extension_delta

base = sys.argv[1]
package = os.path.dirname(duckdb_extension_delta.__file__)
(extension,) = glob.glob(f"{package}/extensions/v{duckdb.__version__}/delta.duckdb_extension")
db = duckdb.connect()
db.execute(f"LOAD '{extension}'")
counts = {
    table: db.execute(f"SELECT count(*) FROM delta_scan('{base}/tables/{table}')").fetchone()[0]
    for table in ("events", "calls", "attempts", "decisions")
}
print(json.dumps(counts))
