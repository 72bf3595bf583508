"""The promise: our classes pass scikit-learn's checks of what an estimator is, all of them.

The check of array API inputs runs only if SciPy was imported with SCIPY_ARRAY_API=1, and
those of frames only with pandas and polars, so a skip means that one of these is missing.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peers import programs

for name in ("sklearn", "pandas", "polars"):
    pytest.importorskip(name, reason=f"{name} is not installed")

pytestmark = pytest.mark.timeout(programs.PATIENCE)


def test_no_check_fails_and_none_is_skipped(tmp_path: Path) -> None:
    done = programs.run(
        str(programs.HERE / "estimator_checks.py"), folder=tmp_path, SCIPY_ARRAY_API="1"
    )
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    assert set(outcomes) >= {"sparse", "gaussian"}
    for estimator, checks in outcomes.items():
        assert len(checks) > 35, estimator
        others = {check: how for check, how in checks.items() if how != "passed"}
        assert others == {}, estimator
