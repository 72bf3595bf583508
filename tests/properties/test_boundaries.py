"""The promise: no boundary of the engine is visible in the output, each one shown to be crossed.

The properties draw sizes at random; here each boundary has a case that is made to
cross it, and an assertion about the report that it was crossed: several buckets, partial
residency, scratch, recursion on further key bits, several passes without scratch,
every edge of a chunk, records longer than a chunk, a frame and the pool.
"""

from __future__ import annotations

import pytest

from corekit.shuffle import ShuffleReport
from properties.engine import TINY, check, lines

TEXT = lines(6000, lambda number: number % 50)


def stored(report: ShuffleReport) -> int:
    """Return about how many bytes all records take in blocks: their own, a distance, a length."""
    return report.input_bytes + 4 * report.input_records


def test_everything_in_memory() -> None:
    report = check([TEXT], 1)
    assert (report.plan.strategy, report.passes, report.scratch_bytes) == ("memory", 1, 0)


@pytest.mark.parametrize("bits", [0, 1, 2, 5])
def test_buckets(bits: int) -> None:
    report = check([TEXT], 2, tuning={**TINY, "bits": bits, "blocks": 200})
    assert report.plan.buckets == 1 << bits
    assert report.scratch_bytes == 0


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_all_through_scratch(workers: int) -> None:
    tuning = {**TINY, "spill": 1, "workers": workers}
    report = check([TEXT], 3, tuning=tuning)
    assert (report.plan.strategy, report.passes) == ("scratch", 1)
    assert report.scratch_bytes > stored(report) / 2


def test_partly_in_memory_partly_in_scratch() -> None:
    # Of a stream nothing is known: it fills the pool, and what is evicted goes to scratch.
    tuning = {**TINY, "bits": 4, "blocks": 46, "workers": 1}
    report = check([TEXT], 4, tuning=tuning, ways=["pipe"])
    assert report.plan.strategy == "scratch"
    assert stored(report) * 0.1 < report.scratch_bytes < stored(report) * 0.9


@pytest.mark.parametrize("bits", [1, 2])
def test_recursion_on_the_next_key_bits(bits: int) -> None:
    text = lines(20_000, lambda number: number % 60)
    report = check([text], 5, tuning={**TINY, "spill": 1, "bits": bits, "blocks": 12})
    assert report.scratch_bytes > 2 * stored(report), "each byte went to scratch again"


@pytest.mark.parametrize("bits", [0, 1, 3])
def test_several_passes_and_no_scratch(bits: int) -> None:
    tuning = {**TINY, "bits": bits, "blocks": 22}
    report = check([TEXT, lines(10, lambda _: 3)], 6, tuning=tuning, scratch=False)
    assert report.plan.strategy == "rescan"
    assert report.scratch_bytes == 0
    assert report.passes > 2


def test_several_passes_with_recursion() -> None:
    text = lines(20_000, lambda number: number % 60)
    report = check([text], 7, tuning={**TINY, "bits": 1, "blocks": 10}, scratch=False)
    assert report.passes > 2 * 2, "both buckets fell into parts"


def test_an_index_in_many_slices() -> None:
    for entries in (10, 100, 1000):
        tuning = {**TINY, "bits": 0, "blocks": 200, "block": 8192, "entries": entries}
        check([TEXT], 8, tuning=tuning)


@pytest.mark.parametrize("delimiter", [b"\n", b"--", b"\r\n\r\n", b"abcab"])
@pytest.mark.parametrize("workers", [1, 3])
def test_every_edge_of_a_chunk(delimiter: bytes, workers: int) -> None:
    # With chunks of 16 bytes and records of all lengths up to three chunks, records and
    # delimiters begin and end at every place that a chunk has.
    text = lines(100, lambda number: number % 49, delimiter)
    for cut in range(len(delimiter) + 2):
        tuning = {**TINY, "chunk": 16, "inline_max": 24, "workers": workers}
        check([text[: len(text) - cut], text], 9, delimiter=delimiter, tuning=tuning)


@pytest.mark.parametrize("delimiter", [b"\n", b"--"])
def test_chunks_of_one_byte(delimiter: bytes) -> None:
    text = lines(50, lambda number: number % 9, delimiter)
    check([text, b"", text[:-1]], 10, delimiter=delimiter, tuning={**TINY, "chunk": 1})


@pytest.mark.parametrize("delimiter", [b"\n", b"ab"])
@pytest.mark.parametrize("spill", [0, 1])
@pytest.mark.parametrize("blocks", [12, 200])
def test_records_longer_than_a_chunk_a_frame_and_the_pool(
    delimiter: bytes, spill: int, blocks: int
) -> None:
    long = {
        0: 65,  # the first that is not kept whole
        1: 64,
        100: 12 * 4096 + 1,  # longer than the pool of 12 blocks
        101: 5000,  # longer than a frame
        102: 4096 - len(delimiter),  # exactly a frame
        200: 300_000,
        299: 9000,  # the last
    }
    text = lines(300, lambda number: long.get(number, number % 100), delimiter)
    unfinished = text[: -len(delimiter)] + delimiter[:-1]
    check(
        [text, lines(10, lambda number: number * 50, delimiter), unfinished],
        11,
        delimiter=delimiter,
        tuning={**TINY, "spill": spill, "blocks": blocks},
    )


def test_one_record_longer_than_everything() -> None:
    for tail in (b"", b"\n"):
        check([b"x" * 1_000_000 + tail], 12, tuning={**TINY, "blocks": 10})


def test_a_long_record_whose_delimiter_lies_across_chunks() -> None:
    # The first record ends in a delimiter that begins at every offset around an edge.
    for length in range(290, 312):
        text = b"x" * length + b"abcab" + b"y" * 250 + b"abca"
        check([text, text], 13, delimiter=b"abcab", tuning=TINY)


def test_many_inputs() -> None:
    inputs = [lines(number % 7, lambda at: at * 3, start=number) for number in range(500)]
    check(inputs, 14, tuning=TINY)
    check(inputs, 14, tuning={**TINY, "spill": 1, "blocks": 12})


def test_no_records_at_all() -> None:
    for tuning in (None, TINY, {**TINY, "spill": 1}, {**TINY, "spill": 0}):
        report = check([b""], 15, tuning=tuning)
        assert (report.records, report.bytes, report.digest) == (0, 0, 0)
        check([b"", b"", b""], 15, tuning=tuning)


def test_empty_records_only() -> None:
    for tuning in (None, TINY, {**TINY, "spill": 1, "blocks": 12}):
        check([b"\n" * 5000, b"", b"\n"], 16, tuning=tuning)
        check([b"\r\n" * 5000 + b"\r"], 16, delimiter=b"\r\n", tuning=tuning)


def test_an_empty_input_keeps_its_number() -> None:
    text = lines(200, lambda number: number % 9)
    first = check([text, b""], 17)
    second = check([b"", text], 17)
    assert first.digest == second.digest
    # Stream 1 is not stream 0: the same records in another order, which `check` compared.


def test_each_byte_is_content() -> None:
    # Every value stands alone, doubled, and beside a delimiter, for every delimiter.
    every = b"".join(bytes([a, b, a]) + b"," for a in range(256) for b in (0, 10, 13, 255, a))
    for delimiter in (b"\n", b"\0", b"\xff", b",", b"\xff\xfe", b"\r\n"):
        check([every, every[::-1]], 18, delimiter=delimiter, tuning={**TINY, "spill": 1})


def test_carriage_returns_stay() -> None:
    check([b"a\r\nb\r\n\r\nc"], 19)
    check([b"a\r\nb\r\n\r\nc\r"], 19, delimiter=b"\r\n")


@pytest.mark.parametrize("feature", ["no_direct", "no_tmpfile", "no_fallocate"])
@pytest.mark.parametrize("spill", [0, 1])
def test_a_file_system_without(feature: str, spill: int) -> None:
    check([TEXT], 20, tuning={**TINY, "spill": spill, feature: 1})
