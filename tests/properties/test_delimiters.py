"""The promise: records are those of ``bytes.split``, wherever the pieces of the input are cut.

A delimiter is found leftmost first, by one scan from left to right, even when it overlaps
itself or lies across chunks; the input's end closes the last record, and of a
delimiter that the tail has begun only what is missing is added. So the output,
shuffled again, has the same records.
"""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from properties.engine import TINY, check, shuffled
from properties.inputs import SEEDS, Corpus, corpora
from reference import split_records

OVERLAPPING = [b"aa", b"aaa", b"aba", b"abab", b"aab", b"abaab", b"\n\n"]


@pytest.mark.parametrize("delimiter", OVERLAPPING)
def test_delimiters_that_overlap_themselves(delimiter: bytes) -> None:
    # Runs of the delimiter's own letters of all lengths, at all offsets to the chunks' edges.
    letters = bytes(dict.fromkeys(delimiter))
    runs = b"".join(
        delimiter * (n % 4) + delimiter[: n % len(delimiter)] + letters[n % len(letters) :] * n
        for n in range(24)
    )
    for shift, chunk in itertools.product(range(3), (1, 5, 16)):
        tuning = {**TINY, "chunk": chunk, "inline_max": 16}
        check([b"x" * shift + runs, runs], 1, delimiter=delimiter, tuning=tuning)


@pytest.mark.parametrize("delimiter", [b"\r\n", b"abcabd", *OVERLAPPING])
def test_every_tail(delimiter: bytes) -> None:
    """The last record ends in each part of the delimiter, also when it is nothing but that part."""
    for begun in range(len(delimiter)):
        for record in (b"", b"x", delimiter[:1], b"x" * 300):
            tail = record + delimiter[:begun]
            check([b"1" + delimiter + tail, tail], 2, delimiter=delimiter, tuning=TINY)


def test_a_delimiter_that_is_longer_than_a_chunk() -> None:
    delimiter = bytes(range(200))
    text = b"".join(b"%d" % number + delimiter for number in range(40))
    for cut in (0, 1, 100, 199, 200, 201):
        check([text[: len(text) - cut]], 3, delimiter=delimiter, tuning={**TINY, "chunk": 7})


def test_the_longest_delimiter() -> None:
    delimiter = b"ab" * 511 + b"ac"
    text = b"ab".join(b"%d" % number + delimiter for number in range(20)) + delimiter[:1023]
    check([text], 4, delimiter=delimiter, tuning={**TINY, "block": 8192})
    check([text], 4, delimiter=delimiter)


@given(corpus=corpora(longest=500), seed=SEEDS, chunk=st.integers(1, 40))
def test_the_output_has_the_same_records(corpus: Corpus, seed: int, chunk: int) -> None:
    tuning = {**TINY, "chunk": chunk}
    written, report = shuffled(corpus.inputs, seed, delimiter=corpus.delimiter, tuning=tuning)
    records = [record for data in corpus.inputs for record in split_records(data, corpus.delimiter)]
    assert sorted(split_records(written, corpus.delimiter)) == sorted(records)
    _, again = shuffled([written], seed ^ 1, delimiter=corpus.delimiter)
    assert (again.input_records, again.digest) == (len(records), report.digest)
