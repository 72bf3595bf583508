"""Shuffle a file, check the proof that comes with it, and get the same order again."""

import tempfile
from pathlib import Path

from corekit.shuffle import plan, shuffle_files

with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    source, shuffled, again = folder / "lines.txt", folder / "shuffled.txt", folder / "again.txt"
    source.write_text("".join(f"line {number}\n" for number in range(100_000)))

    # What would be done, and why, without doing it.
    print(plan(source, shuffled, memory_limit="64MiB"))
    print()

    report = shuffle_files(source, shuffled, memory_limit="64MiB")
    print(f"seed {report.seed}")
    print(report)
    assert report.digest == report.input_digest
    assert sorted(source.open()) == sorted(shuffled.open())

    # The seed and the input decide; memory and threads never do.
    shuffle_files(source, again, seed=report.seed, memory_limit="32MiB", threads=1)
    assert again.read_bytes() == shuffled.read_bytes()

    # The first thousand records of the same order are a uniform sample.
    shuffle_files(source, again, seed=report.seed, sample=1000)
    assert shuffled.read_bytes().startswith(again.read_bytes())
    print("the same seed gave the same order; a sample is its beginning")
