"""The shuffle as a few obvious lines: what the core is held to.

Everything here is slow and plain on purpose. Records are those of ``bytes.split``,
keys are NumPy's Philox words, the order is a stable argsort.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_128_intdigest

T = TypeVar("T")

ALL_BITS = (1 << 64) - 1


def split_records(data: bytes, delimiter: bytes = b"\n") -> list[bytes]:
    """Return the records of one input, without their delimiters.

    The end of the input closes the last record. A tail that ends in the beginning
    of a delimiter is a record and an unfinished delimiter: what is missing is added,
    so the longest such ending is not part of the record.
    """
    *records, tail = data.split(delimiter)
    if tail:
        for length in range(len(delimiter) - 1, 0, -1):
            if tail.endswith(delimiter[:length]):
                tail = tail[:-length]
                break
        records.append(tail)
    return records


def reference_keys(n: int, seed: int, *, stream: int = 0, epoch: int = 0) -> npt.NDArray[np.uint64]:
    """Return the keys of the n records of input number `stream`."""
    counter = np.array([0, 0, stream, epoch], dtype=np.uint64)
    return np.random.Philox(key=seed, counter=counter).random_raw(n)


def reference_order(
    records_per_input: Sequence[int], seed: int, *, epoch: int = 0, key_mask: int = ALL_BITS
) -> npt.NDArray[np.int64]:
    """Return the positions of all records, the inputs one after another, in output order.

    `key_mask` keeps some bits of each key only, so that ties are common: they
    are broken by input, then by position, which is what a stable sort does.
    """
    keys = [
        reference_keys(n, seed, stream=stream, epoch=epoch)
        for stream, n in enumerate(records_per_input)
    ]
    masked = np.concatenate(keys) & np.uint64(key_mask)
    return np.argsort(masked, kind="stable")


def reference_shuffle(
    inputs: Sequence[bytes],
    seed: int,
    *,
    delimiter: bytes = b"\n",
    sample: int | None = None,
    epoch: int = 0,
    key_mask: int = ALL_BITS,
) -> bytes:
    """Return the bytes that a shuffle of these inputs must write."""
    per_input = [split_records(data, delimiter) for data in inputs]
    records = [record for part in per_input for record in part]
    order = reference_order([len(part) for part in per_input], seed, epoch=epoch, key_mask=key_mask)
    return b"".join(records[position] + delimiter for position in order[:sample])


def reference_parts(
    inputs: Sequence[Sequence[T]],
    seed: int,
    *,
    cuts: Sequence[int] = (1 << 64,),
    epoch: int = 0,
    key_mask: int = ALL_BITS,
) -> list[list[T]]:
    """Return the records of each part of the key space, in an epoch's order.

    Part p has the records whose keys of epoch 0, whatever the epoch, are below cut p and
    not below the one before; what is not below any cut is in no part.
    """
    parts: list[list[T]] = [[] for _ in cuts]
    counts = [len(records) for records in inputs]
    firsts = [
        int(key) & key_mask
        for stream, n in enumerate(counts)
        for key in reference_keys(n, seed, stream=stream)
    ]
    records = [record for part in inputs for record in part]
    for position in reference_order(counts, seed, epoch=epoch, key_mask=key_mask):
        number = bisect.bisect_right(cuts, firsts[position])
        if number < len(cuts):
            parts[number].append(records[position])
    return parts


def reference_shards(
    records: Sequence[bytes],
    *,
    delimiter: bytes = b"\n",
    shards: int | None = None,
    shard_records: int | None = None,
    shard_bytes: int | None = None,
) -> list[list[bytes]]:
    """Return the records of each file that these records are cut into."""
    n = len(records)
    if shards is not None:
        return [list(records[i * n // shards : (i + 1) * n // shards]) for i in range(shards)]
    if shard_records is not None:
        starts = range(0, max(n, 1), shard_records)
        return [list(records[i : i + shard_records]) for i in starts]
    if shard_bytes is None:
        return [list(records)]
    files: list[list[bytes]] = [[]]
    at = 0
    for record in records:
        # A file in which no record begins is there all the same, and empty.
        files += ([] for _ in range(at // shard_bytes + 1 - len(files)))
        files[-1].append(record)
        at += len(record) + len(delimiter)
    return files


def reference_digest(records: Iterable[bytes]) -> int:
    """Return the order-free digest of records that come without their delimiters."""
    return sum(map(xxh3_128_intdigest, records)) % 2**128
