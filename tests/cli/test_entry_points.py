"""The two ways in: the installed program and ``python -m corekit``."""

from __future__ import annotations

import os
import subprocess
import sys

from command import PATIENCE, run


def test_the_program_is_installed_beside_the_interpreter() -> None:
    program = os.path.join(os.path.dirname(sys.executable), "corekit")
    done = subprocess.run([program, "--version"], capture_output=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (0, run("--version").stdout)
