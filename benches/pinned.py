"""Peers in the versions that published figures were made with, and corekit's wheel beside them.

corekit is not installed there: its wheel is unpacked into a folder by itself, which only corekit's
own workers see, so that another build can be timed without touching anything.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from environment import AbsentError, PeerEnvironment

_VERSIONS = """
import importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name).partition("+")[0]  # torch: of which build
    except importlib.metadata.PackageNotFoundError:
        found[name] = None
print(json.dumps(found))
"""


def prepared(
    environment: PeerEnvironment, pins: Mapping[str, str], needed: Sequence[str]
) -> tuple[Path, dict[str, str | None]]:
    """Return the peers' interpreter and what it has, after installing what it has not.

    `needed` are those that the bench itself cannot do without.

    Raises
    ------
    AbsentError
        If what is needed cannot be installed.
    """
    python = environment.python_with("pip")
    found = versions(python, pins)
    if found != pins:
        print(f"installing the peers: {', '.join(pins)}", file=sys.stderr)
        # All at once, else what there is: one that cannot be had must not take the others with it.
        if not _installed(python, pins) and not _installed(python, {n: pins[n] for n in needed}):
            raise AbsentError("the peers' environment could not be installed")
        for name in pins:
            if versions(python, pins)[name] is None:
                _installed(python, {each: pins[each] for each in (*needed, name)})
    return python, versions(python, pins)


def versions(python: Path, names: Mapping[str, str]) -> dict[str, str | None]:
    """Return the version of each peer in an environment."""
    argv = [str(python), "-c", _VERSIONS, *names]
    told: dict[str, str | None] = json.loads(subprocess.check_output(argv))
    return told


def _installed(python: Path, pins: Mapping[str, str]) -> bool:
    wanted = [f"{name}=={version}" for name, version in pins.items()]
    argv = [str(python), "-m", "pip", "install", "--quiet", *wanted]
    done = subprocess.run(argv, capture_output=True, text=True)
    print(done.stderr, end="", file=sys.stderr)
    return done.returncode == 0


def newest_wheel(repository: Path) -> Path:
    """Return the newest wheel of corekit that was built here."""
    found = list((repository / "target" / "wheels").glob("corekit-*.whl"))
    if not found:
        raise SystemExit("there is no wheel in target/wheels: run make wheel, or use --wheel")
    return max(found, key=lambda path: path.stat().st_mtime)


def unpacked(wheel: Path, directory: Path) -> Path:
    """Return the folder from which the wheel can be imported, named after its bytes."""
    folder = directory / hashlib.sha256(wheel.read_bytes()).hexdigest()[:16]
    if not folder.exists():
        unfinished = folder.with_suffix(".part")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unfinished)
        unfinished.rename(folder)
    return folder
