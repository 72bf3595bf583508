"""The promise: Ctrl-C, forks, threads and pickles do to attention what they do to a shuffle.

Ctrl-C ends every long call within a second and leaves no thread; forked children can use all of it;
threads may call at once, and a call holds up no other thread; maps, states and errors cross from
one process to another.
"""

from __future__ import annotations

import multiprocessing
import pickle
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest

import promptness
from children import run
from corekit.attention import ExponentialLimit, Favor, State, Taylor, linear_attention
from corekit.errors import OutOfMemoryError
from processes import attention_interrupted, attention_work
from processes.test_fork import ended_well, fork

PATIENCE = 60

SITUATIONS = [
    "linear",
    "linear of one head",
    "linear without causality",
    "vector decay",
    "favor",
    "pairs",
    "softmax",
    "gradients",
    "gradients with decay",
    "features",
    "matrix",
]


@pytest.mark.parametrize("situation", SITUATIONS)
def test_ctrl_c(situation: str) -> None:
    promptness.ends_promptly(
        lambda _: promptness.seconds(run(attention_interrupted.__file__, situation))
    )


def check(expected: str) -> None:
    assert attention_work.everything() == expected


# Python 3.12 and later warn of what is tested here.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_children_of_a_used_process() -> None:
    expected = attention_work.everything()
    children = [fork(lambda: check(expected)) for _ in range(3)]
    assert attention_work.everything() == expected
    assert [ended_well(child) for child in children] == [True] * 3

    def child() -> None:
        check(expected)
        assert ended_well(fork(lambda: check(expected)))
        check(expected)

    assert ended_well(fork(child))
    check(expected)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_children_made_while_a_call_runs() -> None:
    expected = attention_work.everything()
    x = np.random.default_rng(1).standard_normal((1, 100_000, 4, 64), dtype=np.float32)
    enough = threading.Event()

    def busy() -> None:
        while not enough.is_set():
            linear_attention(x, x, x, threads=2)

    thread = threading.Thread(target=busy, daemon=True)
    thread.start()
    try:
        children = []
        for _ in range(4):
            children.append(fork(lambda: check(expected)))
            time.sleep(0.02)
        assert [ended_well(child) for child in children] == [True] * 4
    finally:
        enough.set()
        thread.join(PATIENCE)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(method: str) -> None:
    expected = attention_work.everything()
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        jobs = [pool.submit(attention_work.everything, threads) for threads in (1, 2, 5)]
        assert [job.result(PATIENCE) for job in jobs] == [expected] * 3
        with pytest.raises(OutOfMemoryError) as there:
            pool.submit(attention_work.refused).result(PATIENCE)
    with pytest.raises(OutOfMemoryError) as here:
        attention_work.refused()
    assert str(there.value) == str(here.value)


def test_several_threads_at_once() -> None:
    n = 6
    expected = [attention_work.everything(seed=seed) for seed in range(n)]
    together = threading.Barrier(n)

    def body(seed: int) -> str:
        together.wait(PATIENCE)
        return attention_work.everything(seed=seed)

    with ThreadPoolExecutor(n) as pool:
        assert list(pool.map(body, range(n))) == expected


def test_another_thread_runs_while_the_core_computes() -> None:
    x = np.ones((1, 400_000, 4, 64), np.float32)
    out = np.empty_like(x)
    moments: list[float] = []
    enough = threading.Event()

    def count() -> None:
        while not enough.wait(0.001):
            moments.append(time.monotonic())

    thread = threading.Thread(target=count, daemon=True)
    thread.start()
    begin = time.monotonic()
    linear_attention(x, x, x, threads=1, out=out)
    end = time.monotonic()
    enough.set()
    thread.join(PATIENCE)
    # The switch interval is 5 ms: with the interpreter held not one of these would be inside.
    assert sum(begin < moment < end for moment in moments) > 3


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_objects_survive_every_protocol(protocol: int) -> None:
    for where in (Favor(5, orthogonal=False, seed=2**127), Taylor(2), ExponentialLimit(3)):
        again = pickle.loads(pickle.dumps(where, protocol))
        assert again == where
        assert type(again) is type(where)
    state = State.zeros(1, 2, 3, 4, feature_map=Favor(5, seed=1), normalize=True)
    again = pickle.loads(pickle.dumps(state, protocol))
    assert type(again) is State
    assert all(np.array_equal(x, y) for x, y in zip(state, again, strict=True))
