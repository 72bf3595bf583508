"""File names are bytes: any of them works, and each is shown on one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from command import error_lines, run
from reference import reference_shuffle

LINES = b"one\ntwo\nthree\n"


@pytest.mark.parametrize(
    "name",
    [b"plain", "grün-世界".encode(), b"\xff\xfe", b"a b", b"a\nb", b"'quoted'", b"-dash", b"@file"],
)
def test_any_name_works_for_input_and_output(tmp_path: Path, name: bytes) -> None:
    source = os.path.join(os.fsencode(tmp_path), name)
    destination = source + b".out"
    with open(source, "wb") as file:
        file.write(LINES)
    done = run("shuffle", "--seed=5", "-o", destination, "--", source)
    assert (done.returncode, done.stderr) == (0, b"")
    with open(destination, "rb") as file:
        assert file.read() == reference_shuffle([LINES], 5)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"none", "none"),
        ("keine-世界".encode(), "keine-世界"),
        (b"\xff", r"\xff"),
        (b"a\nb", r"a\nb"),
        (b"\x1b[31m", r"\x1b[31m"),
    ],
)
def test_a_name_in_an_error_is_one_line_and_harmless(
    tmp_path: Path, name: bytes, shown: str
) -> None:
    done = run("shuffle", "--quiet", "--", name, cwd=tmp_path, env={"PYTHONUTF8": "1"})
    assert done.returncode == 1
    assert error_lines(done) == [f"corekit: {shown}: No such file or directory"]
