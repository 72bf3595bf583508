"""What ``import corekit`` brings, and what it leaves for later."""

from __future__ import annotations

import subprocess
import sys

import corekit

# Slow to import, and needed by few calls.
LATER = [
    "argparse",
    "corekit.attention",
    "corekit.cli",
    "corekit.projection",
    "corekit.sklearn",
    "decimal",
    "fractions",
    "numpy",
    "scipy",
    "secrets",
    "sklearn",
    "subprocess",
    "tempfile",
    "tqdm",
]


def test_the_table_of_contents() -> None:
    assert corekit.__all__ == [
        "CorekitError",
        "__version__",
        "attention",
        "errors",
        "projection",
        "shuffle",
    ]
    assert all(hasattr(corekit, name) for name in corekit.__all__)
    assert corekit.__version__.count(".") >= 2


def test_slow_modules_are_left_for_later() -> None:
    script = (
        "import sys; before = set(sys.modules); import corekit; "
        f"print(sorted({set(LATER)!r} & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout == b"[]\n"


def test_types_are_shipped() -> None:
    from importlib.resources import files

    assert (files("corekit") / "py.typed").is_file()
    assert (files("corekit") / "_core.pyi").is_file()
