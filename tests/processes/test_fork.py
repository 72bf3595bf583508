"""The promise: a process that was started from one that has used corekit can use it too.

Forked children inherit the parent's memory and none of its threads; a pool that lived on in
them would wait for ever. So every function is used in the parent at a size that starts threads,
then in children made by ``os.fork`` (also while a shuffle runs in another thread) and by
`multiprocessing` in each of its ways, and afterwards in the parent again.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from corekit._paths import Descriptor
from corekit.shuffle import _call
from processes import work
from reference import reference_shuffle

PATIENCE = 30  # seconds; guards against hangs and measures nothing

# Python 3.12 and later warn of what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").write_bytes(work.TEXT)
    return tmp_path


def fork(body: Callable[[], object]) -> int:
    """Run `body` in a forked child; return the child's process id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            body()
            code = 0
        except BaseException:  # noqa: BLE001 -- a child must never get back into pytest
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def ended_well(child: int) -> bool:
    """Whether the child ends with 0; one that hangs is killed."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def test_a_child_of_a_used_process(folder: Path) -> None:
    work.everything(folder, "before", 1)
    assert ended_well(fork(lambda: work.everything(folder, "child", 2)))
    work.everything(folder, "after", 3)


def test_a_child_of_a_child(folder: Path) -> None:
    def child() -> None:
        work.everything(folder, "child", 2)
        assert ended_well(fork(lambda: work.everything(folder, "grandchild", 3)))
        work.everything(folder, "child again", 4)

    work.everything(folder, "before", 1)
    assert ended_well(fork(child))


def test_several_children_and_the_parent_at_once(folder: Path) -> None:
    work.everything(folder, "before", 1)

    def body(number: int) -> Callable[[], object]:
        return lambda: work.everything(folder, f"child {number}", number)

    children = [fork(body(number)) for number in range(4)]
    work.everything(folder, "meanwhile", 5)
    assert [ended_well(child) for child in children] == [True] * len(children)


def test_a_child_that_is_made_while_a_shuffle_runs(folder: Path) -> None:
    reading, writing = os.pipe()
    started = threading.Event()
    out = folder / "slow"

    def slow() -> None:
        # It runs until the pipe is closed, which is after the children's end.
        _call.run(Descriptor(reading), out, seed=9, threads=3, progress=lambda *_: started.set())

    thread = threading.Thread(target=slow, daemon=True)
    thread.start()
    assert started.wait(PATIENCE)
    os.write(writing, b"a\nb\n")
    children = [fork(lambda: work.everything(folder, f"child {os.getpid()}", 2)) for _ in range(3)]
    assert [ended_well(child) for child in children] == [True] * len(children)
    os.write(writing, b"c\n")
    os.close(writing)
    thread.join(PATIENCE)
    os.close(reading)
    assert out.read_bytes() == reference_shuffle([b"a\nb\nc\n"], 9)


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(folder: Path, method: str) -> None:
    work.everything(folder, "before", 1)
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        jobs = [pool.submit(work.everything, folder, f"{method} {seed}", seed) for seed in range(4)]
        reports = [job.result(PATIENCE) for job in jobs]
    assert [report.seed for report in reports] == [0, 1, 2, 3]
    assert len({report.digest for report in reports}) == 1
    work.everything(folder, "after", 6)
