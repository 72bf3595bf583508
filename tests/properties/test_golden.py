"""The promise: what a seed gives today it gives for ever, under one algorithm version.

`golden.toml` pins the SHA-256 of outputs for fixed inputs, seeds, delimiters and samples.
The other properties compare two implementations, which could change together (a new
release of NumPy, say); these hashes cannot.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corekit.shuffle import permutation
from properties.engine import TINY, lines, shuffled

GOLDEN: dict[str, Any] = tomllib.loads(
    Path(__file__).with_name("golden.toml").read_text(encoding="utf-8")
)
SHUFFLES: list[dict[str, Any]] = GOLDEN["shuffle"]
PERMUTATIONS: list[dict[str, Any]] = GOLDEN["permutation"]


def numbers(delimiter: bytes, n: int) -> bytes:
    """0, 1, 2 and so on, each a record."""
    return b"".join(b"%d" % number + delimiter for number in range(n))


def unended(delimiter: bytes, n: int) -> bytes:
    """Numbers, the last of which ends in all but the last byte of its delimiter."""
    return numbers(delimiter, n)[:-1]


def lengths(delimiter: bytes, n: int, most: int) -> bytes:
    """Records of lengths that jump between 0 and `most`."""
    return lines(n, lambda number: number * 991 % (most + 1), delimiter)


def noise(delimiter: bytes, n: int) -> bytes:
    """Every byte, in an order without a pattern that a delimiter could fall in with."""
    return bytes((i * i * 2654435761 >> 13) & 255 for i in range(n))


INPUTS: dict[str, Callable[..., bytes]] = {
    recipe.__name__: recipe for recipe in (numbers, unended, lengths, noise)
}


def made(text: str, delimiter: bytes) -> bytes:
    """Return the input that a line such as ``lengths 300 80`` describes."""
    recipe, *arguments = text.split()
    return INPUTS[recipe](delimiter, *map(int, arguments))


@pytest.mark.parametrize("case", SHUFFLES, ids=[case["name"] for case in SHUFFLES])
def test_shuffle(case: dict[str, Any]) -> None:
    delimiter = bytes.fromhex(case["delimiter"])
    inputs = [made(text, delimiter) for text in case["inputs"]]
    for tuning in (None, {**TINY, "spill": 1}):
        written, report = shuffled(
            inputs,
            int(case["seed"], 16),
            delimiter=delimiter,
            sample=case.get("sample"),
            tuning=tuning,
        )
        assert report.algorithm == GOLDEN["algorithm"]
        assert hashlib.sha256(written).hexdigest() == case["sha256"]
        assert f"{report.digest:032x}" == case["digest"]


@pytest.mark.parametrize("case", PERMUTATIONS, ids=[f"n={case['n']}" for case in PERMUTATIONS])
def test_permutation(case: dict[str, Any]) -> None:
    order = permutation(case["n"], seed=int(case["seed"], 16), stream=case["stream"])
    little = order.astype(np.dtype("<u8")).tobytes()
    assert hashlib.sha256(little).hexdigest() == case["sha256"]


def test_all_cases_differ() -> None:
    assert len({case["sha256"] for case in SHUFFLES}) == len(SHUFFLES) >= 20
