"""Places for files, and an input."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from properties.engine import disk as real_disk
from reader.runs import TEXT


@pytest.fixture
def disk() -> Iterator[Path]:
    """A directory that is not kept in memory."""
    with TemporaryDirectory(prefix="corekit-reader-", dir=real_disk()) as name:
        yield Path(name)


@pytest.fixture
def source(disk: Path) -> Path:
    """An input of some records."""
    path = disk / "in"
    path.write_bytes(TEXT)
    return path


@pytest.fixture
def scratch(disk: Path) -> Path:
    """An empty directory."""
    path = disk / "scratch"
    path.mkdir()
    return path
