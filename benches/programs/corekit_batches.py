"""Iterate over a shuffled file in batches with corekit: INPUT OUTPUT MEMORY_LIMIT BATCH_RECORDS.

Prints, as JSON, how many records there were, and bytes as lines. An OUTPUT other than ``-`` gets
them all.
"""

import contextlib
import importlib
import json
import sys

shuffle = importlib.import_module("corekit.shuffle")

source, target, memory_limit, batch_records = sys.argv[1:]
records = size = 0
with open(target, "wb") if target != "-" else contextlib.nullcontext() as output:
    reader = shuffle.ShuffledReader(source, seed=1, memory_limit=memory_limit)
    for batch in reader.iter_batches(int(batch_records)):
        records += len(batch)
        size += batch.data.nbytes + len(batch)
        if output is not None:
            output.writelines(record + b"\n" for record in batch)
print(json.dumps({"records": records, "bytes": size}))
