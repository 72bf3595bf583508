"""The promise: any number of threads may call at once, and a call holds up no other Python thread.

Calls share nothing but the machine: each has its own workers and its own memory. The
interpreter is free while the core works, so another thread can even be the one that feeds the
shuffle, or that reads what it writes.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from corekit._paths import Descriptor
from corekit.shuffle import _call, permutation, shuffle_files
from processes import work
from reference import reference_shuffle

PATIENCE = 30  # seconds; guards against hangs and measures nothing


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").write_bytes(work.TEXT)
    return tmp_path


def elsewhere(body: Callable[[], object]) -> None:
    """Run `body` in another thread and wait for its end."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(body).result(PATIENCE)


def test_several_threads_at_once(folder: Path) -> None:
    n = 6
    together = threading.Barrier(n)

    def body(number: int) -> int:
        together.wait(PATIENCE)
        return work.everything(folder, f"out {number}", number).seed

    with ThreadPoolExecutor(n) as pool:
        assert list(pool.map(body, range(n))) == list(range(n))


def test_a_thread_that_is_not_the_first(folder: Path) -> None:
    elsewhere(lambda: work.everything(folder, "out", 1))


def test_progress_is_told_to_the_calling_thread(folder: Path) -> None:
    heard: set[int] = set()

    def body() -> None:
        shuffle_files(
            folder / "in",
            folder / "out",
            progress=lambda *_: heard.add(threading.get_ident()),
        )
        assert heard == {threading.get_ident()}

    elsewhere(body)


def test_an_exception_of_progress_ends_a_call_of_any_thread(folder: Path) -> None:
    class EnoughError(Exception):
        pass

    def stop(done: int, total: int | None, phase: str) -> None:
        raise EnoughError

    def body() -> None:
        reading, writing = os.pipe()  # nobody writes to it: the call would never end
        try:
            with pytest.raises(EnoughError):
                _call.run(Descriptor(reading), folder / "out", progress=stop)
        finally:
            os.close(reading)
            os.close(writing)

    elsewhere(body)
    assert os.listdir(folder) == ["in"]


@pytest.mark.parametrize("no_tmpfile", [0, 1])
def test_one_destination_for_several_threads(folder: Path, no_tmpfile: int) -> None:
    """The last one wins with all of its bytes, and no sibling is taken for a dead one."""
    seeds = range(4)
    together = threading.Barrier(len(seeds))

    def body(seed: int) -> None:
        together.wait(PATIENCE)
        _call.run(
            folder / "in",
            folder / "out",
            seed=seed,
            memory_limit="64MiB",
            tuning={"no_tmpfile": no_tmpfile},
        )

    with ThreadPoolExecutor(len(seeds)) as pool:
        list(pool.map(body, seeds))
    expected = [reference_shuffle([work.TEXT], seed) for seed in seeds]
    assert (folder / "out").read_bytes() in expected
    assert sorted(os.listdir(folder)) == ["in", "out"]


def test_other_threads_feed_and_drain_a_shuffle() -> None:
    """With the interpreter held by the call, the pipes could never move and this would hang."""
    source, into = os.pipe()
    out_of, sink = os.pipe()
    got = bytearray()

    def feed() -> None:
        with os.fdopen(into, "wb", buffering=0) as pipe:
            for at in range(0, len(work.TEXT), 5000):
                pipe.write(work.TEXT[at : at + 5000])

    def drain() -> None:
        with os.fdopen(out_of, "rb", buffering=0) as pipe:
            while piece := pipe.read(5000):
                got.extend(piece)

    threads = [threading.Thread(target=body, daemon=True) for body in (feed, drain)]
    for thread in threads:
        thread.start()
    _call.run(Descriptor(source), Descriptor(sink), seed=3)
    os.close(source)
    os.close(sink)
    for thread in threads:
        thread.join(PATIENCE)
    assert bytes(got) == reference_shuffle([work.TEXT], 3)


def test_another_thread_runs_while_the_core_computes() -> None:
    moments: list[float] = []
    enough = threading.Event()

    def count() -> None:
        while not enough.wait(0.001):
            moments.append(time.monotonic())

    thread = threading.Thread(target=count, daemon=True)
    thread.start()
    begin = time.monotonic()
    permutation(4_000_000, seed=1, threads=1)
    end = time.monotonic()
    enough.set()
    thread.join(PATIENCE)
    # The switch interval is 5 ms: with the interpreter held not one of these would be inside.
    assert sum(begin < moment < end for moment in moments) > 3


def test_signals_that_raise_nothing_change_nothing(folder: Path) -> None:
    """System calls of the workers are interrupted a thousand times a second, and go on."""
    heard = 0

    def hear(number: int, frame: object) -> None:
        nonlocal heard
        heard += 1

    reading, writing = os.pipe()
    long = b"x" * 100_000 + b"\n"

    def feed() -> None:
        with os.fdopen(writing, "wb", buffering=0) as pipe:
            for at in range(0, len(work.TEXT), 5000):
                pipe.write(work.TEXT[at : at + 5000])
                time.sleep(0.003)
            pipe.write(long)

    def body() -> None:
        # Blocked in the first thread, the signals go to this one and to those that the core
        # starts from it, which inherit what it blocks.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        tuning = {"chunk": 4096, "block": 8192, "bits": 3, "blocks": 40, "spill": 1}
        _call.run(
            [Descriptor(reading), folder / "in"],
            folder / "out",
            seed=4,
            memory_limit="64MiB",
            tuning=tuning,
        )

    before = signal.signal(signal.SIGUSR1, hear)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        feeder = threading.Thread(target=feed, daemon=True)
        feeder.start()
        with ThreadPoolExecutor(1) as pool:
            job = pool.submit(body)
            while not job.done():
                os.kill(os.getpid(), signal.SIGUSR1)
                time.sleep(0.001)
            job.result()
        feeder.join(PATIENCE)
    finally:
        os.close(reading)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGUSR1, before)
    assert heard > 0
    assert (folder / "out").read_bytes() == reference_shuffle([work.TEXT + long, work.TEXT], 4)
