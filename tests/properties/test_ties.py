"""The promise: records with equal keys stand in the order of their inputs and indices.

Keys of 64 bits hardly ever tie, so the key mask leaves four bits of each: sixteen groups of
ties, in the order that NumPy's stable argsort gives them, for every plan. The mask's
four bits lie at the top, where they choose buckets, or at the bottom, where all
records fall into one bucket and the sort's words have no room for them.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from properties.engine import TINY, Way, check, lines
from properties.inputs import SEEDS, Corpus, corpora, tunings

TOP, BOTTOM, MIDDLE = 0xF << 60, 0xF, 0xF << 30
INPUTS = [lines(500, lambda number: number % 9), lines(400, lambda _: 2), b"", b"x\n" * 50]

# Records with one key cannot be told apart by further bits: an index holds them all.
ROOMY = {**TINY, "entries": 2000, "blocks": 60}


@pytest.mark.parametrize("mask", [TOP, MIDDLE, BOTTOM, 0, 1 << 63, 1])
def test_ties_at_the_sizes_of_every_day(mask: int) -> None:
    check(INPUTS, 1, tuning={"key_mask": mask})


@pytest.mark.parametrize("mask", [TOP, MIDDLE, BOTTOM, 0])
@pytest.mark.parametrize("spill", [0, 1])
@pytest.mark.parametrize("workers", [1, 3])
def test_ties_through_scratch_and_by_reading_again(mask: int, spill: int, workers: int) -> None:
    check(INPUTS, 2, tuning={**ROOMY, "key_mask": mask, "spill": spill, "workers": workers})


def test_tied_long_records() -> None:
    text = lines(200, lambda number: 65 + number * 40)
    ways: list[Way] = ["file", "pipe", "file"]
    for mask in (TOP, BOTTOM):
        check([text, text, text[:-1]], 3, tuning={**ROOMY, "key_mask": mask}, ways=ways)


@given(
    corpus=corpora(longest=900),
    tuning=tunings(blocks=100),
    seed=SEEDS,
    mask=st.sampled_from([TOP, MIDDLE, BOTTOM, TOP | BOTTOM]),
    sample=st.none() | st.integers(0, 1000),
)
def test_any_ties(
    corpus: Corpus, tuning: Mapping[str, int], seed: int, mask: int, sample: int | None
) -> None:
    tuning = {**tuning, "key_mask": mask, "entries": 20_000}
    check(corpus.inputs, seed, delimiter=corpus.delimiter, tuning=tuning, sample=sample)
