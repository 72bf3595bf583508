"""The promise: large results lie on whole large pages, and are otherwise arrays like all others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from corekit.attention import linear_attention
from corekit.projection import SparseProjection

LARGE_PAGE = 1 << 21


def attended() -> Any:
    q = np.ones((1, 4100, 2, 64), np.float32)
    return linear_attention(q, q, q)


def projected() -> Any:
    return SparseProjection(200, 100, seed=1).project(np.ones((7000, 200), np.float32))


@pytest.mark.parametrize("make", [attended, projected])
def test_large_results(make: Callable[[], Any]) -> None:
    result = make()
    assert result.nbytes > LARGE_PAGE
    assert result.ctypes.data % LARGE_PAGE == 0
    assert type(result) is np.ndarray
    assert result.flags.c_contiguous
    assert result.flags.writeable
    assert np.isfinite(result).all()


def test_small_results_own_their_memory() -> None:
    q = np.ones((1, 100, 2, 64), np.float32)
    assert linear_attention(q, q, q).base is None
