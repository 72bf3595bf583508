"""What is public says where it is public: in help and in pickles, and its types can be read."""

from __future__ import annotations

import dataclasses
import importlib
import pickle
import pickletools
import typing

import pytest

from boundary.test_plan_and_report import SET
from corekit.projection import DistortionReport, SparseProjection, distortion
from corekit.shuffle import ShuffledFile, ShufflePlan, ShuffleReport
from projection.operators import data

PACKAGES = ["corekit.shuffle", "corekit.projection", "corekit.sklearn"]
NAMES = [
    (package, name) for package in PACKAGES for name in importlib.import_module(package).__all__
]


@pytest.mark.parametrize(("package", "name"), NAMES)
def test_a_name_is_where_it_says(package: str, name: str) -> None:
    public = getattr(importlib.import_module(package), name)
    assert (public.__module__, public.__qualname__) == (package, name)
    assert pickle.loads(pickle.dumps(public)) is public


@pytest.mark.parametrize("result", [DistortionReport, ShuffledFile, ShufflePlan, ShuffleReport])
def test_the_types_of_results_can_be_read(result: type) -> None:
    fields = {field.name for field in dataclasses.fields(result)}
    assert set(typing.get_type_hints(result)) == fields


def report() -> DistortionReport:
    X = data(20, 30)
    return distortion(X, SparseProjection(30, 8, seed=1).project(X), seed=1)


@pytest.mark.parametrize("value", [SET, report(), SparseProjection(30, 8, seed=1)])
def test_pickles_name_no_private_module(value: object) -> None:
    texts = [
        text
        for _, text, _ in pickletools.genops(pickle.dumps(value))
        if isinstance(text, str) and text.startswith("corekit")
    ]
    assert texts
    assert [text for text in texts if "._" in text] == []
