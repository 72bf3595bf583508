"""A pytest plugin that puts our classes in scikit-learn's place, and says what came of it.

Loaded by ``python -m pytest -p substitution`` before any test module is imported. The
variable SUBSTITUTION_REPORT names the file for the report, a JSON object:

``"outcomes"``
    node id -> "passed", "failed" or "skipped: reason".
``"calls"``
    name -> how often our function or a method of our class ran.
``"bound"``
    Of the names that the test module imported, those that lead to us.
"""

from __future__ import annotations

import functools
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sklearn.random_projection as theirs

import corekit.sklearn as ours

NAMES = ("GaussianRandomProjection", "SparseRandomProjection", "johnson_lindenstrauss_min_dim")
METHODS = ("fit", "transform", "inverse_transform")

calls: Counter[str] = Counter()
outcomes: dict[str, str] = {}
bound: set[str] = set()


def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        calls[name] += 1
        return function(*args, **kwargs)

    return call


def substitute() -> None:
    for name in NAMES:
        our = getattr(ours, name)
        if isinstance(our, type):
            for method in METHODS:
                setattr(our, method, counted(f"{name}.{method}", getattr(our, method)))
        else:
            our = counted(name, our)
            setattr(ours, name, our)
        setattr(theirs, name, our)


substitute()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function):
            bound.update(
                name for name in NAMES if getattr(item.module, name) is getattr(ours, name)
            )


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    # A test is what its call was, unless something went wrong around it.
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        outcomes[report.nodeid] = f"skipped: {reason}"
    elif report.when == "call" or report.failed:
        outcomes[report.nodeid] = "failed" if report.failed else "passed"


def pytest_sessionfinish() -> None:
    report = {"outcomes": outcomes, "calls": calls, "bound": sorted(bound)}
    Path(os.environ["SUBSTITUTION_REPORT"]).write_text(json.dumps(report), encoding="utf-8")
