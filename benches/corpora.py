"""The inputs: made once from a fixed seed, kept in a directory, known by size and digest.

``j`` corpora are JSON lines whose length is log-normal with mean 400 bytes (sigma 0.75), ``s``
corpora are lines of 16 to 28 bytes with mean 22, newline included. Every line carries its own
number, so no two are equal. The text between is a run of words drawn with Zipf's frequencies, which
compresses about as prose does.

Nothing but raw words of Philox and integer tables goes into a corpus, so it is the same bytes on
every machine and under every NumPy. Lines are not built one by one: a chunk is a slice of the word
text into which numbers, quotes and newlines are stamped at the places that the lengths give.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import os
import shutil
import statistics
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from verify import Fingerprint, RunningNumber, fingerprint

SEED = 20240229
TEXT_BYTES = 24 << 20
CHUNK_BYTES_AT_MOST = 16 << 20


@dataclass(frozen=True)
class Shape:
    """The form of a corpus's lines."""

    what: str
    head: bytes  # the running number stands where the zeros are
    tail: bytes
    first_number: int
    lines_per_chunk: int
    lengths: Callable[[], NDArray[np.int64]]

    @property
    def number(self) -> RunningNumber:
        """Where a line's running number stands."""
        return RunningNumber(self.head.index(b"0"), self.head.count(b"0"))

    @property
    def shortest(self) -> int:
        """The least number of bytes a line can have."""
        return len(self.head) + len(self.tail) + 1


@dataclass(frozen=True)
class Corpus:
    """A corpus: its shape, its size to the byte, and the digest that a right one has."""

    name: str
    shape: Shape
    bytes: int
    digest: str


@dataclass(frozen=True)
class CorpusFile:
    """A corpus on disk."""

    corpus: Corpus
    path: Path
    fingerprint: Fingerprint


def stored(file: CorpusFile, command: Sequence[str], ending: str, parts: int) -> tuple[Path, ...]:
    """Return files that hold a corpus's lines in order, each a part, compressed by a command.

    The command takes ``-c`` and plain bytes on standard input. What is there is taken as it is; the
    outputs that are made from it are compared with the corpus itself.
    """
    folder = file.path.with_suffix("")
    paths = tuple(folder / f"{part}{ending}" for part in range(parts))
    if all(path.exists() for path in paths):
        return paths
    folder.mkdir(exist_ok=True)
    edges = _edges(file.path, parts)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        jobs = [
            pool.submit(_compress, file.path, range(*edge), command, path)
            for edge, path in zip(itertools.pairwise(edges), paths, strict=True)
        ]
        for job in jobs:
            job.result()
    return paths


def _edges(path: Path, parts: int) -> list[int]:
    """Return where parts of about equal size begin and end, each with whole lines."""
    size = path.stat().st_size
    edges = [0]
    with open(path, "rb") as file:
        for part in range(1, parts):
            file.seek(size * part // parts)
            file.readline()
            edges.append(file.tell())
    return [*edges, size]


def _compress(source: Path, span: range, command: Sequence[str], target: Path) -> None:
    unfinished = target.with_suffix(".part")
    with open(source, "rb") as file, open(unfinished, "wb") as output:
        file.seek(span.start)
        process = subprocess.Popen([*command, "-c"], stdin=subprocess.PIPE, stdout=output)
        assert process.stdin is not None
        with process.stdin as pipe:
            for offset in range(span.start, span.stop, 1 << 20):
                pipe.write(file.read(min(1 << 20, span.stop - offset)))
        if process.wait() != 0:
            raise RuntimeError(f"{target.name} could not be compressed")
    os.replace(unfinished, target)


def ensure(corpus: Corpus, directory: Path, workers: int) -> CorpusFile:
    """Return the corpus's file in `directory`; make and check it if it is not there.

    A note beside the file keeps its fingerprint with size and time of change, so that a file is
    read again only when it may have changed.
    """
    path, note = directory / f"{corpus.name}.txt", directory / f"{corpus.name}.json"
    known = _noted(path, note)
    if known is None or known.digest != corpus.digest or known.bytes != corpus.bytes:
        directory.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        with open(unfinished, "wb") as file:
            for chunk in _chunks(corpus.shape, corpus.bytes):
                file.write(chunk.data)
        known = fingerprint(unfinished, corpus.shape.number, workers)
        if known.digest != corpus.digest or known.bytes != corpus.bytes:
            raise RuntimeError(
                f"corpus {corpus.name} must have {corpus.bytes} bytes and digest {corpus.digest}, "
                f"got {known.bytes} and {known.digest}"
            )
        os.replace(unfinished, path)
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)  # compressed from what was there
        found = path.stat()
        note.write_text(json.dumps({**asdict(known), "changed": found.st_mtime_ns}))
    return CorpusFile(corpus, path, known)


def _noted(path: Path, note: Path) -> Fingerprint | None:
    try:
        found, noted = path.stat(), json.loads(note.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    changed = noted.pop("changed", None)
    known = Fingerprint(**noted)
    return known if (found.st_size, found.st_mtime_ns) == (known.bytes, changed) else None


def _chunks(shape: Shape, size: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the bytes of a corpus; its last line is stretched or cut so that the size is exact."""
    text, table = _text(), shape.lengths()
    template = np.frombuffer(shape.head, dtype=np.uint8)
    tail = np.frombuffer(shape.tail, dtype=np.uint8)
    number = shape.number
    digits = slice(number.offset, number.offset + number.digits)
    tens = 10 ** np.arange(number.digits - 1, -1, -1, dtype=np.int64)
    made = lines = stream = 0
    while made < size:
        stream += 1
        raw = _raw(stream, shape.lines_per_chunk + 1)
        lengths = table[raw[1:] >> np.uint64(48)]
        whole = int(np.searchsorted(np.cumsum(lengths), size - made - shape.shortest, "right"))
        if whole < lengths.size:
            lengths = lengths[: whole + 1]
            lengths[whole] = size - made - int(lengths[:whole].sum())
        ends = np.cumsum(lengths)
        starts = ends - lengths
        total = int(ends[-1])
        assert total <= CHUNK_BYTES_AT_MOST
        at = int(raw[0] % np.uint64(TEXT_BYTES - CHUNK_BYTES_AT_MOST))
        chunk = text[at : at + total].copy()
        heads = np.tile(template, (lengths.size, 1))
        numbers = shape.first_number + lines + np.arange(lengths.size, dtype=np.int64)
        heads[:, digits] = numbers[:, np.newaxis] // tens % 10 + ord("0")
        chunk[starts[:, np.newaxis] + np.arange(template.size)] = heads
        chunk[ends[:, np.newaxis] - tail.size + np.arange(tail.size)] = tail
        yield chunk
        made += total
        lines += lengths.size


@functools.cache
def _text() -> NDArray[np.uint8]:
    """Return words of 2 to 11 letters, the k-th of 8192 with a frequency near 1/k."""
    letters = (_raw(1 << 32, 8192 * 11) % np.uint64(26) + np.uint64(ord("a"))).astype(np.uint8)
    sizes = _raw((1 << 32) + 1, 8192) % np.uint64(10) + np.uint64(2)
    words = [
        row[: int(size)].tobytes()
        for row, size in zip(letters.reshape(8192, 11), sizes, strict=True)
    ]
    ranks = [round(8192.0 ** ((step + 0.5) / 65536)) - 1 for step in range(65536)]
    draws = _raw((1 << 32) + 2, TEXT_BYTES // 6) >> np.uint64(48)
    text = b" ".join([words[ranks[draw]] for draw in draws.tolist()])
    assert len(text) >= TEXT_BYTES
    return np.frombuffer(text[:TEXT_BYTES], dtype=np.uint8)


def _raw(stream: int, count: int) -> NDArray[np.uint64]:
    words = np.random.Philox(key=SEED, counter=[0, stream, 0, 0]).random_raw(count)
    return np.asarray(words, dtype=np.uint64)


def _log_normal_lengths(mean: float = 400.0, sigma: float = 0.75) -> NDArray[np.int64]:
    """Return 65,536 equally likely lengths: the quantiles of the distribution."""
    normal = statistics.NormalDist(math.log(mean) - sigma * sigma / 2, sigma)
    quantiles = [normal.inv_cdf((step + 0.5) / 65536) for step in range(65536)]
    return np.array([max(JSON.shortest, round(math.exp(value))) for value in quantiles])


def _short_lengths() -> NDArray[np.int64]:
    return np.array([16 + step * 13 // 65536 for step in range(65536)])


JSON = Shape(
    what="JSON lines, mean 400 bytes",
    head=b'{"id": 0000000000, "text": "',
    tail=b'"}\n',
    first_number=1_000_000_000,  # a JSON number has no leading zero
    lines_per_chunk=1 << 14,
    lengths=_log_normal_lengths,
)
SHORT = Shape(
    what="short lines, mean 22 bytes",
    head=b"00000000 ",
    tail=b"\n",
    first_number=0,
    lines_per_chunk=1 << 18,
    lengths=_short_lengths,
)

CORPORA = {
    corpus.name: corpus
    for corpus in (
        Corpus("j1", JSON, 1_000_000_000, "89304aa2105d4819"),
        Corpus("j4", JSON, 4_000_000_000, "a9e30649ec8f6cc4"),
        Corpus("s1", SHORT, 1_000_000_000, "7ddd8ec3f33d9e39"),
        Corpus("j100", JSON, 100_000_000, "ebeb26357dbe178f"),
        Corpus("s100", SHORT, 100_000_000, "f4b2b459bcbdf458"),
    )
}
