"""Shuffle the lines of a file in memory with polars: INPUT OUTPUT."""

import importlib
import sys

polars = importlib.import_module("polars")  # only in the peers' environment

source, target = sys.argv[1:]
lines = polars.read_lines(source, name="line").sample(fraction=1.0, shuffle=True, seed=1)
lines.write_csv(target, include_header=False, quote_style="never", separator="\x01")
