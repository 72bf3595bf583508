"""The promise: Ctrl-C ends a call in every phase, and leaves the world as it was.

In whatever a call is (reading, scattering, writing scratch, gathering, waiting for a pipe or for
the other end of a FIFO), a SIGINT raises KeyboardInterrupt, the output keeps its old bytes, no
file, descriptor or thread is left, and the same process can shuffle again. The
command line ends with 130 and says nothing. The second that is promised is measured where the call
is Python's; of a command the end of the interpreter is part, and it has more before a test fails.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

import promptness
from children import run
from command import start
from processes import interrupted
from reference import reference_shuffle

DEADLINE = 5  # seconds from Ctrl-C to the end of a command: a guard against hangs
PATIENCE = 60

SITUATIONS = [
    "scatter",
    "scatter by several workers",
    "scatter to scratch",
    "reading again",
    "gather",
    "gather of one large bucket in many slices",
    "gather from scratch",
    "an idle pipe",
    "an idle pipe after some bytes",
    "a long record of an idle pipe",
    "a full pipe",
    "a FIFO that nobody writes to",
    "a FIFO that nobody reads",
    "permutation",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return filled(tmp_path)


def filled(folder: Path) -> Path:
    # Empty records are the most work for their size: half a minute a gigabyte.
    with (folder / "in").open("wb") as file:
        for _ in range(16):
            file.write(b"\n" * (1 << 20))
    (folder / "out").write_bytes(interrupted.OLD)
    return folder


@pytest.mark.parametrize("situation", SITUATIONS)
def test_python(tmp_path: Path, situation: str) -> None:
    def attempt(number: int) -> float:
        folder = tmp_path / str(number)
        folder.mkdir()
        return promptness.seconds(run(interrupted.__file__, situation, str(filled(folder))))

    promptness.ends_promptly(attempt)


@contextmanager
def command(*arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command; whatever hangs is killed."""
    with start("shuffle", "--seed=1", "--memory-limit=32MiB", *arguments) as process:
        guard = threading.Timer(PATIENCE, process.kill)
        guard.start()
        try:
            yield process
        finally:
            guard.cancel()
            process.kill()


def interrupt(process: subprocess.Popen[bytes]) -> None:
    assert process.poll() is None, "it came to its end before Ctrl-C"
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE) == 130


def read_until(process: subprocess.Popen[bytes], word: bytes) -> bytes:
    assert process.stderr
    heard = b""
    while word not in heard:
        piece = os.read(process.stderr.fileno(), 4096)
        assert piece, heard
        heard += piece
    return heard


def left_alone(folder: Path, files: Sequence[str] = ("in", "out")) -> None:
    assert (folder / "out").read_bytes() == interrupted.OLD
    assert sorted(os.listdir(folder)) == sorted(files)


@pytest.mark.parametrize("phase", ["scatter", "gather"])
def test_command_in_a_phase(folder: Path, phase: str) -> None:
    with command("--threads=1", "--progress", folder / "in", "-o", folder / "out") as process:
        read_until(process, phase.encode())
        interrupt(process)
        assert process.stderr
        assert b"Traceback" not in process.stderr.read()
    left_alone(folder)


def test_command_that_reads_an_idle_pipe(folder: Path) -> None:
    # The file comes first, so that there is something to be thrown away.
    with command(folder / "in", "-", "-o", folder / "out") as process:
        assert process.stdin
        process.stdin.write(b"a\nb")
        process.stdin.flush()
        time.sleep(0.7)
        interrupt(process)
        assert process.stderr
        assert process.stderr.read() == b""
    left_alone(folder)


def test_command_that_writes_to_a_full_pipe(folder: Path) -> None:
    with command(folder / "in") as process:
        assert process.stdout
        assert process.stdout.read(1)  # it writes, and soon the pipe is full
        time.sleep(0.2)
        interrupt(process)
        assert process.stderr
        assert process.stderr.read() == b""
    left_alone(folder)


@pytest.mark.parametrize("end", ["input", "output"])
def test_command_with_a_lonely_fifo(folder: Path, end: str) -> None:
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    source, out = (fifo, folder / "out") if end == "input" else (folder / "in", fifo)
    with command("--progress", source, "-o", out) as process:
        read_until(process, b"scatter")  # the bar's first sign, just before the core is called
        time.sleep(0.2)
        interrupt(process)
    left_alone(folder, ["in", "out", "fifo"])


def test_at_any_moment_there_is_the_old_output_or_the_new(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    text = b"".join(b"%d\n" % number for number in range(500_000))
    source.write_bytes(text)
    expected = reference_shuffle([text], 1)
    codes = set()
    for moment in range(6):
        out.write_bytes(interrupted.OLD)
        with command("--progress", source, "-o", out) as process:
            read_until(process, b"scatter")
            time.sleep(moment * 0.03)
            process.send_signal(signal.SIGINT)
            code = process.wait(DEADLINE)
        found = out.read_bytes()
        assert found == expected if code == 0 else found in (interrupted.OLD, expected)
        assert sorted(os.listdir(tmp_path)) == ["in", "out"]
        codes.add(code)
    assert 130 in codes
    assert codes <= {0, 130, -signal.SIGINT}
