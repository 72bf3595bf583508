"""The promise: a sample of n is the first n records of the full shuffle, however it is taken.

The engine drops what cannot be in the sample while it reads; the output is the
same prefix for every plan, for files and pipes, and from nothing to more than there is.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from properties.engine import TINY, check, lines, shuffled
from properties.inputs import SEEDS, Corpus, corpora, tunings

TEXT = lines(1000, lambda number: number % 30)
PLANS = {
    "memory": {**TINY, "blocks": 200},
    "scratch": {**TINY, "spill": 1},
    "small pool": {**TINY, "spill": 1, "blocks": 12},
    "rescan": {**TINY, "spill": 0, "blocks": 12},
}


@pytest.mark.parametrize("plan", PLANS)
def test_samples_are_prefixes(plan: str) -> None:
    whole, _ = shuffled([TEXT], 1, tuning=PLANS[plan])
    for n in (0, 1, 2, 7, 500, 998, 999, 1000, 1001, 2**62, 2**70):
        sample, report = shuffled([TEXT], 1, tuning=PLANS[plan], sample=n)
        assert report.records == min(n, 1000)
        assert report.input_records == 1000
        assert whole.startswith(sample)
        assert sample.count(b"\n") == min(n, 1000)


@given(
    corpus=corpora(), tuning=tunings(), seed=SEEDS, n=st.integers(0, 3000), scratch=st.booleans()
)
def test_any_sample_by_any_plan(
    corpus: Corpus, tuning: Mapping[str, int], seed: int, n: int, scratch: bool
) -> None:
    check(
        corpus.inputs,
        seed,
        delimiter=corpus.delimiter,
        tuning=tuning,
        sample=n,
        scratch=scratch,
    )


@pytest.mark.parametrize("sample", [1, 10, 1000])
def test_a_small_sample_of_a_stream_needs_little_memory(sample: int) -> None:
    # The stream does not fit and may not go to scratch; the sample fits.
    text = lines(60_000, lambda number: 10)
    tuning = {**TINY, "chunk": 4000, "blocks": 60}
    report = check([text], 2, sample=sample, scratch=False, tuning=tuning, ways=["pipe"])
    assert report.scratch_bytes == 0
    assert report.plan.strategy == "memory"


def test_a_small_sample_of_a_stream_of_long_records_needs_little_memory() -> None:
    # Of 400 records that are longer than a chunk, a few at a time may still be in the sample.
    text = lines(400, lambda number: 2000)
    report = check([text], 2, sample=1, scratch=False, tuning={**TINY, "blocks": 60}, ways=["pipe"])
    assert report.records == 1


def test_a_sample_with_long_records() -> None:
    text = lines(400, lambda number: 20_000 if number % 50 == 0 else number % 90)
    for n in (0, 1, 50, 399, 400, 401):
        for tuning in PLANS.values():
            check([text, text], 3, sample=n, tuning=tuning)
        check([text], 3, sample=n, tuning=TINY, ways=["pipe"], to="pipe")


def test_a_sample_of_tied_records() -> None:
    tuning = {**TINY, "blocks": 200, "entries": 3000, "key_mask": 0xF << 60}
    for n in (0, 1, 60, 500, 1999, 2000, 2001):
        check([TEXT, TEXT], 4, sample=n, tuning=tuning)
