"""Iterate over a file in batches through a shuffle buffer: INPUT OUTPUT BUFFER BATCH_RECORDS.

This is what loaders for training do: hold so many lines, and for each new one give away one of them
at random. Prints, as JSON, how many records and bytes there were. An OUTPUT other than ``-`` gets
them all.
"""

import contextlib
import json
import random
import sys
from collections.abc import Iterator


def shuffled(source: str, buffer_records: int) -> Iterator[bytes]:
    """Yield the lines in the order of a shuffle buffer."""
    rng = random.Random(1)
    buffer: list[bytes] = []
    with open(source, "rb") as lines:
        for line in lines:
            if len(buffer) < buffer_records:
                buffer.append(line)
                continue
            place = int(rng.random() * buffer_records)
            yield buffer[place]
            buffer[place] = line
    rng.shuffle(buffer)
    yield from buffer


def batches(lines: Iterator[bytes], records: int) -> Iterator[list[bytes]]:
    """Yield lists of so many lines; the last may be shorter."""
    batch = []
    for line in lines:
        batch.append(line)
        if len(batch) == records:
            yield batch
            batch = []
    if batch:
        yield batch


def main(source: str, target: str, buffer_records: int, batch_records: int) -> None:
    """Go through all batches once."""
    records = size = 0
    with open(target, "wb") if target != "-" else contextlib.nullcontext() as output:
        for batch in batches(shuffled(source, buffer_records), batch_records):
            records += len(batch)
            size += sum(map(len, batch))
            if output is not None:
                output.writelines(batch)
    print(json.dumps({"records": records, "bytes": size}))


main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
