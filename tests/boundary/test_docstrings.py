"""The examples of the docstrings run as they stand."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import corekit

MODULES = [module.name for module in pkgutil.walk_packages(corekit.__path__, "corekit.")]


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_the_public_functions_have_examples() -> None:
    from corekit import attention, shuffle

    finder = doctest.DocTestFinder(exclude_empty=True)
    functions = (
        shuffle.shuffle_files,
        shuffle.shuffle_aligned,
        shuffle.plan,
        shuffle.permutation,
        attention.linear_attention,
        attention.linear_attention_step,
        attention.linear_attention_vjp,
        attention.softmax_attention,
        attention.features,
    )
    for function in functions:
        assert any(test.examples for test in finder.find(function))
