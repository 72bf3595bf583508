"""Bad arguments are refused by name: what was needed, what was given."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corekit import shuffle
from corekit._paths import Descriptor
from corekit.errors import ArgumentTypeError, InvalidArgumentError, IsDirectoryError
from corekit.shuffle import _call
from corekit.shuffle._job import Job

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
        ("record_bytes", "4"),
        ("record_bytes", True),
        ("header", None),
        ("header", "1"),
        ("header", True),
        ("input_format", None),
        ("input_format", b"raw"),
        ("any_expansion", None),
        ("any_expansion", 1),
        ("fraction", True),
        ("fraction", b"0.1"),
        ("splits", "a=1"),
        ("splits", [("a", 1)]),
        ("splits", {1: 1}),
        ("epochs", 2.0),
        ("epochs", True),
        ("shards", "4"),
        ("shard_records", 1e6),
        ("shard_bytes", 1.5),
        ("shard_bytes", True),
        ("compress", 9),
        ("compress", False),
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
        ("record_bytes", 0),
        ("record_bytes", 1 << 63),
        ("header", -1),
        ("input_format", "GZIP"),
        ("input_format", "bz2"),
        ("input_format", ""),
        ("fraction", 1.1),
        ("fraction", "some"),
        ("splits", {}),
        ("splits", {"a": 0.9}),
        ("splits", {"a/b": 1}),
        ("epochs", 0),
        ("epochs", 1 << 32),
        ("shards", 0),
        ("shard_records", 0),
        ("shard_bytes", 0),
        ("shard_bytes", "0K"),
        ("shard_bytes", "some"),
        ("compress", "bzip2"),
        ("compress", "gzip:13"),
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


@pytest.mark.parametrize(
    ("options", "first", "second"),
    [
        ({"sample": 1, "fraction": 0.5}, "sample", "fraction"),
        ({"sample": 0, "splits": {"a": 1}}, "sample", "splits"),
        ({"fraction": 0, "splits": {"a": 1}}, "fraction", "splits"),
        ({"shards": 2, "shard_records": 2}, "shards", "shard_records"),
        ({"shards": 2, "shard_bytes": 2}, "shards", "shard_bytes"),
        ({"shard_records": 2, "shard_bytes": "2K"}, "shard_records", "shard_bytes"),
        ({"record_bytes": 2, "delimiter": b"\0"}, "record_bytes", "delimiter"),
    ],
)
def test_two_that_exclude_each_other(
    call: Callable[..., object],
    source: Path,
    tmp_path: Path,
    options: dict[str, Any],
    first: str,
    second: str,
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        call(source, tmp_path / "{index}-{split}", **options)
    assert str(caught.value) == f"{first} must be given without {second}, got both"


def test_what_goes_to_the_core_by_default(jobs: list[Job], source: Path, tmp_path: Path) -> None:
    shuffle.shuffle_files(source, tmp_path / "out", seed=1, memory_limit=2, threads=3)
    assert jobs == [
        Job(
            inputs=[os.fsencode(source)],
            output=os.fsencode(tmp_path / "out"),
            slice=None,
            seed=1,
            epoch=0,
            epochs=None,
            memory_limit=2,
            threads=3,
            scratch=os.path.realpath(os.fsencode(tmp_path)),
            delimiter=b"\n",
            record_bytes=None,
            input_format="auto",
            npy=None,
            header=0,
            any_expansion=False,
            sample=None,
            fraction=None,
            splits=None,
            shards=None,
            shard_records=None,
            shard_bytes=None,
            compress=None,
            tuning=None,
        )
    ]
    assert set(jobs[0]) == Job.__required_keys__


def test_every_option_reaches_the_core(
    call: Callable[..., object], jobs: list[Job], source: Path, tmp_path: Path
) -> None:
    given: dict[str, Any] = {
        "header": np.int8(2),
        "record_bytes": 8,
        "input_format": "gzip",
        "any_expansion": True,
        "splits": {"a": "0.5", "b": 0.5},
        "epochs": 3,
        "shard_bytes": "1MiB",
        "compress": "zstd:19",
    }
    call(source, tmp_path / "{split}-{epoch}-{index}.gz", **given)
    job = jobs[-1]
    assert (job["header"], job["record_bytes"], job["delimiter"]) == (2, 8, b"\n")
    assert (job["input_format"], job["any_expansion"]) == ("gzip", True)
    assert (job["splits"], job["epochs"]) == ([("a", 1 << 63), ("b", 1 << 64)], 3)
    assert (job["shard_bytes"], job["compress"]) == (1 << 20, ("zstd", 19))
    call(source, tmp_path / "out.gz", fraction="0.5")
    assert (jobs[-1]["fraction"], jobs[-1]["compress"]) == (1 << 63, ("gzip", 6))
    call(source, tmp_path / "{index}", shards=7)
    assert jobs[-1]["shards"] == 7
    call(source, tmp_path / "{index}", shard_records=7)
    assert jobs[-1]["shard_records"] == 7


@pytest.mark.parametrize(
    ("options", "is_one"),
    [
        ({"shards": 2}, True),
        ({"shard_records": 2}, True),
        ({"shard_bytes": 2}, True),
        ({"splits": {"a": 1}}, True),
        ({"epochs": 1}, True),
        ({}, False),
        ({"sample": 2}, False),
    ],
)
def test_scratch_lies_beside_all_files_of_a_set(
    jobs: list[Job], source: Path, tmp_path: Path, options: dict[str, Any], is_one: bool
) -> None:
    shuffle.shuffle_files(source, tmp_path / "{split}{epoch}" / "{index}", **options)
    beside = tmp_path if is_one else tmp_path / "{split}{epoch}"
    assert jobs[0]["scratch"] == os.path.realpath(os.fsencode(beside))
    assert jobs[0]["output"] == os.fsencode(tmp_path / "{split}{epoch}" / "{index}")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"shards": 2}, "{index}"),
        ({"shard_records": 2}, "{index}"),
        ({"shard_bytes": 2}, "{index}"),
        ({"splits": {"a": 1}}, "{split}"),
    ],
)
@pytest.mark.parametrize("output", [Descriptor(1), "/dev/stdout"])
def test_a_stream_is_no_set(
    source: Path, options: Any, field: str, output: str | Descriptor
) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^output must be a path with ") as caught:
        _call.run(source, output, **options)
    assert field in str(caught.value)
    assert str(caught.value).endswith(f"when {next(iter(options))} is given, got a stream")


def test_a_stream_is_compressed_when_asked_for(jobs: list[Job], source: Path) -> None:
    _call.run(source, Descriptor(1), epochs=2)
    _call.run(source, Descriptor(1), compress="gzip:9")
    assert [job["compress"] for job in jobs] == [None, ("gzip", 9)]


@pytest.mark.parametrize(
    ("inputs", "outputs", "name"),
    [
        ("a", ["b"], "inputs"),
        (["a"], "b", "outputs"),
        (["a"], Path("b"), "outputs"),
        (["a"], iter("b"), "outputs"),
        (["a"], [1], "outputs[0]"),
        (["a", 3], ["b", "c"], "inputs[1]"),
        ([], [], "inputs"),
        (["a"], [], "outputs"),
        (["a"], ["b", "c"], "outputs"),
        (["a", "b"], ["c", "c"], "outputs[1]"),
        (["a", "b", "c"], ["x", "y", "./x"], "outputs[2]"),
    ],
)
def test_aligned_outputs_go_with_the_inputs(inputs: Any, outputs: Any, name: str) -> None:
    with pytest.raises((ArgumentTypeError, InvalidArgumentError)) as caught:
        shuffle.shuffle_aligned(inputs, outputs)
    assert str(caught.value).startswith(f"{name} must ")
    assert ", got " in str(caught.value)


def test_aligned_files(jobs: list[Job], source: Path, tmp_path: Path) -> None:
    outputs: list[Path | str] = [tmp_path / "a.gz", "/dev/null", tmp_path / "b.zst", "/dev/null"]
    reports = shuffle.shuffle_aligned([source] * 4, outputs, seed=5)
    assert [report.seed for report in reports] == [5] * 4
    assert [job["inputs"] for job in jobs] == [[os.fsencode(source)]] * 4
    assert [job["output"] for job in jobs] == [os.fsencode(output) for output in outputs]
    assert [job["compress"] for job in jobs] == [("gzip", 6), None, ("zstd", 3), None]
    assert {job["scratch"] for job in jobs} == {os.path.realpath(os.fsencode(tmp_path))}
    # They differ in nothing else, so all have the same order.
    own: dict[str, Any] = {"inputs": [], "output": b"", "compress": None}
    assert all({**job, **own} == {**jobs[0], **own} for job in jobs)


def test_aligned_sets(jobs: list[Job], source: Path, tmp_path: Path) -> None:
    outputs = [tmp_path / "a-{index}", tmp_path / "b-{index}"]
    shuffle.shuffle_aligned([source, source], outputs, shards=2)
    assert [job["shards"] for job in jobs] == [2, 2]
    with pytest.raises(InvalidArgumentError, match=r"^shard_bytes must be given without aligned"):
        shuffle.shuffle_aligned([source, source], outputs, shard_bytes=2)
    with pytest.raises(InvalidArgumentError, match=r"^outputs\[1\] must be a path with {index}"):
        shuffle.shuffle_aligned([source, source], [outputs[0], "/dev/stdout"], shards=2)
    assert _call.plan_aligned([source, source], outputs, shards=2)[1].strategy == "memory"
    assert [job["output"] for job in jobs[2:]] == [os.fsencode(output) for output in outputs]


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
        ({"n": 1, "seed": 0, "epoch": -1}, "epoch"),
        ({"n": 1, "seed": 0, "epoch": 1 << 32}, "epoch"),
        ({"n": 1, "seed": 0, "epoch": 1.0}, "epoch"),
        ({"n": 1, "seed": 0, "threads": 0}, "threads"),
    ],
)
def test_permutation_checks_its_arguments(arguments: dict[str, Any], name: str) -> None:
    with pytest.raises((ArgumentTypeError, InvalidArgumentError), match=rf"^{name} must be .*got"):
        shuffle.permutation(**arguments)
