"""The reference that everything is held to is itself what the documents say."""

from __future__ import annotations

import numpy as np
import pytest

from reference import reference_digest, reference_order, reference_shuffle, split_records


@pytest.mark.parametrize(
    ("data", "delimiter", "records"),
    [
        (b"", b"\n", []),
        (b"\n", b"\n", [b""]),
        (b"a", b"\n", [b"a"]),
        (b"a\n", b"\n", [b"a"]),
        (b"a\n\nb", b"\n", [b"a", b"", b"b"]),
        (b"a\r\nb\r", b"\r\n", [b"a", b"b"]),
        (b"a\r\n\r", b"\r\n", [b"a", b""]),
        (b"a--b-", b"--", [b"a", b"b"]),
        (b"a---b", b"--", [b"a", b"-b"]),  # leftmost, by one scan
        (b"xaaaab", b"aab", [b"xaa"]),
        (b"xaa", b"aab", [b"x"]),  # the longest ending that begins a delimiter
        (b"xababa", b"abac", [b"xab"]),
    ],
)
def test_records(data: bytes, delimiter: bytes, records: list[bytes]) -> None:
    assert split_records(data, delimiter) == records


def test_one_input_is_the_one_line_formula() -> None:
    for seed in (0, 7, 2**128 - 1):
        expected = np.argsort(np.random.Philox(key=seed).random_raw(1000), kind="stable")
        assert np.array_equal(reference_order([1000], seed), expected)


def test_ties_are_broken_by_input_then_position() -> None:
    assert reference_order([2, 0, 3], 1, key_mask=0).tolist() == [0, 1, 2, 3, 4]


def test_a_missing_delimiter_is_added() -> None:
    assert sorted(reference_shuffle([b"a\r\nb\r"], 1, delimiter=b"\r\n").split(b"\r\n")) == [
        b"",
        b"a",
        b"b",
    ]


def test_a_sample_is_the_beginning() -> None:
    whole = reference_shuffle([b"a\nb\nc\nd"], 3)
    assert whole.startswith(reference_shuffle([b"a\nb\nc\nd"], 3, sample=2))


def test_the_digest_does_not_depend_on_the_order() -> None:
    assert reference_digest([b"a", b"b", b"b"]) == reference_digest([b"b", b"a", b"b"])
    assert reference_digest([b"a", b"b"]) != reference_digest([b"a", b"b", b"b"])
    assert reference_digest([]) == 0
