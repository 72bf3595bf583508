"""Prove that a shuffled file holds the records of its corpus, each once, in another order.

A tool that loses a line is fast, so no time counts before its output has passed. The check is the
bench's own and shares no code with what it judges. A line ``b[0] .. b[n-1]`` (newline included)
is hashed as the polynomial

    h = b[0] + b[1] r + b[2] r^2 + ...   modulo 2^64,   r odd,

then mixed by the finaliser of SplitMix64. A chunk of the file is multiplied byte by byte with a
table of powers and added up line by line, which gives ``r^s h`` for a line that starts ``s`` bytes
into the chunk; the inverse power takes ``r^s`` away. So every step is one vectorised pass, at
2 to 3 ns a byte. Three sums describe the file:

1. the sum of the hashes modulo 2^64: which records there are, whatever their order;
2. the sum of hash times ``2 i + 1``, i being the line's place: in which order they are;
3. the correlation between a line's place and the running number it carries, over every 64th line:
   near 0 for a shuffle, 1 for the identity, and high for a shuffle within blocks.

A sample has a digest of its own, so its lines are looked up one by one: all hashes of the corpus's
lines are distinct (as far as 64 bits can be), and those of the sample's must be among them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CHUNK_BYTES = 1 << 17  # with its table and products about 3 MB: near the cores' own caches
LONGEST_LINE = 1 << 16
SAMPLE_EVERY = 64
WORD = (1 << 64) - 1
BASE = 0x9E3779B97F4A7C15
NEWLINE = 0x0A


@dataclass(frozen=True)
class RunningNumber:
    """Where in each line the running number of its corpus stands."""

    offset: int
    digits: int


@dataclass(frozen=True)
class Fingerprint:
    """What a file of lines holds; `digest` ignores the order of the lines, `order` is the order."""

    bytes: int
    records: int
    digest: str
    order: str
    correlation: float
    samples: int
    mean_number: float = math.nan  # of the running numbers, over the same samples


class MalformedError(Exception):
    """The file is not made of lines as the corpora are."""


@dataclass(frozen=True)
class _Part:
    index: int
    records: int
    digest: int
    order: int
    places: NDArray[np.int64]
    numbers: NDArray[np.int64]
    hashes: NDArray[np.uint64]


def fingerprint(path: Path, number: RunningNumber, workers: int) -> Fingerprint:
    """Read a file of newline-ended lines once and describe it.

    Raises
    ------
    MalformedError
        If the last line has no newline, or a line is longer than any line of a corpus.
    """
    size = path.stat().st_size
    with open(path, "rb", buffering=0) as file, ThreadPoolExecutor(workers) as pool:

        def scan(worker: int) -> list[_Part]:
            return list(_scan(file.fileno(), size, number, worker, workers))

        parts = [part for scanned in pool.map(scan, range(workers)) for part in scanned]
    parts.sort(key=lambda part: part.index)
    records = digest = order = 0
    places, numbers = [], []
    for part in parts:
        places.append(part.places + records)
        numbers.append(part.numbers)
        order += part.order + 2 * records * part.digest
        digest += part.digest
        records += part.records
    place = np.concatenate(places) if places else np.empty(0, np.int64)
    named = np.concatenate(numbers) if numbers else np.empty(0, np.int64)
    return Fingerprint(
        bytes=size,
        records=records,
        digest=f"{digest & WORD:016x}",
        order=f"{order & WORD:016x}",
        correlation=float(np.corrcoef(place, named)[0, 1]) if place.size > 2 else math.nan,
        samples=int(place.size),
        mean_number=float(named.mean()) if named.size else math.nan,
    )


def foreign(path: Path, corpus: Path, number: RunningNumber, workers: int) -> str | None:
    """Say which lines of a sample are not those of the corpus, or are there twice; None if none."""
    wanted = _hashes(path, number, workers, None)
    distinct = np.unique(wanted)
    if distinct.size != wanted.size:
        return f"{wanted.size - distinct.size} records of the sample are there more than once"
    found = _hashes(corpus, number, workers, distinct).size
    if found != distinct.size:
        return f"of {distinct.size} records of the sample {found} are in the input"
    return None


def _hashes(
    path: Path, number: RunningNumber, workers: int, among: NDArray[np.uint64] | None
) -> NDArray[np.uint64]:
    """Return the hashes of a file's lines, if wanted only those that are `among` sorted others."""
    size = path.stat().st_size
    with open(path, "rb", buffering=0) as file, ThreadPoolExecutor(workers) as pool:

        def scan(worker: int) -> list[NDArray[np.uint64]]:
            parts = _scan(file.fileno(), size, number, worker, workers)
            return [_among(part.hashes, among) for part in parts]

        kept = [hashes for scanned in pool.map(scan, range(workers)) for hashes in scanned]
    return np.concatenate(kept) if kept else np.empty(0, np.uint64)


def _among(hashes: NDArray[np.uint64], others: NDArray[np.uint64] | None) -> NDArray[np.uint64]:
    if others is None:
        return hashes.copy()  # what is yielded is a view of a buffer that is used again
    at = np.minimum(np.searchsorted(others, hashes), others.size - 1)
    found: NDArray[np.uint64] = hashes[others[at] == hashes]
    return found


def sample_fault(
    corpus: Fingerprint, output: Fingerprint, records: int, first_number: int
) -> str | None:
    """Say what is wrong with the counts of a sample, and with where it comes from.

    Running numbers of a sample are uniform, so the mean of m of n numbers has the deviation
    n / sqrt(12 m) (a little less, for none is drawn twice).
    """
    if output.records != records:
        return f"the output has {output.records} records, {records} were asked for"
    middle = first_number + (corpus.records - 1) / 2
    deviations = (output.mean_number - middle) / corpus.records * math.sqrt(12 * output.samples)
    if abs(deviations) > 6:
        return f"the sample's mean place in the input is {deviations:.1f} deviations off"
    return None


def correlated(output: Fingerprint) -> bool:
    """Tell whether places in output and input correlate."""
    return abs(output.correlation) * math.sqrt(output.samples) > 6


def fault(corpus: Fingerprint, output: Fingerprint, *, uniform: bool = True) -> str | None:
    """Say what is wrong with the output as a shuffle of the corpus; None if nothing is.

    Of a tool that does not promise to be `uniform` the correlation is not demanded. That of a
    uniform order over n samples is normal with deviation 1/sqrt(n); six deviations are passed by
    chance once in 500 million runs.
    """
    if output.records != corpus.records:
        return f"the output has {output.records} records, the input {corpus.records}"
    if output.bytes != corpus.bytes:
        return f"the output has {output.bytes} bytes, the input {corpus.bytes}"
    if output.digest != corpus.digest:
        return "the output's records are not those of the input"
    if output.order == corpus.order:
        return "the output is in the order of the input"
    if uniform and correlated(output):
        return f"places in output and input correlate: {output.correlation:.3f}"
    return None


def _scan(
    descriptor: int, size: int, number: RunningNumber, worker: int, workers: int
) -> Iterator[_Part]:
    """Yield the parts of every `workers`-th chunk; a chunk owns the lines that start in it."""
    room = 1 + CHUNK_BYTES + LONGEST_LINE
    powers, inverses = _powers(BASE, room), _powers(pow(BASE, -1, 1 << 64), room)
    product = np.empty(room, dtype=np.uint64)
    buffer = np.empty(room, dtype=np.uint8)
    for index in range(worker, -(-size // CHUNK_BYTES), workers):
        # One byte of the chunk before tells whether a line starts at the chunk's first byte.
        before = 1 if index else 0
        view = buffer[: os.preadv(descriptor, [buffer.data], index * CHUNK_BYTES - before)]
        end = min(view.size, before + CHUNK_BYTES)
        newlines = np.flatnonzero(view == NEWLINE)
        first = 0 if index == 0 else int(newlines[0]) + 1 if newlines.size else end
        if first >= end:
            continue
        ends = newlines[newlines >= first] + 1
        starts = np.concatenate(([first], ends))
        starts = starts[: np.searchsorted(starts, end)]
        if starts.size > ends.size:
            raise MalformedError(f"a line near byte {index * CHUNK_BYTES} does not end")
        last = int(ends[starts.size - 1])

        hashes = product[: last - first]
        np.multiply(view[first:last], powers[: last - first], out=hashes)
        hashes = np.add.reduceat(hashes, starts - first)
        hashes *= inverses[starts - first]
        _mix(hashes)
        weights = np.arange(1, 2 * starts.size, 2, dtype=np.uint64)

        sampled = np.arange(0, starts.size, SAMPLE_EVERY)
        long_enough = ends[sampled] - starts[sampled] > number.offset + number.digits
        sampled = sampled[long_enough]
        at = starts[sampled, np.newaxis] + number.offset + np.arange(number.digits)
        tens = 10 ** np.arange(number.digits - 1, -1, -1, dtype=np.int64)
        yield _Part(
            index=index,
            records=starts.size,
            digest=int(hashes.sum(dtype=np.uint64)),
            order=int((hashes * weights).sum(dtype=np.uint64)),
            places=sampled,
            numbers=(view[at].astype(np.int64) - ord("0")) @ tens,
            hashes=hashes,
        )


def _powers(base: int, count: int) -> NDArray[np.uint64]:
    powers = np.full(count, base, dtype=np.uint64)
    powers[0] = 1
    return np.multiply.accumulate(powers)


def _mix(hashes: NDArray[np.uint64]) -> None:
    hashes ^= hashes >> np.uint64(30)
    hashes *= np.uint64(0xBF58476D1CE4E5B9)
    hashes ^= hashes >> np.uint64(27)
    hashes *= np.uint64(0x94D049BB133111EB)
    hashes ^= hashes >> np.uint64(31)
