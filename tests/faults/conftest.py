"""Places for files, and an input."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from corekit.shuffle import _scratch
from faults.runs import LINES, OLD


@pytest.fixture
def disk() -> Iterator[Path]:
    """A directory that is not kept in memory, and that all users can enter."""
    parent = os.fsdecode(_scratch._temporary() or b".")
    with TemporaryDirectory(prefix="corekit-faults-", dir=parent) as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def source(disk: Path) -> Path:
    """An input of many lines, written some time ago."""
    folder = disk / "inputs"
    folder.mkdir()
    path = folder / "lines"
    path.write_bytes(LINES)
    os.utime(path, (1e9, 1e9))
    return path


@pytest.fixture
def out(disk: Path) -> Path:
    """A destination that holds something, alone in its directory."""
    folder = disk / "outputs"
    folder.mkdir()
    path = folder / "out"
    path.write_bytes(OLD)
    return path


@pytest.fixture
def mount(disk: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a file system at a new directory; skips the test where that is not permitted."""
    mounted: list[Path] = []

    def mount(*arguments: str) -> Path:
        point = disk / f"mount-{len(mounted)}"
        point.mkdir()
        try:
            subprocess.run(["mount", *arguments, point], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as refused:
            pytest.skip(f"mounting is not permitted here: {refused}")
        mounted.append(point)
        return point

    yield mount
    for point in mounted:
        subprocess.run(["umount", "--lazy", point], check=True)
