"""Ctrl-C ends a run at once, with 130, and leaves the old output."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from command import PATIENCE, start


def test_while_reading_an_idle_pipe(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_bytes(b"old\n")
    with start("shuffle", "-o", out) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(b"a\nb\n")
        process.stdin.flush()
        # The seed is said just before the core is called.
        assert process.stderr.readline().startswith(b"corekit: seed ")
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        # The second that is promised is measured in a child of the tests, where no end of an
        # interpreter counts; this only guards against hangs.
        assert process.wait(PATIENCE / 4) == 130
        assert process.stderr.read() == b""
        assert process.stdout.read() == b""
    assert out.read_bytes() == b"old\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_while_nobody_reads_the_output(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.write_bytes(b"x" * 99 + b"\n" + b"y" * 99 + b"\n" * 500_000)
    with start("shuffle", "--seed=1", source) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.read(1)  # it writes, and then the pipe is full
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE / 4) == 130
        assert process.stderr.read() == b""
