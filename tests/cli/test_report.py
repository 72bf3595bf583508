"""What a run says about itself: JSON, bar and report line, each only when asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command import error_lines, on_a_terminal, run
from reference import reference_digest, split_records

LINES = b"".join(b"%d\n" % number for number in range(1000))


def test_json_is_the_last_line(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.write_bytes(LINES)
    seed = 2**128 - 1
    done = run("shuffle", "--json", "--progress", f"--seed={seed}", source)
    assert done.returncode == 0
    assert done.stderr.endswith(b"\n")
    report = json.loads(error_lines(done)[-1])
    assert report["seed"] == str(seed)
    assert report["records"] == report["input_records"] == 1000
    assert report["bytes"] == report["input_bytes"] == len(LINES)
    assert report["digest"] == f"{reference_digest(split_records(LINES)):032x}"
    assert report["input_digest"] == report["digest"]
    assert report["algorithm"] == 1
    assert report["plan"]["strategy"] in ("memory", "scratch", "rescan")
    assert set(report) >= {"seconds", "peak_memory", "scratch_bytes"}


def test_json_is_all_that_quiet_leaves() -> None:
    (line,) = error_lines(run("shuffle", "--json", "--quiet", stdin=LINES))
    assert json.loads(line)["records"] == 1000


def test_json_of_a_sample_counts_what_was_written() -> None:
    report = json.loads(error_lines(run("shuffle", "--json", "-n9", stdin=LINES))[-1])
    assert (report["records"], report["input_records"]) == (9, 1000)


@pytest.mark.parametrize("flags", [[], ["--no-progress"]])
def test_no_terminal_no_words(flags: list[str]) -> None:
    assert run("shuffle", "--seed=1", *flags, stdin=LINES).stderr == b""


def test_progress_ends_with_the_report_line() -> None:
    done = run("shuffle", "--seed=1", "--progress", stdin=LINES)
    last = error_lines(done)[-1]
    assert last.startswith("corekit: 1,000 records, ")
    assert f"digest {reference_digest(split_records(LINES)):032x} verified" in last


@pytest.mark.parametrize(
    ("flags", "talks"), [([], True), (["--no-progress"], False), (["--quiet"], False)]
)
def test_a_terminal_gets_the_report_line(tmp_path: Path, flags: list[str], talks: bool) -> None:
    source, destination = tmp_path / "in", tmp_path / "out"
    source.write_bytes(LINES)
    status, shown = on_a_terminal("shuffle", "--seed=1", source, "-o", destination, *flags)
    assert status == 0
    assert (b"1,000 records" in shown) == talks
    assert talks or shown == b""
