"""Shuffle the lines of a file with DuckDB: INPUT OUTPUT MEMORY_LIMIT TEMP_DIRECTORY THREADS.

The delimiter is a byte that no corpus holds and quoting is off, so a line is one value. The longest
line stays at the reader's default of 2 MB: a larger one makes it ask for buffers that a limit of
512 MiB does not have.
"""

import importlib
import sys

duckdb = importlib.import_module("duckdb")  # only in the peers' environment

source, target, memory_limit, temp_directory, threads = sys.argv[1:]
connection = duckdb.connect(
    config={
        "memory_limit": memory_limit,
        "temp_directory": temp_directory,
        "threads": int(threads),
        "preserve_insertion_order": False,
    }
)
connection.execute("SELECT setseed(0.5)")
connection.execute(
    f"""
    COPY (
        SELECT line
        FROM read_csv(
            '{source}', columns = {{'line': 'VARCHAR'}}, header = false, auto_detect = false,
            delim = '\x01', quote = '', escape = ''
        )
        ORDER BY random()
    ) TO '{target}' (FORMAT csv, HEADER false, DELIMITER '\x01', QUOTE '', ESCAPE '')
    """
)
