"""The seed: given, drawn, and said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from command import error_lines, run
from reference import reference_shuffle

LINES = b"".join(b"%d\n" % number for number in range(50))


def test_a_drawn_seed_is_printed_and_gives_the_same_order_again() -> None:
    first = run("shuffle", stdin=LINES)
    (line,) = error_lines(first)
    found = re.fullmatch(r"corekit: seed ([0-9]+)", line)
    assert found
    assert first.stdout == reference_shuffle([LINES], int(found[1]))
    again = run("shuffle", "--seed", found[1], stdin=LINES)
    assert (again.stdout, again.stderr) == (first.stdout, b"")


def test_every_run_draws_another() -> None:
    assert error_lines(run("shuffle", stdin=b"")) != error_lines(run("shuffle", stdin=b""))


def test_quiet_says_nothing() -> None:
    done = run("shuffle", "--quiet", "--progress", stdin=LINES)
    assert (done.returncode, done.stderr) == (0, b"")
    assert sorted(done.stdout.split()) == sorted(LINES.split())


def test_no_seed_is_said_for_an_input_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(LINES)
    for inputs in (["none"], ["in", "none"], ["--aligned", "none", "-o", "out"]):
        done = run("shuffle", *inputs, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, b"")
        assert error_lines(done) == ["corekit: none: No such file or directory"]


@pytest.mark.parametrize("seed", [0, 1, 2**64, 2**128 - 1])
def test_all_bits_count(seed: int) -> None:
    assert run("shuffle", f"--seed={seed}", stdin=LINES).stdout == reference_shuffle([LINES], seed)


def test_hexadecimal_is_taken() -> None:
    assert run("shuffle", "--seed=0xFf", stdin=LINES).stdout == reference_shuffle([LINES], 255)
