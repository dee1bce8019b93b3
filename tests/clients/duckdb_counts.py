"""Counts the rows of Cordon's tables with DuckDB and its delta extension, from a data folder.

Usage: duckdb_counts.py DATA. Prints one JSON object: table to count, and for each stream of
`events` how many there are and the sequence number of the last.
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


def scan(table):
    return f"delta_scan('{base}/tables/{table}')"


counts = {
    table: db.execute(f"SELECT count(*) FROM {scan(table)}").fetchone()[0]
    for table in ("calls", "attempts", "decisions")
}
streams = db.execute(f"SELECT stream_id, count(*), max(seq) FROM {scan('events')} GROUP BY 1")
counts["streams"] = {
    str(stream): {"events": events, "last": last} for stream, events, last in streams.fetchall()
}
print(json.dumps(counts))
