"""The promise: however inputs are stored and outputs are cut, the order is the formula's.

Every kind of input into every shape of output, compressed or not, in memory, by scratch
and in several passes; then whatever hypothesis draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corekit.errors import InvalidArgumentError
from properties.engine import TINY, Way, lines
from properties.formats import PLANS, SHAPES, Shape, Source, arrays, check, delimited, fixed
from properties.inputs import SEEDS, tunings
from reference import split_records

TEXTS = [lines(1700, lambda number: number % 43), lines(300, lambda number: number % 61)[:-1]]
CUTS = [0, 1000, 1001, 17_000]

PAIRS = np.dtype([("id", ">u4"), ("name", "S7"), ("at", "<f8", (2,))])

SOURCES: Mapping[str, Source] = {
    "lines": delimited(TEXTS),
    "lines under a header": delimited(TEXTS, head=[b"a,b", b""]),
    "gzip": delimited(TEXTS, encoding="gzip", cuts=CUTS),
    "zstd": delimited(TEXTS, encoding="zstd", cuts=CUTS),
    "zstd under a header": delimited(TEXTS, encoding="zstd", cuts=CUTS, head=[b"x" * 5000]),
    "binary": fixed(TEXTS, 24),
    "binary in gzip under a header": fixed(TEXTS, 24, encoding="gzip", head=b"\n" * 48),
    "arrays": arrays([np.arange(6000, dtype=">i4").reshape(2000, 3), np.zeros((9, 3), ">i4")]),
    "structures": arrays([np.frombuffer(TEXTS[0][: 1500 * PAIRS.itemsize // 3], PAIRS)]),
}
RAW = {"lines", "lines under a header", "binary", "arrays", "structures"}


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", SOURCES)
def test_every_input_into_every_output(kind: str, shape: str, plan: str) -> None:
    # Codecs take turns, so that each meets each of the others.
    turn = [*SOURCES].index(kind) + [*SHAPES].index(shape) + [*PLANS].index(plan)
    codec = ["none", "gzip", "zstd"][turn % 3]
    report = check(SOURCES[kind], SHAPES[shape], 2, codec=codec, tuning=PLANS[plan])
    assert report.plan.strategy == plan


@pytest.mark.parametrize("codec", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("kind", SOURCES)
def test_sizes_of_every_day(kind: str, codec: str) -> None:
    check(SOURCES[kind], Shape(epochs=2), 3, codec=codec)
    check(SOURCES[kind], Shape(shards=2), 3, codec=codec)


@pytest.mark.parametrize(
    "level", ["none", "gzip:0", "gzip:1", "gzip:9", "gzip:12", "zstd:-7", "zstd:1", "zstd:22"]
)
def test_levels(level: str) -> None:
    codec, colon, number = level.partition(":")
    source = SOURCES["lines under a header"]
    check(source, Shape(), 4, codec=codec, level=colon + number, tuning=TINY)
    check(source, Shape(shards=2), 4, codec=codec, level=colon + number)


@pytest.mark.parametrize("to", ["pipe", "fifo"])
@pytest.mark.parametrize("codec", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("kind", ["lines under a header", "gzip", "zstd", "binary"])
def test_through_pipes(kind: str, codec: str, to: Way) -> None:
    source = SOURCES[kind]
    ways: list[Way] = ["fifo", "pipe"]
    for shape in (Shape(), Shape(sample=333), Shape(fraction="0.5")):
        check(source, shape, 5, codec=codec, ways=ways, to=to, tuning=PLANS["scratch"])
    check(source, Shape(epochs=2), 5, codec=codec, to=to, tuning=PLANS["rescan"])
    check(source, SHAPES["splits"], 5, codec=codec, ways=ways, tuning=PLANS["scratch"])


@pytest.mark.parametrize("kind", ["lines", "gzip"])
def test_pipes_have_one_epoch(kind: str) -> None:
    check(SOURCES[kind], Shape(epochs=1), ways=["pipe", "file"])
    with pytest.raises(InvalidArgumentError, match=r"^epochs .*read again"):
        check(SOURCES[kind], Shape(epochs=2), ways=["file", "pipe"])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("encoding", ["raw", "gzip", "zstd"])
def test_ties(shape: str, encoding: str) -> None:
    # Eight keys for two thousand records; parts end in the midst of them and beside them.
    source = delimited(TEXTS, encoding=encoding, cuts=CUTS)
    check(source, SHAPES[shape], 6, tuning={**PLANS["scratch"], "key_mask": 7 << 61})


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("encoding", ["raw", "gzip", "zstd"])
def test_nothing_at_all(shape: str, encoding: str) -> None:
    check(delimited([b"", b""], encoding=encoding), SHAPES[shape])
    check(delimited([b"", b""], encoding=encoding, head=[b"a"]), SHAPES[shape], tuning=TINY)


@pytest.mark.parametrize("encoding", ["raw", "gzip", "zstd"])
def test_inputs_are_stored_each_in_its_own_way(encoding: str) -> None:
    others = {"raw", "gzip", "zstd"} - {encoding}
    one, two, three = (
        delimited(TEXTS[:1], encoding=name, cuts=CUTS) for name in (encoding, *sorted(others))
    )
    mixed = Source(
        inputs=one.inputs + two.inputs + three.inputs,
        records=one.records + two.records + three.records,
    )
    for plan in PLANS.values():
        check(mixed, Shape(), 7, tuning=plan)
    check(mixed, Shape(), 7, tuning=PLANS["scratch"], ways=["pipe", "file", "pipe"])


def test_files_of_a_few_bytes_each() -> None:
    source = delimited([lines(60, lambda number: number % 43)])
    for codec in ("none", "gzip", "zstd"):
        check(source, Shape(shard_bytes=1), codec=codec)
        check(source, Shape(shard_records=1), codec=codec)
        check(source, Shape(shards=200), codec=codec)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("codec", ["none", "gzip", "zstd"])
def test_records_longer_than_everything(plan: str, codec: str) -> None:
    long = {0: 65, 7: 5000, 50: 60_000, 200: 130_000, 299: 9000}
    text = lines(300, lambda number: long.get(number, number % 90))
    for encoding in ("raw", "gzip", "zstd"):
        source = delimited([text, text[:-1]], encoding=encoding, cuts=[4000, 70_000])
        check(source, Shape(shard_bytes=30_000), 8, codec=codec, tuning=PLANS[plan])
    source = fixed([lines(3000, lambda number: number % 80)], 7919)
    check(source, Shape(shard_bytes=30_000), 8, codec=codec, tuning=PLANS[plan])


@st.composite
def sources(draw: st.DrawFn) -> Source:
    texts = [
        lines(count, lambda number, most=most: number * 991 % (most + 1))  # type: ignore[misc]
        for count, most in draw(
            st.lists(
                st.tuples(st.integers(0, 700), st.sampled_from([0, 3, 40, 90])),
                min_size=1,
                max_size=3,
            )
        )
    ]
    encoding = draw(st.sampled_from(["raw", "gzip", "zstd"]))
    cuts = draw(st.lists(st.integers(0, 20_000), max_size=4))
    match draw(st.sampled_from(["lines", "binary", "array"])):
        case "lines":
            delimiter = draw(st.sampled_from([b"\n", b"-", b"1-1", b"\r\n"]))
            head = draw(st.lists(st.sampled_from([b"", b"x", b"xyz" * 50]), max_size=3))
            return delimited(texts, delimiter=delimiter, encoding=encoding, cuts=cuts, head=head)
        case "binary":
            size = draw(st.integers(1, 300))
            top = b"\n" * size * draw(st.integers(0, 2))
            return fixed(texts, size, encoding=encoding, cuts=cuts, head=top)
        case _:
            width = draw(st.integers(1, 20))
            rows = [text[: len(text) // (2 * width) * 2 * width] for text in texts]
            return arrays([np.frombuffer(row, ">u2").reshape(-1, width) for row in rows])


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    fractions = st.sampled_from(["0", "1", "1/2", "0.1", "1/3", "1e-3"])
    epochs = draw(st.none() | st.integers(1, 3))
    shape = Shape(epochs=epochs, apart=epochs is not None and draw(st.booleans()))
    pieces: Mapping[str, int] = draw(
        st.sampled_from([{}, {}, {"shards": 1}, {"shards": 5}])
        | st.fixed_dictionaries({"shard_records": st.integers(40, 2000)})
        | st.fixed_dictionaries({"shard_bytes": st.integers(1000, 9000)})
    )
    chosen: Mapping[str, object] = draw(
        st.just({})
        | st.fixed_dictionaries({"sample": st.integers(0, 900)})
        | st.fixed_dictionaries({"fraction": fractions})
        | st.sampled_from([{"splits": {"a": "1"}}, {"splits": {"a": "0.25", "b-b": "3/4"}}])
    )
    together = {**vars(shape), **pieces, **chosen}
    if "splits" in chosen and (epochs or 0) > 1:
        together["apart"] = True  # each split of each epoch is a group of its own
    return Shape(**together)


@given(
    source=sources(),
    shape=shapes(),
    seed=SEEDS,
    codec=st.sampled_from(["none", "none", "gzip", "zstd"]),
    tuning=st.none() | tunings(),
)
def test_any(
    source: Source, shape: Shape, seed: int, codec: str, tuning: Mapping[str, int] | None
) -> None:
    check(source, shape, seed, codec=codec, tuning=tuning)


@given(
    source=sources(),
    seed=SEEDS,
    codec=st.sampled_from(["none", "gzip", "zstd"]),
    tuning=tunings(spills=[None, 1]),
    ways=st.lists(st.sampled_from(["file", "pipe", "fifo"]), min_size=3, max_size=3),
    to=st.sampled_from(["file", "pipe", "fifo"]),
    sample=st.none() | st.integers(0, 900),
)
def test_any_stream(
    source: Source,
    seed: int,
    codec: str,
    tuning: Mapping[str, int],
    ways: Sequence[Way],
    to: Way,
    sample: int | None,
) -> None:
    if any(data.startswith(b"\x93NUMPY") for data in source.inputs):
        ways = ["file"] * 3  # arrays are files
    ways = ways[: len(source.inputs)]
    check(source, Shape(sample=sample), seed, codec=codec, tuning=tuning, ways=ways, to=to)


def test_the_reference_cuts_as_it_says() -> None:
    assert split_records(b"ab\ncd") == [b"ab", b"cd"]
    shape = Shape(shard_bytes=4)
    one = delimited([b"aaaaaaaaa\n"])
    assert [file.records for file in shape.files(one, 0)] == [[b"a" * 9]]
