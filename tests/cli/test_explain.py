"""``--explain`` prints the plan and does nothing else."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from command import PATIENCE, run, words

ROWS = ["plan", "why", "input", "passes", "buckets", "read", "written", "memory", "held"]
ROWS += ["scratch", "workers", "time"]


def test_prints_the_plan(tmp_path: Path) -> None:
    source, destination = tmp_path / "in", tmp_path / "out"
    source.write_bytes(b"line\n" * 1000)
    done = run("shuffle", "--explain", source, "-o", destination)
    assert (done.returncode, done.stderr) == (0, b"")
    assert [line[:9].strip() for line in done.stdout.decode().splitlines()] == ROWS
    assert b"5,000 bytes" in done.stdout
    assert not destination.exists()
    assert os.listdir(tmp_path) == ["in"]


def test_as_json(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.write_bytes(b"line\n" * 1000)
    done = run("shuffle", "--explain", "--json", "--memory-limit=64MiB", source)
    plan = json.loads(done.stdout)
    assert plan["strategy"] == "memory"
    assert (plan["input_bytes"], plan["memory_limit"]) == (5000, 64 << 20)
    assert plan["memory_bytes"] <= plan["memory_limit"]


def test_of_a_pipe_says_what_is_unknown_and_consumes_nothing() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"a\nb\nc\n")
    done = subprocess.run(
        words("shuffle", "--explain"), stdin=reader, capture_output=True, timeout=PATIENCE
    )
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b"a\nb\nc\n"
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"unknown size" in done.stdout


def test_leaves_an_old_output_alone(tmp_path: Path) -> None:
    source, destination = tmp_path / "in", tmp_path / "out"
    source.write_bytes(b"new\n")
    destination.write_bytes(b"old\n")
    assert run("shuffle", "--explain", source, "-o", destination).returncode == 0
    assert destination.read_bytes() == b"old\n"


def test_of_a_missing_file_is_an_error(tmp_path: Path) -> None:
    done = run("shuffle", "--explain", tmp_path / "none")
    assert (done.returncode, done.stdout) == (1, b"")
