"""Iterate over a shuffled file in batches with corekit: INPUT OUTPUT MEMORY_LIMIT BATCH_RECORDS.

Prints, as JSON, how many records and bytes there were. An OUTPUT other than ``-`` gets them all.
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
        records += len(batch.offsets) - 1
        size += memoryview(batch.data).nbytes
        if output is not None:
            output.write(batch.data)
print(json.dumps({"records": records, "bytes": size}))
