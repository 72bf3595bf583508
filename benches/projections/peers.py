"""The peers' own environment, in the versions that the published figures were made with.

corekit is not installed there: its wheel is unpacked into a folder by itself, which only corekit's
own workers see, so that another build can be timed without touching anything.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

from environment import AbsentError, PeerEnvironment

# JAX stands for torch: PyPI's torch for Linux brings some gigabytes for GPUs, to multiply matrices.
PINS = {
    "numpy": "2.4.6",
    "scipy": "1.17.1",
    "scikit-learn": "1.9.1",
    "ml-dtypes": "0.6.0",
    "faiss-cpu": "1.15.1",
    "jax": "0.10.2",
    "jaxlib": "0.10.2",
}
NEEDED = ("numpy", "scipy", "scikit-learn", "ml-dtypes")  # by the bench itself

_VERSIONS = """
import importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found[name] = None
print(json.dumps(found))
"""


def prepared(environment: PeerEnvironment) -> tuple[Path, dict[str, str | None]]:
    """Return the peers' interpreter and what it has, after installing what it has not.

    Raises
    ------
    AbsentError
        If what the bench itself needs cannot be installed.
    """
    python = environment.python_with("pip")
    found = versions(python)
    if found != PINS:
        print("installing the peers of the projection", file=sys.stderr)
        # All at once, else what there is: one that cannot be had must not take the others with it.
        if not _installed(python, PINS) and not _installed(python, {n: PINS[n] for n in NEEDED}):
            raise AbsentError("the peers' environment could not be installed")
        for name in PINS:
            if versions(python)[name] is None:
                _installed(python, {each: PINS[each] for each in (*NEEDED, name)})
    return python, versions(python)


def versions(python: Path) -> dict[str, str | None]:
    """Return the version of each peer in an environment."""
    argv = [str(python), "-c", _VERSIONS, *PINS]
    told: dict[str, str | None] = json.loads(subprocess.check_output(argv))
    return told


def _installed(python: Path, pins: Mapping[str, str]) -> bool:
    wanted = [f"{name}=={version}" for name, version in pins.items()]
    argv = [str(python), "-m", "pip", "install", "--quiet", *wanted]
    done = subprocess.run(argv, capture_output=True, text=True)
    print(done.stderr, end="", file=sys.stderr)
    return done.returncode == 0


def unpacked(wheel: Path, directory: Path) -> Path:
    """Return the folder from which the wheel can be imported, named after its bytes."""
    folder = directory / hashlib.sha256(wheel.read_bytes()).hexdigest()[:16]
    if not folder.exists():
        unfinished = folder.with_suffix(".part")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unfinished)
        unfinished.rename(folder)
    return folder
