"""The promise: memory that the system refuses is an `OutOfMemoryError`, not the process's end."""

from __future__ import annotations

import pytest

from children import run
from projection import refused


@pytest.mark.parametrize(
    "name",
    [
        "strata",
        "fewer strata",
        "gaussian columns",
        "srht columns",
        "block-stack columns",
        "a row",
        "a padded row",
    ],
)
def test_too_much(name: str) -> None:
    pytest.importorskip("scipy.sparse")
    assert run(refused.__file__, name) == "refused\n"


@pytest.mark.parametrize("form", ["dense", "csr"])
@pytest.mark.parametrize("kind", ["block-stack", "stack", "iid"])
def test_very_many_outputs(kind: str, form: str) -> None:
    """The output fits, and nothing else needs memory for all of them."""
    pytest.importorskip("scipy.sparse")
    assert run(refused.__file__, f"{kind} {form}") == "done\n"
