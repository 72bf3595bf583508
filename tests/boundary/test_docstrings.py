"""The examples of the docstrings run as they stand, and what is public has some."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import pytest

import corekit

MODULES = [
    module.name
    for module in pkgutil.walk_packages(corekit.__path__, "corekit.")
    if not module.name.endswith("__main__")
]
NO_EXAMPLES = {"corekit.cli", "corekit.errors"}  # the command line, and what is only caught
PUBLIC = {
    f"{package.__name__}.{name}": public
    for package in map(importlib.import_module, MODULES)
    if "._" not in package.__name__ and package.__name__ not in NO_EXAMPLES
    for name in getattr(package, "__all__", ())
    for public in [getattr(package, name)]
    if inspect.isfunction(public) or inspect.isclass(public)
}
# Seen in the examples of the functions that return them.
RESULTS = {
    "CrossoverReport",
    "DistortionReport",
    "Grads",
    "PairError",
    "ShufflePlan",
    "ShuffleReport",
    "ShuffledFile",
}


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


@pytest.mark.parametrize("name", PUBLIC)
def test_what_is_public_has_examples(name: str) -> None:
    tests = doctest.DocTestFinder().find(PUBLIC[name], name, module=False)
    has_examples = any(test.examples for test in tests)
    assert has_examples != (PUBLIC[name].__name__ in RESULTS)
