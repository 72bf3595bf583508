"""The promise: results and errors of corekit cross from one process to another unharmed.

A pool of processes pickles what its jobs return and raise. An error whose class, message,
errno or file name is lost on the way, or that cannot be unpickled, breaks the whole pool.
"""

from __future__ import annotations

import copy
import errno
import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from corekit import errors
from corekit.shuffle import ShufflePlan, ShuffleReport
from processes import work


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").write_bytes(work.TEXT)
    return tmp_path


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def test_a_report_comes_back_from_another_process(pool: ProcessPoolExecutor, folder: Path) -> None:
    report = pool.submit(work.shuffle, folder / "in", folder / "out", 2**100).result()
    assert type(report) is ShuffleReport
    assert (report.seed, report.records) == (2**100, 20_000)
    here = work.shuffle(folder / "in", folder / "out", 2**100)
    assert (report.digest, report.bytes) == (here.digest, here.bytes)
    assert report.plan.strategy == here.plan.strategy


def test_a_plan_comes_back_from_another_process(pool: ProcessPoolExecutor, folder: Path) -> None:
    plan = pool.submit(work.forecast, folder / "in", folder / "out").result()
    assert type(plan) is ShufflePlan
    assert plan.input_bytes == len(work.TEXT)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_results_survive_every_protocol(folder: Path, protocol: int) -> None:
    report = work.shuffle(folder / "in", folder / "out", 3)
    for result in (report, report.plan):
        assert pickle.loads(pickle.dumps(result, protocol)) == result
    assert copy.deepcopy(report) == report


@pytest.mark.parametrize(
    ("job", "kind"),
    [
        (work.impossible, errors.MemoryLimitError),
        (work.nonsense, errors.InvalidArgumentError),
        (work.wrong_type, errors.ArgumentTypeError),
        (work.missing, errors.MissingFileError),
    ],
)
def test_errors_come_back_from_another_process(
    pool: ProcessPoolExecutor,
    folder: Path,
    job: Callable[[Path, Path], None],
    kind: type[errors.CorekitError],
) -> None:
    with pytest.raises(kind) as there:
        pool.submit(job, folder / "in", folder / "out").result()
    with pytest.raises(kind) as here:
        job(folder / "in", folder / "out")
    assert type(there.value) is type(here.value) is kind
    assert str(there.value) == str(here.value)
    assert there.value.args == here.value.args
    if isinstance(there.value, errors.FileError):
        assert there.value.errno == errno.ENOENT
        assert there.value.filename == str(folder / "missing")
