"""``corekit distortion`` prints what `corekit.projection.distortion` reports."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from command import Word, error_lines, run
from corekit.projection import distortion


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    x = np.random.default_rng(0).standard_normal((100, 20)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", x[:, :8])
    np.save(tmp_path / "fortran.npy", np.asfortranarray(x))
    return tmp_path


def failure(*arguments: Word, cwd: Path) -> str:
    done = run("distortion", *arguments, cwd=cwd)
    assert (done.returncode, done.stdout) == (1, b"")
    (line,) = error_lines(done)
    return line


def test_prints_the_report(folder: Path) -> None:
    done = run("distortion", "x.npy", "y.npy", "--seed", "7", cwd=folder)
    assert (done.returncode, done.stderr) == (0, b"")
    x, y = np.load(folder / "x.npy"), np.load(folder / "y.npy")
    assert done.stdout.decode() == f"{distortion(x, y, seed=7)}\n"
    again = run("distortion", "fortran.npy", "y.npy", "--seed=0x7", cwd=folder)
    assert again.stdout == done.stdout


def test_as_json(folder: Path) -> None:
    options = ("--json", "--eps=0.3", "--n-pairs=50", "--n-queries=0")
    done = run("distortion", *options, "x.npy", "y.npy", cwd=folder)
    told = json.loads(done.stdout)
    x, y = np.load(folder / "x.npy"), np.load(folder / "y.npy")
    report = distortion(x, y, eps=0.3, n_pairs=50, n_queries=0, seed=int(told["seed"]))
    assert told == report.to_dict()


def test_a_figure(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    done = run("distortion", "x.npy", "y.npy", "--seed=1", "--plot", "e.png", cwd=folder)
    assert done.returncode == 0
    assert (folder / "e.png").read_bytes().startswith(b"\x89PNG")


def test_a_figure_that_cannot_be_drawn_does_not_lose_the_report(folder: Path) -> None:
    (folder / "matplotlib").mkdir()
    (folder / "matplotlib" / "__init__.py").write_text("raise ImportError")
    done = run(
        "distortion",
        "x.npy",
        "y.npy",
        "--plot=e.png",
        cwd=folder,
        env={"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])},
    )
    assert done.returncode == 1
    assert b"RMS" in done.stdout
    (line,) = error_lines(done)
    assert "pip install matplotlib" in line
    assert not (folder / "e.png").exists()


def test_arrays_that_do_not_fit_are_named(folder: Path) -> None:
    np.save(folder / "short.npy", np.ones((9, 3)))
    line = failure("x.npy", "short.npy", cwd=folder)
    assert line == "corekit: arguments: short.npy must have as many rows as x.npy, 100, got 9"
    np.save(folder / "flat.npy", np.ones(100))
    assert "flat.npy must be a matrix" in failure("x.npy", "flat.npy", cwd=folder)
    np.save(folder / "complex.npy", np.ones((100, 2), dtype=complex))
    assert "complex.npy must have a dtype" in failure("x.npy", "complex.npy", cwd=folder)
    bad = np.ones((100, 3))
    bad[4, 2] = np.inf
    np.save(folder / "bad.npy", bad)
    line = failure("x.npy", "bad.npy", cwd=folder)
    assert line.endswith("bad.npy must be finite, got inf in row 4, column 2")


def test_files_that_are_no_arrays_are_named(folder: Path) -> None:
    assert failure("x.npy", "none", cwd=folder) == "corekit: none: No such file or directory"
    assert failure(".", "y.npy", cwd=folder).startswith("corekit: .: is not a regular file")
    os.mkfifo(folder / "pipe")
    assert "not a regular file" in failure("pipe", "y.npy", cwd=folder)
    for length, says in (
        (0, "is not a .npy file"),
        (5, "is not a .npy file"),
        (50, "ends within its header"),
        (1000, "is not a .npy file that NumPy can map"),
    ):
        (folder / "cut.npy").write_bytes((folder / "x.npy").read_bytes()[:length])
        line = failure("cut.npy", "y.npy", cwd=folder)
        assert line.startswith(f"corekit: cut.npy: {says}")
    np.save(folder / "objects.npy", np.array([[None]]), allow_pickle=True)
    assert "objects.npy: is not" in failure("objects.npy", "y.npy", cwd=folder)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["x.npy"], "Y.npy"),
        (["x.npy", "y.npy", "z.npy"], "z.npy"),
        (["x.npy", "y.npy", "--eps", "0"], "--eps"),
        (["x.npy", "y.npy", "--eps", "nan"], "--eps"),
        (["x.npy", "y.npy", "--eps", "small"], "--eps"),
        (["x.npy", "y.npy", "--n-pairs", "0"], "--n-pairs"),
        (["x.npy", "y.npy", "--n-queries", "-1"], "--n-queries"),
        (["x.npy", "y.npy", "--seed", "one"], "--seed"),
        (["x.npy", "y.npy", "--seed", str(2**128)], "2**128"),
        (["x.npy", "y.npy", "--pairs", "3"], "--pairs"),
    ],
)
def test_wrong_usage_is_named(folder: Path, arguments: list[str], named: str) -> None:
    done = run("distortion", *arguments, cwd=folder)
    assert (done.returncode, done.stdout) == (2, b"")
    assert named in error_lines(done)[0]
