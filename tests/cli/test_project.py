"""``corekit project`` writes what `SparseProjection.project` gives."""

from __future__ import annotations

import io
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.lib import format as npy

from command import PATIENCE, Word, error_lines, on_a_terminal, run, start
from corekit.projection import SparseProjection, epsilon_for, min_components

X = np.random.default_rng(0).standard_normal((400, 100)).astype(np.float32)
OLD = b"old"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(X))
    return tmp_path


def project(*arguments: Word, cwd: Path) -> Any:
    """Project to y.npy, which must succeed without a word, and return that."""
    done = run("project", *arguments, "-o", "y.npy", cwd=cwd)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    return np.load(cwd / "y.npy")


def failure(*arguments: Word, cwd: Path) -> str:
    """Let a run fail, which must leave the old y.npy, and return what it says."""
    (cwd / "y.npy").write_bytes(OLD)
    before = sorted(os.listdir(cwd))
    done = run("project", "--seed=1", *arguments, cwd=cwd)
    assert (done.returncode, done.stdout) == (1, b"")
    assert (cwd / "y.npy").read_bytes() == OLD
    assert sorted(os.listdir(cwd)) == before
    (line,) = error_lines(done)
    return line


@pytest.mark.parametrize(
    ("options", "law"),
    [
        ([], {}),
        (["--column-nnz=4"], {"column_nnz": 4}),
        (["--kind=stack", "--column-nnz", "3"], {"kind": "stack", "column_nnz": 3}),
        (["--kind", "countsketch"], {"kind": "countsketch"}),
        (["--kind=iid"], {"kind": "iid"}),
        (["--kind=iid", "--density=0.1"], {"kind": "iid", "density": 0.1}),
        (["--kind=iid", "--density=1/5"], {"kind": "iid", "density": 0.2}),
        (["--kind=srht"], {"kind": "srht"}),
        (["--kind=gaussian"], {"kind": "gaussian"}),
    ],
    ids=str,
)
def test_writes_the_projection(folder: Path, options: list[str], law: dict[str, Any]) -> None:
    expected = SparseProjection(100, 32, seed=7, **law).project(X)
    for source in ("x.npy", "fortran.npy"):
        Y = project(source, "-k", "32", "--seed=7", *options, cwd=folder)
        assert Y.dtype == np.float32
        assert np.array_equal(Y, expected)
    again = project("--n-components=32", "--seed", "0x7", *options, "x.npy", cwd=folder)
    assert np.array_equal(again, expected)


@pytest.mark.parametrize("limit", ["24.1MiB", "32MiB", "1G"])
@pytest.mark.parametrize("threads", ["1", "3"])
def test_resources_change_nothing(folder: Path, limit: str, threads: str) -> None:
    options = ("-k20", "--seed=1", "--memory-limit", limit, "--threads", threads)
    expected = SparseProjection(100, 20, seed=1).project(X)
    assert np.array_equal(project("x.npy", *options, cwd=folder), expected)


def test_a_drawn_seed_is_said_and_gives_the_same_again(folder: Path) -> None:
    first = run("project", "x.npy", "-k", "8", "-o", "y.npy", cwd=folder)
    (line,) = error_lines(first)
    found = re.fullmatch(r"corekit: seed ([0-9]+)", line)
    assert found
    assert (first.returncode, first.stdout) == (0, b"")
    Y = np.load(folder / "y.npy")
    assert np.array_equal(Y, SparseProjection(100, 8, seed=int(found[1])).project(X))
    assert np.array_equal(project("x.npy", "-k8", "--seed", found[1], cwd=folder), Y)
    other = run("project", "x.npy", "-k", "8", "-o", "y.npy", cwd=folder)
    assert error_lines(other) != [line]


def test_bfloat16(folder: Path) -> None:
    narrow = X.astype(ml_dtypes.bfloat16)
    np.save(folder / "narrow.npy", narrow)
    Y = project("narrow.npy", "-k8", "--seed=1", "--dtype=bfloat16", cwd=folder)
    expected = SparseProjection(100, 8, seed=1).project(narrow)
    assert Y.tobytes() == expected.tobytes()
    line = failure("narrow.npy", "-k8", "-o", "y.npy", cwd=folder)
    assert "narrow.npy must hold floats or integers" in line
    assert "bfloat16" in line


def test_quiet_says_nothing(folder: Path) -> None:
    assert project("x.npy", "-k8", "--quiet", cwd=folder).shape == (400, 8)


def test_a_bar_when_asked_for(folder: Path) -> None:
    words = ("project", "x.npy", "-k8", "--seed=1", "-o", "y.npy", "--progress")
    done = run(*words, cwd=folder)
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"project: " in done.stderr
    assert run(*words, "--quiet", cwd=folder).stderr == b""


@pytest.mark.parametrize(
    ("flags", "talks"), [([], True), (["--no-progress"], False), (["--quiet"], False)]
)
def test_a_terminal_gets_a_bar(folder: Path, flags: list[str], talks: bool) -> None:
    status, shown = on_a_terminal(
        "project", "x.npy", "-k8", "--seed=1", "-o", "y.npy", *flags, cwd=folder
    )
    assert status == 0
    assert (b"project: " in shown) == talks
    assert talks or shown == b""


@pytest.mark.parametrize("seed", [0, 2**64, 2**128 - 1])
def test_all_bits_of_the_seed_count(folder: Path, seed: int) -> None:
    expected = SparseProjection(100, 8, seed=seed).project(X)
    assert np.array_equal(project("x.npy", "-k8", f"--seed={seed}", cwd=folder), expected)


def table(text: str) -> dict[str, str]:
    """Return the labels and values above the guarantees."""
    lines = text.partition("\n\n")[0].splitlines()
    return {line[:12].strip(): line[12:] for line in lines}


def test_explain(folder: Path) -> None:
    done = run("project", "x.npy", "-k", "64", "--explain", "--threads=2", cwd=folder)
    assert (done.returncode, done.stderr) == (0, b"")
    assert sorted(os.listdir(folder)) == ["fortran.npy", "x.npy"]
    text = done.stdout.decode()
    told = table(text)
    labels = ["input", "output", "matrix", "memory", "threads", "time", "distortion"]
    assert list(told) == labels
    assert told["input"] == "400 x 100 float32, 156.2 KiB"
    assert told["output"].startswith("400 x 64 float32, 100.1 KiB")
    assert told["matrix"].startswith("SparseProjection(100, 64, kind='block-stack', column_nnz=8")
    assert re.fullmatch(r"about [0-9.e-]+ s, .*", told["time"])
    assert f"{(2 / 64) ** 0.5:.4f}" in told["distortion"]
    assert f"All {400 * 399 // 2} pairs" in text
    for eps in (0.05, 0.1, 0.2, 0.5):
        assert re.search(rf"-k {min_components(400, eps)} +eps = {eps}\n", text)
    (folder / "y.npy").write_bytes(OLD)
    done = run("project", "x.npy", "-k", "2000", "--explain", "-o", "y.npy", cwd=folder)
    assert f"-k 2000       eps = {epsilon_for(400, 2000):.4f}\n" in done.stdout.decode()
    assert (folder / "y.npy").read_bytes() == OLD


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["-k128", "--kind=srht"], "0"),
        (["-k100", "--kind=gaussian"], "0.1414"),
        (["-k100"], "0.1424"),
        (["-k100", "--kind=iid"], "0.1414"),
        (["-k100", "--kind=iid", "--density=0.01"], "0.1414"),
    ],
    ids=str,
)
def test_explain_knows_the_law(folder: Path, options: list[str], expected: str) -> None:
    done = run("project", "x.npy", *options, "--explain", cwd=folder)
    told = table(done.stdout.decode())["distortion"]
    assert told.startswith(f"{expected}, root mean square error of squared distances")
    assert ("up to 0.995 where few features differ" in told) == ("--density=0.01" in options)


@pytest.mark.parametrize("kind", ["block-stack", "iid"])
def test_explain_tries_no_row_that_takes_long(folder: Path, kind: str) -> None:
    # No memory is taken, whatever the limit is.
    words = ("-k", str(10**9), "--kind", kind, "--memory-limit=64TiB", "--explain")
    started = time.monotonic()
    done = run("project", "x.npy", *words, cwd=folder)
    assert (done.returncode, done.stderr) == (0, b"")
    assert table(done.stdout.decode())["time"].startswith("not tried")
    assert time.monotonic() - started < PATIENCE / 2


def test_explain_keeps_to_the_limit(folder: Path) -> None:
    done = run("project", "x.npy", "-k64", "--explain", "--memory-limit=32MiB", cwd=folder)
    size, _, _ = table(done.stdout.decode())["memory"].partition(" MiB")
    assert float(size) <= 32


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_rows(folder: Path, n: int) -> None:
    np.save(folder / "x.npy", X[:n])
    assert project("x.npy", "-k8", "--seed=1", cwd=folder).shape == (n, 8)
    done = run("project", "x.npy", "-k8", "--explain", cwd=folder)
    assert (done.returncode, done.stderr) == (0, b"")
    assert ("pairs" in done.stdout.decode()) == (n >= 2)


def test_help() -> None:
    done = run("project", "--help")
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode()
    assert text.startswith("usage: corekit project INPUT.npy -o OUTPUT.npy -k K")
    options = (
        "-o --output --dtype -k --n-components --kind --column-nnz --density --seed --memory-limit "
        "--threads --explain --progress --no-progress --quiet"
    )
    assert [option for option in options.split() if option not in text] == []
    assert "positional arguments" not in text


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["-k", "8", "-o", "y.npy"], "INPUT.npy"),
        (["x.npy", "-o", "y.npy"], "-k/--n-components"),
        (["x.npy", "-k", "8"], "-o/--output"),
        (["x.npy", "-k", "8", "-o", ""], "-o/--output"),
        (["x.npy", "fortran.npy", "-k", "8", "-o", "y.npy"], "fortran.npy"),
        (["x.npy", "-k", "0", "-o", "y.npy"], "n_components must be at least 1"),
        (["x.npy", "-k", "-1", "-o", "y.npy"], "must be a whole number, at least 0, got '-1'"),
        (["x.npy", "-k", "1.5", "-o", "y.npy"], "-k"),
        (["x.npy", "-k", "many", "-o", "y.npy"], "'many'"),
        (["x.npy", "-k", str(2**40), "-o", "y.npy"], "n_components must be"),
        (["x.npy", "-k", "8", "-o", "y.npy", "--kind", "sparse"], "'sparse'"),
        (["x.npy", "-k", "8", "-o", "y.npy", "--column-nnz", "0"], "column_nnz must be"),
        (["x.npy", "-k", "8", "-o", "y.npy", "--column-nnz", "9"], "column_nnz must be"),
        (["x.npy", "-k", "8", "-o", "y.npy", "--column-nnz=2", "--kind=iid"], "column_nnz"),
        (["x.npy", "-k", "8", "-o", "y.npy", "--density=0.5"], "density"),
        (["x.npy", "-k", "8", "-o", "y.npy", "--density=0", "--kind=iid"], "density must be"),
        (["x.npy", "-k", "8", "-o", "y.npy", "--density=2", "--kind=iid"], "density must be"),
        (["x.npy", "-k", "8", "-o", "y.npy", "--density=nan", "--kind=iid"], "density must be"),
        (["x.npy", "-k", "8", "-o", "y.npy", "--density=half", "--kind=iid"], "--density"),
        (["x.npy", "-k", "200", "-o", "y.npy", "--kind=srht"], "n_components must be at most 128"),
        (["x.npy", "-k", "8", "-o", "y.npy", "--seed", "-1"], "--seed"),
        (["x.npy", "-k", "8", "-o", "y.npy", "--seed", str(2**128)], "2**128"),
        (["x.npy", "-k", "8", "-o", "y.npy", "--memory-limit", "lots"], "--memory-limit"),
        (["x.npy", "-k", "8", "-o", "y.npy", "--threads", "0"], "--threads"),
        (["x.npy", "-k", "8", "-o", "y.npy", "--thr=1"], "--thr"),
    ],
    ids=str,
)
def test_wrong_usage_is_named(folder: Path, arguments: list[str], named: str) -> None:
    (folder / "y.npy").write_bytes(OLD)
    done = run("project", *arguments, cwd=folder)
    assert (done.returncode, done.stdout) == (2, b"")
    reason, hint = error_lines(done)
    assert reason.startswith("corekit: project: ")
    assert named in reason
    assert hint == "Try 'corekit project --help' for more information."
    assert (folder / "y.npy").read_bytes() == OLD


def test_files_that_cannot_be_used_are_named(folder: Path) -> None:
    to = ("-k8", "-o", "y.npy")
    assert failure("none", *to, cwd=folder) == "corekit: none: No such file or directory"
    assert failure(".", *to, cwd=folder) == "corekit: .: Is a directory"
    os.mkfifo(folder / "pipe")
    assert failure("pipe", *to, cwd=folder).startswith("corekit: pipe: must be a regular file")
    (folder / "text.npy").write_bytes(b"1 2\n3 4\n")
    assert failure("text.npy", *to, cwd=folder).startswith("corekit: text.npy: is not a .npy file")
    (folder / "cut.npy").write_bytes((folder / "x.npy").read_bytes()[:-1])
    line = failure("cut.npy", *to, cwd=folder)
    assert line == (
        "corekit: cut.npy: must have 160128 bytes for float32 of shape (400, 100), got 160127"
    )
    np.save(folder / "flat.npy", X[0])
    assert failure("flat.npy", *to, cwd=folder) == (
        "corekit: arguments: flat.npy must hold a matrix, of two dimensions, got 1 (shape (100,))"
    )
    np.save(folder / "complex.npy", X.astype(complex))
    assert "complex.npy must hold floats" in failure("complex.npy", *to, cwd=folder)
    np.save(folder / "none.npy", X[:, :0])
    assert "none.npy must have columns" in failure("none.npy", *to, cwd=folder)


def test_destinations_that_cannot_be_are_named(folder: Path) -> None:
    (folder / "folder").mkdir()
    for name, reason in [
        ("folder", "Is a directory"),
        ("folder/", "Is a directory"),
        ("none/y.npy", "No such file or directory"),
        ("x.npy/y.npy", "Not a directory"),
        ("/dev/full", "No space left on device"),
    ]:
        line = failure("x.npy", "-k8", "-o", name, cwd=folder)
        assert line == f"corekit: {name}: {reason}"


def test_a_limit_that_is_too_small_says_the_smallest(folder: Path) -> None:
    line = failure("x.npy", "-k8", "-o", "y.npy", "--memory-limit=1M", cwd=folder)
    assert line.startswith("corekit: memory limit: memory_limit must be at least ")


def test_a_bad_environment_is_named(folder: Path) -> None:
    variables = {"COREKIT_NUM_THREADS": "many"}
    done = run("project", "x.npy", "-k8", "-o", "y.npy", "--quiet", cwd=folder, env=variables)
    assert done.returncode == 1
    (line,) = error_lines(done)
    assert "COREKIT_NUM_THREADS" in line
    assert not (folder / "y.npy").exists()


def test_a_working_directory_that_is_gone(folder: Path) -> None:
    gone = folder / "gone"
    gone.mkdir()
    script = f"import os; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r}); "
    script += "from corekit.cli import main; "
    script += f"raise SystemExit(main(['project', {str(folder / 'x.npy')!r}, '-k8', '-oy']))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 1
    assert error_lines(done)[-1] == "corekit: y: No such file or directory"


def test_the_input_itself_keeps_its_mode(folder: Path) -> None:
    (folder / "x.npy").chmod(0o640)
    done = run("project", "x.npy", "-k8", "--seed=1", "-o", "x.npy", cwd=folder)
    assert (done.returncode, done.stderr) == (0, b"")
    assert np.array_equal(np.load(folder / "x.npy"), SparseProjection(100, 8, seed=1).project(X))
    assert stat.S_IMODE((folder / "x.npy").stat().st_mode) == 0o640


def test_standard_output_and_devices(folder: Path) -> None:
    project("x.npy", "-k8", "--seed=1", cwd=folder)
    done = run("project", "x.npy", "-k8", "--seed=1", "-o", "/dev/stdout", cwd=folder)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == (folder / "y.npy").read_bytes()
    assert run("project", "x.npy", "-k8", "--seed=1", "-o/dev/null", cwd=folder).returncode == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_dash_is_a_standard_stream(folder: Path) -> None:
    expected = project("x.npy", "-k8", "--seed=1", cwd=folder)
    with (folder / "x.npy").open("rb") as file:
        process = start("project", "-", "-k8", "--seed=1", "-o", "-", cwd=folder, stdin=file)
        stdout, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stderr) == (0, b"")
    assert np.array_equal(np.load(io.BytesIO(stdout)), expected)
    assert sorted(os.listdir(folder)) == ["fortran.npy", "x.npy", "y.npy"]
    # Standard input is a pipe here, which cannot be mapped.
    line = failure("-", "-k8", "-o", "-", cwd=folder)
    assert line == "corekit: /dev/stdin: must be a regular file, got a stream"


def large(path: Path) -> None:
    """Write a matrix of 80 GB that takes no room."""
    shape = (20_000_000, 1000)
    with path.open("wb") as file:
        described = {"descr": "<f4", "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(file, described)
        file.truncate(file.tell() + 4 * shape[0] * shape[1])


def test_a_reader_that_leaves_is_a_quiet_end(folder: Path) -> None:
    large(folder / "large.npy")
    words = ("project", "large.npy", "-k8", "--seed=1", "-o", "/dev/stdout")
    with start(*words, cwd=folder) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.read(6) == b"\x93NUMPY"
        process.stdout.close()
        assert process.wait(PATIENCE) == -signal.SIGPIPE
        assert process.stderr.read() == b""


def test_ctrl_c(folder: Path) -> None:
    large(folder / "large.npy")
    (folder / "y.npy").write_bytes(OLD)
    before = sorted(os.listdir(folder))
    with start("project", "large.npy", "-k8", "-o", "y.npy", cwd=folder) as process:
        guard = threading.Timer(PATIENCE, process.kill)
        guard.start()
        assert process.stderr
        # The seed is said just before the run.
        assert process.stderr.readline().startswith(b"corekit: seed ")
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        # The second that is promised is measured in a child of the tests, where no end of an
        # interpreter counts; this only guards against hangs.
        assert process.wait(PATIENCE / 4) == 130
        assert process.stderr.read() == b""
        guard.cancel()
    assert (folder / "y.npy").read_bytes() == OLD
    assert sorted(os.listdir(folder)) == before
