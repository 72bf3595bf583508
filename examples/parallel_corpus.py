"""Two aligned files, as in a translation corpus, stay aligned under one seed.

The order depends on the number of records and the seed only, so files of equal length
are shuffled alike, one at a time and with no index kept, and a NumPy array can follow.
"""

import tempfile
from pathlib import Path

import numpy as np

from corekit.shuffle import permutation, shuffle_files

COUNT, SEED = 50_000, 2026

with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    (folder / "source.txt").write_text("".join(f"sentence {i}\n" for i in range(COUNT)))
    (folder / "target.txt").write_text("".join(f"{i}. Satz\n" for i in range(COUNT)))

    for side in ("source", "target"):
        shuffle_files(folder / f"{side}.txt", folder / f"{side}.shuffled.txt", seed=SEED)

    sources = (folder / "source.shuffled.txt").read_text().splitlines()
    targets = (folder / "target.shuffled.txt").read_text().splitlines()
    for source, target in zip(sources, targets, strict=True):
        assert source.removeprefix("sentence ") == target.removesuffix(". Satz")
    print(f"still a pair: {sources[0]!r} and {targets[0]!r}")

# The same order for anything that fits in memory: here the third column of the corpus.
order = permutation(COUNT, seed=SEED)
weights = np.arange(COUNT)[order]
assert [f"sentence {i}" for i in weights] == sources

# And the formula behind it, in NumPy alone.
assert np.array_equal(
    order, np.argsort(np.random.Philox(key=SEED).random_raw(COUNT), kind="stable")
)
print("files, arrays and the published formula agree")
