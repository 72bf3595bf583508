"""The shuffle as a few obvious lines: what the core is held to.

Everything here is slow and plain on purpose. Records are those of ``bytes.split``,
keys are NumPy's Philox words, the order is a stable argsort.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_128_intdigest

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


def reference_digest(records: Iterable[bytes]) -> int:
    """Return the order-free digest of records that come without their delimiters."""
    return sum(map(xxh3_128_intdigest, records)) % 2**128
