"""What the words of the command line become, before any core is asked."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from corekit.cli import shuffle_arguments


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("--record-bytes 16", "record_bytes", 16),
        ("--header 2", "header", 2),
        ("", "header", 0),
        ("--input-format npy", "input_format", "npy"),
        ("", "input_format", "auto"),
        ("--any-expansion", "any_expansion", True),
        ("--fraction 0.1", "fraction", Fraction(1, 10)),
        ("--fraction=1/3", "fraction", Fraction(1, 3)),
        ("-o x --shards 64", "shards", 64),
        ("-o x --shard-records 1000000", "shard_records", 10**6),
        ("-o x --shard-bytes 256MiB", "shard_bytes", 256 << 20),
        ("-o x --split b=0.9,a=0.1", "splits", {"b": "0.9", "a": "0.1"}),
        ("--compress zstd:-3", "compress", "zstd:-3"),
        ("--epochs 3", "epochs", 3),
        ("-o x -o x", "outputs", ["x", "x"]),
        ("--aligned b -o y a -o x", "outputs", ["y", "x"]),
        ("--aligned b -o y a -o x", "inputs", ["b", "a"]),
        ("--aligned -o y -o x -- -b a", "inputs", ["-b", "a"]),
        ("", "outputs", []),
    ],
)
def test_words(words: str, name: str, value: Any) -> None:
    assert getattr(shuffle_arguments.parse(words.split()), name) == value


def test_splits_keep_their_order() -> None:
    arguments = shuffle_arguments.parse(["-o", "x", "--split", "b=0.9,a=0.1"])
    assert list(arguments.splits) == ["b", "a"]


def test_one_parse_leaves_nothing_to_the_next() -> None:
    shuffle_arguments.parse(["a", "-o", "x"])
    arguments = shuffle_arguments.parse([])
    assert (arguments.inputs, arguments.outputs) == ([], [])
