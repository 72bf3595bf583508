"""What the properties draw: inputs, delimiters, sizes."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from properties.engine import lines

SEEDS = st.integers(0, 2**128 - 1)


@dataclass(frozen=True, slots=True)
class Corpus:
    """Some inputs and what ends their records."""

    inputs: list[bytes]
    delimiter: bytes


@st.composite
def corpora(draw: st.DrawFn, *, longest: int = 9000) -> Corpus:
    """Draw inputs in which delimiters, and beginnings of delimiters, are common.

    A few bytes make up both the delimiter and most of the input, so that delimiters
    touch, overlap themselves, end the input half written, and lie across edges.
    """
    alphabet = draw(st.binary(min_size=1, max_size=3))
    delimiter = draw(
        st.one_of(
            st.just(b"\n"),
            st.just(b"\0"),
            st.just(b"\r\n"),
            st.binary(min_size=1, max_size=6),
            st.lists(st.sampled_from(alphabet), min_size=1, max_size=5).map(bytes),
        )
    )
    one = st.one_of(
        st.just(b""),
        st.binary(max_size=300),
        st.builds(
            _soup,
            st.just(alphabet),
            st.just(delimiter),
            st.integers(0, 6000),
            st.integers(0, 2**32 - 1),
        ),
        st.builds(_numbered, st.integers(0, 1200), st.integers(0, 80), st.just(delimiter)),
        st.builds(_numbered, st.integers(0, 20), st.integers(0, longest), st.just(delimiter)),
    )
    inputs = draw(st.lists(st.tuples(one, st.integers(0, 8)), min_size=1, max_size=4))
    # The end of an input may lie anywhere in a delimiter.
    return Corpus([data[: len(data) - cut] for data, cut in inputs], delimiter)


def _soup(alphabet: bytes, delimiter: bytes, length: int, seed: int) -> bytes:
    """Return bytes of the alphabet, with now and then a delimiter, a part of one, or any byte."""
    choose = random.Random(seed)
    out = bytearray()
    while len(out) < length:
        match choose.randrange(8):
            case 0:
                out += delimiter
            case 1:
                out += delimiter[: choose.randrange(len(delimiter))]
            case 2:
                out.append(choose.randrange(256))
            case _:
                out += bytes(choose.choices(alphabet, k=choose.randrange(1, 20)))
    return bytes(out)


def _numbered(n: int, most: int, delimiter: bytes) -> bytes:
    return lines(n, lambda number: number * 991 % (most + 1), delimiter)


@st.composite
def tunings(
    draw: st.DrawFn, *, blocks: int = 0, spills: Sequence[int | None] = (None, 0, 1)
) -> Mapping[str, int]:
    """Draw sizes at which tiny inputs cross every boundary, and absent file system features.

    `blocks` is added to the blocks of the pool, for what must fit into it. `spills` are
    the strategies: scratch (1), reading again (0), or what the cost model says (None).
    """
    bits = draw(st.integers(0, 3))
    workers = draw(st.integers(1, 3))
    tuning = {
        "chunk": draw(st.integers(1, 3000)),
        "block": 4096 * draw(st.integers(1, 3)),
        "slab": draw(st.integers(50, 5000)),
        "blocks": blocks + draw(st.integers(4, 60)) + (1 << bits) + workers,
        "bits": bits,
        "inline_max": draw(st.integers(8, 900)),
        "frame": 4096 * draw(st.integers(1, 2)),
        "entries": draw(st.integers(40, 500)),
        "workers": workers,
        "no_direct": draw(st.integers(0, 1)),
        "no_tmpfile": draw(st.integers(0, 1)),
        "no_fallocate": draw(st.integers(0, 1)),
    }
    spill = draw(st.sampled_from(spills))
    return tuning if spill is None else {**tuning, "spill": spill}
