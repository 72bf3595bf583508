"""Plans and reports: frozen, picklable, readable by people and by programs."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from corekit.shuffle import ShuffledFile, ShufflePlan, ShuffleReport, plan, shuffle_files

PLAN = ShufflePlan(
    strategy="scratch",
    passes=2,
    buckets=64,
    workers=2,
    block_bytes=65536,
    chunk_bytes=1 << 20,
    memory_limit=64 << 20,
    memory_bytes=60 << 20,
    resident_bytes=40 << 20,
    scratch_bytes=216 << 20,
    input_bytes=256 << 20,
    bytes_read=472 << 20,
    bytes_written=472 << 20,
    seconds=1.5,
    reason="the input is larger than the limit",
    estimated=False,
)
UNKNOWN: dict[str, Any] = dict.fromkeys(
    (
        "strategy",
        "passes",
        "buckets",
        "memory_bytes",
        "resident_bytes",
        "scratch_bytes",
        "input_bytes",
        "bytes_read",
        "bytes_written",
        "seconds",
    )
)
FILE = ShuffledFile(
    path="out/train-00000.txt.zst",
    records=600,
    bytes=1 << 19,
    size=1 << 18,
    digest=0xAB,
    index=0,
    split="train",
    epoch=None,
)
REPORT = ShuffleReport(
    records=1_000,
    bytes=1 << 20,
    digest=0xABC,
    input_records=1_000,
    input_bytes=1 << 20,
    input_digest=0xABC,
    output_size=1 << 20,
    files=(),
    seed=2**128 - 1,
    algorithm=1,
    passes=2,
    plan=PLAN,
    seconds={"scatter": 0.5, "gather": 0.25},
    peak_memory=60 << 20,
    scratch_bytes=216 << 20,
)


SET = dataclasses.replace(REPORT, files=(FILE, dataclasses.replace(FILE, index=1)))


@pytest.mark.parametrize("value", [PLAN, FILE, REPORT, SET])
def test_is_a_value(value: ShufflePlan | ShuffledFile | ShuffleReport) -> None:
    assert pickle.loads(pickle.dumps(value)) == value
    assert hash(value) == hash(dataclasses.replace(value))
    for field in dataclasses.fields(value):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field.name, 0)
    assert not hasattr(value, "__dict__")


def test_every_field_is_in_the_json() -> None:
    for value in (PLAN, REPORT, SET):
        fields = {field.name for field in dataclasses.fields(value)}
        assert set(json.loads(value.to_json())) == fields
        assert "\n" not in value.to_json()


def test_large_numbers_are_strings_in_json() -> None:
    report = json.loads(REPORT.to_json())
    assert report["seed"] == str(2**128 - 1)
    assert report["digest"] == report["input_digest"] == "abc".zfill(32)
    assert report["plan"]["scratch_bytes"] == 216 << 20


def test_the_files_of_a_set_are_in_the_json() -> None:
    first, second = json.loads(SET.to_json())["files"]
    assert set(first) == {field.name for field in dataclasses.fields(FILE)}
    assert first["digest"] == "ab".zfill(32)
    assert (first["path"], first["split"], first["epoch"]) == (FILE.path, "train", None)
    assert (first["index"], second["index"]) == (0, 1)


def test_names_of_files_that_are_no_text_survive() -> None:
    raw = {**dataclasses.asdict(FILE), "path": b"\xff-0"}
    file = ShuffledFile._from_core(raw)
    assert os.fsencode(file.path) == b"\xff-0"
    assert os.fsencode(json.loads(json.dumps(file.to_dict()))["path"]) == b"\xff-0"


def test_a_plan_reads_well() -> None:
    lines = str(PLAN).splitlines()
    assert lines[1] == "why      the input is larger than the limit"
    assert "memory   60.0 MiB (62,914,560 bytes), limit 64.0 MiB (67,108,864 bytes)" in lines
    assert "scratch  216.0 MiB (226,492,416 bytes)" in lines
    assert lines[-1] == "time     about 1.5 s"


def test_a_plan_says_what_is_unknown() -> None:
    text = str(dataclasses.replace(PLAN, **UNKNOWN))
    assert "unknown size (a pipe or a device)" in text
    assert text.count("unknown") == 10


def test_a_plan_from_samples_does_not_pretend_to_know() -> None:
    lines = str(dataclasses.replace(PLAN, estimated=True)).splitlines()
    assert (
        "input    256.0 MiB (268,435,456 bytes) as stored; the rest is reckoned from samples"
        in lines
    )
    assert "read     about 472.0 MiB" in lines
    assert "scratch  about 216.0 MiB" in lines
    assert "memory   60.0 MiB (62,914,560 bytes), limit 64.0 MiB (67,108,864 bytes)" in lines
    unknown = str(dataclasses.replace(PLAN, estimated=True, **UNKNOWN))
    assert unknown.count("unknown") == 10


def test_a_report_reads_well() -> None:
    assert str(REPORT) == (
        "1,000 records, 1.0 MiB in 0.75 s (1.3 MiB/s), peak memory 60.0 MiB, "
        "digest 00000000000000000000000000000abc verified"
    )
    assert str(dataclasses.replace(REPORT, records=5)).startswith("5 of 1,000 records")
    assert str(dataclasses.replace(REPORT, records=3000)).startswith("3,000 records, ")


def test_a_report_of_a_set_counts_its_files() -> None:
    assert str(SET).startswith("1,000 records in 2 files, 1.0 MiB in 0.75 s")
    assert " in 1 file, " in str(dataclasses.replace(SET, files=(FILE,)))


def test_the_cores_dictionaries_fit(tmp_path: Path) -> None:
    """Fails when the core adds, drops or renames a field."""
    source = tmp_path / "in"
    source.write_bytes(b"a\nb\nc")
    planned = plan(source, tmp_path / "out", memory_limit="64MiB")
    report = shuffle_files(source, tmp_path / "out", seed=1, memory_limit="64MiB")
    assert planned.strategy == report.plan.strategy == "memory"
    assert (planned.input_bytes, planned.memory_limit) == (5, 64 << 20)
    assert (report.records, report.bytes, report.input_bytes) == (3, 6, 5)
    assert (report.output_size, report.files) == (6, ())
    assert planned.estimated is False
    assert report.digest == report.input_digest
    assert all(seconds >= 0 for seconds in report.seconds.values())
    assert isinstance(hash(report), int)
    assert pickle.loads(pickle.dumps(report)) == report


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1e-8, "less than 0.1 s"),
        (0.14, "about 0.1 s"),
        (119, "about 119.0 s"),
        (150, "about 2.5 min"),
    ],
)
def test_expected_times_read_well(seconds: float, text: str) -> None:
    assert str(dataclasses.replace(PLAN, seconds=seconds)).endswith(f"time     {text}")
