"""The promise: pipes and FIFOs are inputs and outputs like files, and give the same bytes.

They can be read once only, front to back, in whatever pieces they come: what does not fit
in memory goes to scratch, long records included, or the run says that it
cannot be done. A stream's end on the edge of a chunk is an end; nothing is read twice.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corekit._paths import Descriptor
from corekit.errors import MemoryLimitError
from corekit.shuffle import _call
from properties.engine import TINY, Way, check, lines, shuffled
from properties.inputs import SEEDS, Corpus, corpora, tunings
from reference import reference_shuffle

WAYS: list[Way] = ["file", "pipe", "fifo"]

# Files, pipes and FIFOs for up to four inputs.
any_ways = st.lists(st.sampled_from(WAYS), min_size=4, max_size=4)


@given(
    corpus=corpora(),
    tuning=tunings(spills=[None, 1]),
    seed=SEEDS,
    ways=any_ways,
    to=st.sampled_from(WAYS),
    sample=st.none() | st.integers(0, 2000),
)
def test_streams_with_scratch(
    corpus: Corpus,
    tuning: Mapping[str, int],
    seed: int,
    ways: Sequence[Way],
    to: Way,
    sample: int | None,
) -> None:
    ways = ways[: len(corpus.inputs)]
    check(
        corpus.inputs,
        seed,
        delimiter=corpus.delimiter,
        tuning=tuning,
        ways=ways,
        to=to,
        sample=sample,
    )


@given(
    corpus=corpora(),
    tuning=tunings(blocks=5000, spills=[None]),
    seed=SEEDS,
    ways=any_ways,
    to=st.sampled_from(WAYS),
)
def test_streams_without_scratch(
    corpus: Corpus, tuning: Mapping[str, int], seed: int, ways: Sequence[Way], to: Way
) -> None:
    # Everything has to fit: there is a block for each record that is not kept whole.
    check(
        corpus.inputs,
        seed,
        delimiter=corpus.delimiter,
        tuning=tuning,
        ways=ways[: len(corpus.inputs)],
        to=to,
        scratch=False,
    )


@given(corpus=corpora(), seed=SEEDS, ways=any_ways, to=st.sampled_from(WAYS))
def test_streams_at_the_sizes_of_every_day(
    corpus: Corpus, seed: int, ways: Sequence[Way], to: Way
) -> None:
    ways = ways[: len(corpus.inputs)]
    check(corpus.inputs, seed, delimiter=corpus.delimiter, ways=ways, to=to)


@pytest.mark.parametrize("way", ["pipe", "fifo"])
@pytest.mark.parametrize("workers", [1, 3])
def test_long_records_of_a_stream(way: Way, workers: int) -> None:
    long = {0: 200_000, 1: 65, 7: 5000, 50: 70_000, 299: 100_000}
    text = lines(300, lambda number: long.get(number, number % 100))
    for tail in (text, text[:-1]):
        report = check(
            [tail, text, tail],
            1,
            tuning={**TINY, "blocks": 20, "workers": workers},
            ways=[way, "file", way],
        )
        assert report.scratch_bytes >= 2 * sum(long.values()), "they waited in scratch"


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 200, 300])
@pytest.mark.parametrize("way", ["pipe", "fifo"])
def test_an_end_on_the_edge_of_a_chunk(way: Way, size: int) -> None:
    text = (b"0123456789\n" * 100)[:size]
    for delimiter in (b"\n", b"9\n0", b"89"):
        check([text, text], 2, delimiter=delimiter, tuning=TINY, ways=[way, way])


def test_through_a_fifo_into_a_fifo() -> None:
    text = lines(3000, lambda number: number % 80)
    check([text, text], 3, tuning={**TINY, "spill": 1}, ways=["fifo", "pipe"], to="fifo")


def test_an_open_file_is_read_from_where_it_stands(tmp_path: Path) -> None:
    text = lines(3000, lambda number: number % 80)
    (tmp_path / "in").write_bytes(text)
    with (tmp_path / "in").open("rb") as file:
        os.lseek(file.fileno(), 1234, os.SEEK_SET)
        # Twice the same: an open file can be read again, and is not moved.
        for tuning in (None, TINY, {**TINY, "spill": 0, "blocks": 12}):
            _call.run([Descriptor(file.fileno())] * 2, tmp_path / "out", seed=6, tuning=tuning)
            expected = reference_shuffle([text[1234:]] * 2, 6)
            assert (tmp_path / "out").read_bytes() == expected
            assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 1234


def test_a_socket_and_a_pipe_that_does_not_block(tmp_path: Path) -> None:
    text = lines(3000, lambda number: number % 80)
    here, there = socket.socketpair()
    reading, writing = os.pipe()
    os.set_blocking(reading, False)

    def feed() -> None:
        with there:
            there.sendall(text)
        for at in range(0, 2000, 500):
            os.write(writing, text[at : at + 500])
            time.sleep(0.01)
        os.close(writing)

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    with here:
        sources = [Descriptor(here.fileno()), Descriptor(reading)]
        _call.run(sources, tmp_path / "out", seed=7, tuning={**TINY, "blocks": 200})
    os.close(reading)
    feeder.join()
    assert (tmp_path / "out").read_bytes() == reference_shuffle([text, text[:2000]], 7)


def test_a_stream_that_does_not_fit_without_scratch_is_refused() -> None:
    text = lines(20_000, lambda number: 40)
    with pytest.raises(MemoryLimitError, match="cannot be read again"):
        shuffled([text], 4, tuning=TINY, ways=["pipe"], scratch=False)


@pytest.mark.parametrize("way", ["pipe", "fifo"])
@pytest.mark.parametrize("workers", [1, 3])
def test_long_records_of_a_stream_without_scratch(way: Way, workers: int) -> None:
    long = {0: 200_000, 1: 65, 7: 5000, 50: 4096, 51: 8192, 299: 100_000}
    text = lines(300, lambda number: long.get(number, number % 100))
    tuning = {**TINY, "blocks": 500, "workers": workers}
    ways: list[Way] = [way, "file", way]
    report = check([text[:-1], text, text], 5, tuning=tuning, ways=ways, scratch=False)
    assert report.scratch_bytes == 0


def test_a_long_record_of_a_stream_that_fits_nowhere_is_refused() -> None:
    with pytest.raises(MemoryLimitError, match="scratch"):
        shuffled([b"x" * 300_000], 5, tuning=TINY, ways=["fifo"], scratch=False)
