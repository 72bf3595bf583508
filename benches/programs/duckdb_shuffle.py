"""Shuffle the lines of files with DuckDB: OPTIONS OUTPUT INPUT...

The delimiter is a byte that no corpus holds and quoting is off, so a line is one value. The longest
line stays at the reader's default of 2 MB: a larger one makes it ask for buffers that a limit of
512 MiB does not have.
"""

import argparse
import importlib

duckdb = importlib.import_module("duckdb")  # only in the peers' environment

parser = argparse.ArgumentParser(allow_abbrev=False)
parser.add_argument("--memory-limit", required=True)
parser.add_argument("--temp-directory", required=True)
parser.add_argument("--threads", type=int, required=True)
parser.add_argument("--stored", default="none", help="how the inputs are compressed")
parser.add_argument("--compress", default="none", help="how to compress the output")
parser.add_argument("--head", type=int, help="only so many lines of the random order")
parser.add_argument("--sample", type=int, help="only a sample of so many lines, in any order")
parser.add_argument("target")
parser.add_argument("sources", nargs="+")
options = parser.parse_args()

connection = duckdb.connect(
    config={
        "memory_limit": options.memory_limit,
        "temp_directory": options.temp_directory,
        "threads": options.threads,
        "preserve_insertion_order": False,
    }
)
connection.execute("SELECT setseed(0.5)")
order = "ORDER BY random()"
if options.head is not None:
    order += f" LIMIT {options.head}"
if options.sample is not None:
    order = f"USING SAMPLE reservoir({options.sample} ROWS)"
sources = ", ".join(f"'{source}'" for source in options.sources)
connection.execute(
    f"""
    COPY (
        SELECT line
        FROM read_csv(
            [{sources}], columns = {{'line': 'VARCHAR'}}, header = false, auto_detect = false,
            delim = '\x01', quote = '', escape = '', compression = '{options.stored}'
        )
        {order}
    ) TO '{options.target}' (
        FORMAT csv, HEADER false, DELIMITER '\x01', QUOTE '', ESCAPE '',
        COMPRESSION {options.compress}
    )
    """
)
