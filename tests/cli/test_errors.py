"""Errors: status 1, one line ``corekit: SUBJECT: reason``, the old output untouched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from command import Word, error_lines, run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in"
    path.write_bytes(b"a\nb\n")
    return path


def failure(*arguments: Word, cwd: Path | None = None, stdin: bytes = b"") -> str:
    done = run("shuffle", "--seed=1", *arguments, cwd=cwd, stdin=stdin)
    assert (done.returncode, done.stdout) == (1, b"")
    (line,) = error_lines(done)
    return line


def test_a_missing_input(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_bytes(b"old")
    assert failure("none", "-o", out, cwd=tmp_path) == "corekit: none: No such file or directory"
    assert out.read_bytes() == b"old"


def test_a_directory_as_input(tmp_path: Path) -> None:
    assert failure(tmp_path) == f"corekit: {tmp_path}: Is a directory"


def test_a_missing_output_directory(source: Path, tmp_path: Path) -> None:
    line = failure(source, "-o", "none/out", cwd=tmp_path)
    assert line.startswith("corekit: none")
    assert line.endswith(": No such file or directory")


@pytest.mark.parametrize("name", ["folder", "folder/"])
def test_a_directory_as_output(source: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    assert failure(source, "-o", name, cwd=tmp_path) == f"corekit: {name}: Is a directory"


def test_a_file_where_a_directory_is_needed(source: Path) -> None:
    assert failure(source / "x") == f"corekit: {source}/x: Not a directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_an_unreadable_input(source: Path) -> None:
    source.chmod(0)
    assert failure(source) == f"corekit: {source}: Permission denied"


def test_a_limit_that_is_too_small_says_the_smallest(source: Path) -> None:
    line = failure(source, "--memory-limit", "1")
    assert line.startswith("corekit: memory limit: ")
    assert "at least" in line


def test_a_bad_environment_is_named(source: Path) -> None:
    done = run("shuffle", source, "--quiet", env={"COREKIT_NUM_THREADS": "many"})
    assert done.returncode == 1
    (line,) = error_lines(done)
    assert "COREKIT_NUM_THREADS" in line
    assert "'many'" in line


def test_a_missing_scratch_directory(tmp_path: Path, source: Path) -> None:
    line = failure(source, "--scratch", "none/here", cwd=tmp_path)
    assert line == "corekit: none/here: No such file or directory"
    assert failure("in", "--scratch", "in", cwd=tmp_path) == "corekit: in: Not a directory"
