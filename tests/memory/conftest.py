"""Inputs larger than the limits they are shuffled under."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from corekit.shuffle import _scratch
from memory.peak import MIB

MANY = 2000


@pytest.fixture(scope="session")
def disk() -> Iterator[Path]:
    """A directory that is not kept in memory, gone when the session ends."""
    parent = os.fsdecode(_scratch._temporary() or b".")
    with TemporaryDirectory(prefix="corekit-memory-", dir=parent) as name:
        yield Path(name)


def _lines(size: int, mean: int, spread: int, delimiter: bytes = b"\n") -> bytes:
    """Return about `size` bytes of lines whose lengths, all counted, are mean +- spread."""
    rng = np.random.default_rng(mean)
    lengths = rng.integers(mean - spread, mean + spread, size // mean, endpoint=True)
    text = rng.integers(ord("a"), ord("z"), int(lengths.sum()), dtype=np.uint8, endpoint=True)
    ends = lengths.cumsum()
    for back, byte in enumerate(reversed(delimiter), start=1):
        text[ends - back] = byte
    return text.tobytes()


def _write(path: Path, unit: bytes, size: int, *more: bytes) -> list[Path]:
    with path.open("wb") as file:
        for _ in range(size // len(unit)):
            file.write(unit)
        for part in more:
            file.write(part)
    return [path]


def _many(folder: Path) -> list[Path]:
    folder.mkdir()
    unit = _lines(40 << 10, 100, 50)
    return [path for i in range(MANY) for path in _write(folder / f"{i:04}", unit, len(unit))]


def _long(path: Path) -> list[Path]:
    lines = _lines(2 * MIB, 400, 300)
    return _write(path, lines, 16 * MIB, b"x" * (80 * MIB) + b"\n", lines)


_KINDS: dict[str, Callable[[Path], list[Path]]] = {
    "lines of 400": lambda path: _write(path, _lines(4 * MIB, 400, 300), 80 * MIB),
    "lines of 22": lambda path: _write(path, _lines(MIB, 22, 0), 80 * MIB),
    "empty lines": lambda path: _write(path, b"\n" * MIB, 8 * MIB),
    "a line of 80 MiB": _long,
    "a delimiter of 4": lambda path: _write(path, _lines(MIB, 100, 50, b"<=>\n"), 80 * MIB),
    "many files": _many,
}


@pytest.fixture(scope="session")
def corpus(disk: Path) -> Callable[[str], list[Path]]:
    """The files of a kind of input, written when first asked for."""

    @cache
    def files(kind: str) -> list[Path]:
        return _KINDS[kind](disk / kind.replace(" ", "-"))

    return files
