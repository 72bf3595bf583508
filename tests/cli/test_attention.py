"""``corekit attention crossover`` tells from which length linear attention pays here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from command import Word, error_lines, run

QUICK = ("--heads=2", "--dim=8", "--lengths=8,16,32")


def crossover(*arguments: Word, **settings: Any) -> bytes:
    """Run the command, which must succeed, and return what it prints."""
    done = run("attention", "crossover", *arguments, **settings)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def test_the_report_says_what_was_measured() -> None:
    told = json.loads(crossover(*QUICK, "--threads=1", "--json"))
    assert (told["heads"], told["dim"], told["threads"]) == (2, 8, 1)
    assert told["lengths"] == [8, 16, 32]
    # Causal softmax attention needs as many multiplications at 2d - 1 tokens.
    assert told["expected"] == 15
    for attention in ("softmax", "linear"):
        seconds = told[f"{attention}_seconds"]
        assert len(seconds) == 3
        assert min(seconds) > 0


def test_it_is_read_by_people_too() -> None:
    text = crossover(*QUICK).decode()
    for length in ("8", "16", "32"):
        assert any(line.split()[:1] == [length] for line in text.splitlines())


def test_a_figure_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    crossover(*QUICK, "--plot=times.svg", cwd=tmp_path)
    assert b"<svg" in (tmp_path / "times.svg").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["--heads=0"], "heads"),
        (["--dim=x"], "dim"),
        (["--lengths=16,8"], "lengths"),
        (["--lengths=8,8"], "lengths"),
        (["--lengths="], "lengths"),
        (["--threads=0"], "threads"),
        (["--layers=2"], "layers"),
    ],
)
def test_wrong_usage_is_named(arguments: list[str], name: str) -> None:
    done = run("attention", "crossover", *arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert name in error_lines(done)[0]


@pytest.mark.parametrize("arguments", [[], ["cross"]])
def test_there_is_one_command(arguments: list[str]) -> None:
    done = run("attention", *arguments)
    assert done.returncode == 2
    assert b"command" in done.stderr
