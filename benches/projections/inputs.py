"""Make the inputs: `python -m projections.inputs KIND ROWS COLUMNS FILE`, for the peers.

- normal: independent N(0, 1) entries, each column times a log-normal(0.7) scale, float32;
- zipf: documents of words drawn by Zipf's law from a vocabulary, about 221 different ones in each;
- text: the sources of this Python's standard library, cut into pieces of 100 lines, and their
  words and pairs of neighbouring words.

Both sparse ones are tf-idf weights, rows of length 1, CSR, float32. All but the text are a function
of the sizes; the text depends on the Python, so the results hold its shape.
"""

from __future__ import annotations

import importlib
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

SCALE_SIGMA = 0.7
SLICE_ROWS = 1000  # that are drawn at a time

# These give 221 different words in the mean document of 20,000 with a vocabulary of 1,000,000.
ZIPF_EXPONENT = 1.05
WORDS = 325
LENGTH_SIGMA = 0.6

TEXT_LINES = 100


def ending(kind: str) -> str:
    """Return how the name of a file of this kind ends."""
    return ".npy" if kind == "normal" else ".npz"


def main() -> None:
    """Make one input; the file appears when it is complete."""
    kind, rows, columns, target = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    unfinished = target.with_suffix(f".part{target.suffix}")
    if kind == "normal":
        _normal(rows, columns, unfinished)
    else:
        matrix = _zipf(rows, columns) if kind == "zipf" else _text(rows)
        importlib.import_module("scipy.sparse").save_npz(unfinished, matrix, compressed=False)
    os.replace(unfinished, target)


def _normal(rows: int, columns: int, target: Path) -> None:
    rng = np.random.default_rng(1)
    scales = rng.lognormal(0.0, SCALE_SIGMA, columns).astype(np.float32)
    x = np.lib.format.open_memmap(target, "w+", np.dtype(np.float32), (rows, columns))
    for start in range(0, rows, SLICE_ROWS):
        part = x[start : start + SLICE_ROWS]
        part[:] = rng.standard_normal(part.shape, dtype=np.float32) * scales
    x.flush()


def _zipf(rows: int, columns: int) -> Any:
    rng = np.random.default_rng(1)
    # Ranks lie anywhere among the columns: neighbours in frequency are no neighbours in memory.
    column_of_rank = rng.permutation(columns)
    cumulative = np.cumsum(np.arange(1, columns + 1) ** -ZIPF_EXPONENT)
    lengths = np.ceil(WORDS * rng.lognormal(-(LENGTH_SIGMA**2) / 2, LENGTH_SIGMA, rows))
    starts = np.concatenate(([0], np.cumsum(lengths.astype(np.int64))))
    words = np.searchsorted(cumulative, rng.random(starts[-1]) * cumulative[-1])
    sparse = importlib.import_module("scipy.sparse")
    counts = sparse.csr_matrix(
        (np.ones(len(words), dtype=np.float32), column_of_rank[words], starts),
        shape=(rows, columns),
    )
    counts.sum_duplicates()
    return _weighted(counts)


def _text(rows: int) -> Any:
    pieces = []
    for piece in _pieces():
        pieces.append(piece)
        if len(pieces) == rows:
            break
    text = importlib.import_module("sklearn.feature_extraction.text")
    return _weighted(
        text.CountVectorizer(ngram_range=(1, 2), dtype=np.float32).fit_transform(pieces)
    )


def _pieces() -> Iterator[str]:
    """Yield the sources piece by piece, the files in the order of their names."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(folder.rglob("*.py")):
        if "-packages" in str(path.relative_to(folder)):
            continue
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        for start in range(0, len(lines), TEXT_LINES):
            # A piece of the last few lines would be a row of nearly nothing.
            if len(lines) - start >= TEXT_LINES // 4:
                yield "\n".join(lines[start : start + TEXT_LINES])


def _weighted(counts: Any) -> Any:
    """Return tf-idf weights with rows of length 1, the inverse frequency smoothed."""
    rows, columns = counts.shape
    inverse = np.log((1 + rows) / (1 + np.bincount(counts.indices, minlength=columns))) + 1
    counts.data *= inverse[counts.indices].astype(np.float32)
    squares = np.add.reduceat(counts.data.astype(np.float64) ** 2, counts.indptr[:-1])
    counts.data /= np.repeat(np.sqrt(squares), np.diff(counts.indptr)).astype(np.float32)
    return counts


if __name__ == "__main__":
    main()
