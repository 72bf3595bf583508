"""The short examples run as they stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from command import PATIENCE

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
# The demo takes its time and is run by `make demo`.
NAMES = sorted(path.name for path in EXAMPLES.glob("*.py") if path.name != "demo.py")


@pytest.mark.parametrize("name", NAMES)
def test_runs(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / name], cwd=tmp_path, capture_output=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout
