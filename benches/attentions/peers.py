"""The peers of attention, in the versions that the published figures were made with.

They have an environment of their own, for PyPI's torch for Linux brings some gigabytes for GPUs.
Where it cannot be had, its rows say so, and JAX stands in its place.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from environment import PROGRAMS

PINS = {
    "numpy": "2.4.6",
    "ml-dtypes": "0.6.0",
    "jax": "0.10.2",
    "jaxlib": "0.10.2",
    "torch": "2.13.0",
}
NEEDED = ("numpy", "ml-dtypes")  # by the bench itself


def compiled(folder: Path) -> Path:
    """Return the folder that has the program which measures the peak, if a compiler is here."""
    folder.mkdir(parents=True, exist_ok=True)
    source, program = PROGRAMS / "fma_peak.c", folder / "fma_peak"
    compiler = shutil.which("cc")
    if compiler is not None:
        argv = [compiler, "-O2", "-pthread", "-o", str(program), str(source)]
        subprocess.run(argv, check=True)
    return folder
