"""The promise: scikit-learn's own tests of its random projections pass with our classes.

The file is the one in scikit-learn's wheel, unchanged and whole, for the global random
seeds 0 to 9. `substitution` puts our classes in place of theirs before it is imported.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from peers import programs

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

SUITE = "sklearn.tests.test_random_projection"
SEEDS = "0-9"

pytestmark = pytest.mark.timeout(programs.PATIENCE)


def pytest_of(*options: str, folder: Path, seeds: str = SEEDS, **variables: str) -> Any:
    # The settings of our own pytest are not those that the suite was written for.
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    return programs.run(
        *("-m", "pytest", "-c", "pytest.ini", "-p", "no:cacheprovider", "-q"),
        *(*options, "--pyargs", SUITE),
        folder=folder,
        SKLEARN_TESTS_GLOBAL_RANDOM_SEED=seeds,
        **variables,
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("suite")
    done = pytest_of(
        *("-p", "substitution"),
        folder=folder,
        SUBSTITUTION_REPORT=str(folder / "report.json"),
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    loaded: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return loaded


def test_every_test_passes(report: dict[str, Any]) -> None:
    assert set(report["outcomes"].values()) == {"passed"}


def test_every_test_of_the_file_runs(report: dict[str, Any], tmp_path: Path) -> None:
    """What is collected without us is what ran with us."""
    done = pytest_of("--collect-only", folder=tmp_path)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    names = {line.partition("::")[2] for line in done.stdout.splitlines() if "::" in line}
    assert names == {node.partition("::")[2] for node in report["outcomes"]}
    assert len(names) > 200 * 10


def test_it_is_ours_that_is_tested(report: dict[str, Any]) -> None:
    classes = ["GaussianRandomProjection", "SparseRandomProjection"]
    assert report["bound"] == [*classes, "johnson_lindenstrauss_min_dim"]
    calls = report["calls"]
    assert calls["johnson_lindenstrauss_min_dim"] > 0
    for name in classes:
        for method in ("fit", "transform", "inverse_transform"):
            assert calls[f"{name}.{method}"] > 100 * 10, (name, method)


def test_a_wrong_class_would_be_noticed(tmp_path: Path) -> None:
    """The suite has the power that the other tests here rely on."""
    (tmp_path / "careless.py").write_text(
        "import substitution\n"
        "theirs = substitution.ours.SparseRandomProjection\n"
        "project = theirs.transform\n"
        "theirs.transform = lambda self, X: project(self, X) * 1.25\n",
        encoding="utf-8",
    )
    done = pytest_of(
        *("-p", "substitution", "-p", "careless", "-k", "quality or inverse", "--tb=no"),
        folder=tmp_path,
        seeds="0",
        PYTHONPATH=f"{programs.HERE}:{tmp_path}",
        SUBSTITUTION_REPORT=str(tmp_path / "report.json"),
    )
    assert done.returncode == 1, done.stdout[-5000:]
    outcomes = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["outcomes"]
    assert "failed" in outcomes.values()
