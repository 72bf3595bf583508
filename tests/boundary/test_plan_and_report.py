"""Plans and reports: frozen, picklable, readable by people and by programs."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from corekit.shuffle import ShufflePlan, ShuffleReport, plan, shuffle_files

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
REPORT = ShuffleReport(
    records=1_000,
    bytes=1 << 20,
    digest=0xABC,
    input_records=1_000,
    input_bytes=1 << 20,
    input_digest=0xABC,
    seed=2**128 - 1,
    algorithm=1,
    passes=2,
    plan=PLAN,
    seconds={"scatter": 0.5, "gather": 0.25},
    peak_memory=60 << 20,
    scratch_bytes=216 << 20,
)


@pytest.mark.parametrize("value", [PLAN, REPORT])
def test_is_a_value(value: ShufflePlan | ShuffleReport) -> None:
    assert pickle.loads(pickle.dumps(value)) == value
    assert hash(value) == hash(dataclasses.replace(value))
    with pytest.raises(dataclasses.FrozenInstanceError):
        value.scratch_bytes = 0  # type: ignore[misc]
    assert not hasattr(value, "__dict__")


def test_every_field_is_in_the_json() -> None:
    for value in (PLAN, REPORT):
        fields = {field.name for field in dataclasses.fields(value)}
        assert set(json.loads(value.to_json())) == fields
        assert "\n" not in value.to_json()


def test_large_numbers_are_strings_in_json() -> None:
    report = json.loads(REPORT.to_json())
    assert report["seed"] == str(2**128 - 1)
    assert report["digest"] == report["input_digest"] == "abc".zfill(32)
    assert report["plan"]["scratch_bytes"] == 216 << 20


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


def test_a_report_reads_well() -> None:
    assert str(REPORT) == (
        "1,000 records, 1.0 MiB in 0.75 s (1.3 MiB/s), peak memory 60.0 MiB, "
        "digest 00000000000000000000000000000abc verified"
    )
    assert str(dataclasses.replace(REPORT, records=5)).startswith("5 of 1,000 records")


def test_the_cores_dictionaries_fit(tmp_path: Path) -> None:
    """Fails when the core adds, drops or renames a field."""
    source = tmp_path / "in"
    source.write_bytes(b"a\nb\nc")
    planned = plan(source, tmp_path / "out", memory_limit="64MiB")
    report = shuffle_files(source, tmp_path / "out", seed=1, memory_limit="64MiB")
    assert planned.strategy == report.plan.strategy == "memory"
    assert (planned.input_bytes, planned.memory_limit) == (5, 64 << 20)
    assert (report.records, report.bytes, report.input_bytes) == (3, 6, 5)
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
