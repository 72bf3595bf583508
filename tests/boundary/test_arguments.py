"""Bad arguments are refused by name: what was needed, what was given."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corekit import shuffle
from corekit.errors import ArgumentTypeError, InvalidArgumentError, IsDirectoryError

CALLS: list[Callable[..., object]] = [shuffle.shuffle_files, shuffle.plan]


@pytest.fixture(params=CALLS, ids=lambda call: call.__name__)
def call(request: pytest.FixtureRequest) -> Callable[..., object]:
    function: Callable[..., object] = request.param
    return function


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in"
    path.write_bytes(b"a\nb\n")
    return path


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("inputs", None),
        ("inputs", 3),
        ("inputs", {"a"}),
        ("inputs", iter(["a"])),
        ("inputs[0]", [3]),
        ("inputs[1]", ["a", None]),
        ("inputs[0]", [True]),
        ("output", None),
        ("output", 1),
        ("output", ["a"]),
        ("seed", "1"),
        ("seed", 1.0),
        ("seed", True),
        ("seed", np.True_),
        ("seed", np.zeros(2, dtype=np.int64)),
        ("memory_limit", 1.5),
        ("memory_limit", b"1G"),
        ("memory_limit", False),
        ("threads", "2"),
        ("threads", True),
        ("scratch", 3),
        ("delimiter", "\n"),
        ("delimiter", 10),
        ("delimiter", bytearray(b"\n")),
        ("sample", 1.0),
        ("sample", True),
        ("progress", 1),
        ("progress", "bar"),
    ],
)
def test_a_wrong_type(
    call: Callable[..., object], source: Path, tmp_path: Path, name: str, value: object
) -> None:
    arguments: dict[str, Any] = {"inputs": source, "output": tmp_path / "out"}
    arguments[name.partition("[")[0]] = value
    with pytest.raises(ArgumentTypeError) as caught:
        call(**arguments)
    message = str(caught.value)
    assert message.startswith(f"{name} must be ")
    assert ", got " in message
    assert isinstance(caught.value, TypeError)
    assert os.listdir(tmp_path) == ["in"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("inputs", []),
        ("inputs", ""),
        ("inputs", b""),
        ("inputs", "a\0b"),
        ("inputs", "\ud800"),
        ("output", ""),
        ("output", b"a\0b"),
        ("seed", -1),
        ("seed", 1 << 128),
        ("memory_limit", 0),
        ("memory_limit", -5),
        ("memory_limit", "2 sheds"),
        ("threads", 0),
        ("threads", 100_000),
        ("scratch", ""),
        ("delimiter", b""),
        ("sample", -1),
    ],
)
def test_a_wrong_value(
    call: Callable[..., object], source: Path, tmp_path: Path, name: str, value: object
) -> None:
    arguments: dict[str, Any] = {"inputs": source, "output": tmp_path / "out", name: value}
    with pytest.raises(InvalidArgumentError) as caught:
        call(**arguments)
    message = str(caught.value)
    assert message.startswith(f"{name} must ")
    assert ", got " in message
    assert isinstance(caught.value, ValueError)
    assert os.listdir(tmp_path) == ["in"]


def test_an_output_that_ends_in_a_slash_is_a_directory(source: Path) -> None:
    with pytest.raises(IsDirectoryError) as caught:
        shuffle.shuffle_files(source, "folder/")
    assert caught.value.filename == "folder/"


@pytest.mark.parametrize("convert", [str, os.fsencode, Path, lambda path: [path], lambda p: (p,)])
def test_paths_come_in_every_form(
    source: Path, tmp_path: Path, convert: Callable[[Path], Any]
) -> None:
    report = shuffle.shuffle_files(convert(source), os.fsencode(tmp_path / "out"), seed=1)
    assert report.records == 2


def test_numpys_integers_are_integers(source: Path, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {
        "seed": np.uint64(2**64 - 1),
        "threads": np.int32(1),
        "memory_limit": np.int64(64 << 20),
        "sample": np.uint8(1),
    }
    report = shuffle.shuffle_files(source, tmp_path / "out", **arguments)
    assert (report.seed, report.records) == (2**64 - 1, 1)


def test_a_seed_is_drawn_and_reported(source: Path, tmp_path: Path) -> None:
    seeds = {shuffle.shuffle_files(source, tmp_path / "out").seed for _ in range(3)}
    assert len(seeds) == 3
    assert max(seeds) >= 1 << 64  # the chance that all three are smaller is 2**-192


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"n": -1, "seed": 0}, "n"),
        ({"n": 1.5, "seed": 0}, "n"),
        ({"n": 1, "seed": None}, "seed"),
        ({"n": 1, "seed": 1 << 128}, "seed"),
        ({"n": 1, "seed": 0, "stream": -1}, "stream"),
        ({"n": 1, "seed": 0, "stream": 1 << 32}, "stream"),
        ({"n": 1, "seed": 0, "threads": 0}, "threads"),
    ],
)
def test_permutation_checks_its_arguments(arguments: dict[str, Any], name: str) -> None:
    with pytest.raises((ArgumentTypeError, InvalidArgumentError), match=rf"^{name} must be .*got"):
        shuffle.permutation(**arguments)
