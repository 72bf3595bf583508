"""The promise: Ctrl-C ends a call within a second, and progress tells how far it is.

No thread is left, and the same process can project again.
"""

from __future__ import annotations

import threading

import numpy as np
import pytest

import promptness
from children import run
from projection import interrupted
from projection.formula import KINDS
from projection.operators import data, make, same


@pytest.mark.parametrize("call", ["project", "adjoint", "left"])
@pytest.mark.parametrize("kind", KINDS)
def test_ctrl_c(kind: str, call: str) -> None:
    if (kind, call) == ("srht", "adjoint"):
        pytest.skip("it is as quick as its output is written: none that fits in memory takes long")
    promptness.ends_promptly(lambda _: promptness.seconds(run(interrupted.__file__, kind, call)))


@pytest.mark.parametrize("name", ["gaussian", "iid", "adjoint", "entries", "sparse", "submatrix"])
def test_ctrl_c_on_few_rows(name: str) -> None:
    pytest.importorskip("scipy.sparse")
    promptness.ends_promptly(lambda _: promptness.seconds(run(interrupted.__file__, "few", name)))


@pytest.mark.parametrize("kind", KINDS)
def test_progress(kind: str) -> None:
    projection = make(kind, 300, 64)
    X = data(5000, 300)
    told: list[tuple[int, int | None, str]] = []
    threads: set[int] = set()

    def tell(done: int, total: int | None, phase: str) -> None:
        told.append((done, total, phase))
        threads.add(threading.get_ident())

    with_it = projection.project(X, progress=tell, threads=2)
    assert same(with_it, projection.project(X))
    # From the caller's own thread, rising to the whole.
    assert threads <= {threading.get_ident()}
    assert told
    assert told == sorted(told)
    assert {total for _, total, _ in told} == {X.nbytes}
    assert told[-1][0] == X.nbytes


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_in_progress_ends_the_call(kind: str) -> None:
    class OwnError(Exception):
        pass

    def tell(done: int, total: int | None, phase: str) -> None:
        raise OwnError

    projection = make(kind, 300, 64)
    with pytest.raises(OwnError):
        projection.project(data(5000, 300), progress=tell, threads=2)
    assert projection.project(data(5, 300)).shape == (5, 64)


def test_a_bar(capfd: pytest.CaptureFixture[str]) -> None:
    projection = make("block-stack", 300, 64)
    X = data(5000, 300)
    assert same(projection.project(X, progress=True), projection.project(X))
    assert same(projection.project(X, progress=False), projection.project(X))
    assert "Traceback" not in capfd.readouterr().err
    assert np.isfinite(projection.project(X)).all()
