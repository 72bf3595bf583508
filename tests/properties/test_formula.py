"""The promise: the output is the published line of NumPy, byte for byte, for every input and plan.

Whatever the bytes, the delimiter, the number of inputs, the sizes of chunks,
blocks and frames, the number of workers, and whether records stay in memory, go to scratch
or are read again: what is written is what `reference_shuffle` writes, the report
counts and digests are those of the records, and nothing is left beside the output.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from properties.engine import check
from properties.inputs import SEEDS, Corpus, corpora, tunings


@given(corpus=corpora(), tuning=tunings(), seed=SEEDS, scratch=st.booleans())
def test_any_input_by_any_plan(
    corpus: Corpus, tuning: Mapping[str, int], seed: int, scratch: bool
) -> None:
    check(corpus.inputs, seed, delimiter=corpus.delimiter, tuning=tuning, scratch=scratch)


@pytest.mark.parametrize("spill", [0, 1])
@given(corpus=corpora(), tuning=tunings(), seed=SEEDS)
def test_any_input_when_hardly_anything_fits(
    spill: int, corpus: Corpus, tuning: Mapping[str, int], seed: int
) -> None:
    least = (1 << tuning["bits"]) + tuning["workers"] + 4
    tuning = {**tuning, "spill": spill, "blocks": least}
    check(corpus.inputs, seed, delimiter=corpus.delimiter, tuning=tuning, scratch=spill == 1)


@given(corpus=corpora(), seed=SEEDS, threads=st.integers(1, 5))
def test_any_input_at_the_sizes_of_every_day(corpus: Corpus, seed: int, threads: int) -> None:
    check(corpus.inputs, seed, delimiter=corpus.delimiter, threads=threads)
