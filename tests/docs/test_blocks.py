"""The examples of the README and the docs do what they show.

Blocks marked ``python`` and ``console`` run from top to bottom, those of a page in one
directory and, the Python ones, in one namespace. Those marked ``python torch`` run where that
package is installed; elsewhere the page counts as skipped once all others have run. Others (``sh``,
``text``) are not run.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from unittest import SkipTest

import pytest
from sybil import Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

from docs import console, pages
from properties.engine import disk

VARYING = "console varying"


def _console(example: Example) -> str:
    folder = os.getcwd()
    environment = {
        # What a shell set up for development may have set would be seen in what is shown.
        **{name: value for name, value in os.environ.items() if not name.startswith("COREKIT_")},
        "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]),
        "LC_ALL": "C.UTF-8",
    }
    varying = example.region.lexemes["arguments"] == VARYING
    return console.problem(example.parsed, folder=folder, environment=environment, varying=varying)


class Needing(PythonEvaluator):
    """Python that is run where a package is installed."""

    def __init__(self, package: str) -> None:
        super().__init__()
        self._package = package

    def __call__(self, example: Example) -> None:
        """Run the block, or say what it lacks."""
        if find_spec(self._package) is None:
            raise SkipTest(self._package)
        super().__call__(example)


MARKDOWN = Sybil(
    [
        PythonCodeBlockParser(),
        *(
            CodeBlockParser(f"python {package}", Needing(package))
            for package in ("scipy", "sklearn", "torch")
        ),
        CodeBlockParser("console", _console),
        CodeBlockParser(VARYING, _console),
    ]
)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory on a disk, for scratch lies beside the output."""
    with tempfile.TemporaryDirectory(prefix="corekit-docs-", dir=disk()) as name:
        monkeypatch.chdir(name)
        yield Path(name)
        monkeypatch.undo()


@pytest.mark.parametrize("page", pages.MANUAL, ids=pages.name)
@pytest.mark.usefixtures("folder")
def test_the_examples_run(page: Path) -> None:
    lacking: list[str] = []
    for example in MARKDOWN.parse(page):
        try:
            example.evaluate()
        except SkipTest as package:
            lacking.append(str(package))
    if lacking:
        needed = ", ".join(f"{lacking.count(name)} need {name}" for name in sorted(set(lacking)))
        pytest.skip(f"blocks of {pages.name(page)} that were not run: {needed}")


def test_the_guides_have_examples() -> None:
    counts = {pages.name(page): len(list(MARKDOWN.parse(page))) for page in pages.MANUAL}
    assert counts["README.md"] > 1
    assert counts["docs/shuffle.md"] > 10
    assert counts["docs/reproducibility.md"] > 5
    assert counts["docs/attention.md"] > 10
    assert counts["docs/attention-mathematics.md"] > 10
