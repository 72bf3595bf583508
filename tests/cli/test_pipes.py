"""Life in a pipeline: long streams, readers that leave, descriptors that are closed."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from command import PATIENCE, error_lines, run, start, words
from reference import reference_shuffle

# Far more than a pipe holds, so that the writer must wait for its reader.
LINES = b"".join(b"line number %d\n" % number for number in range(60_000))


def shell(script: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, timeout=PATIENCE, stdin=subprocess.DEVNULL
    )


def corekit(*arguments: str) -> str:
    return shlex.join([str(word) for word in words(*arguments)])


def test_a_long_stream_goes_through() -> None:
    assert run("shuffle", "--seed=3", stdin=LINES).stdout == reference_shuffle([LINES], 3)


def test_a_reader_that_leaves_ends_the_run_as_it_ends_shuf(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.write_bytes(LINES)
    command = corekit("shuffle", "--seed=3", str(source))
    done = shell(f'{command} | head -n 1; echo "${{PIPESTATUS[0]}}"')
    first = reference_shuffle([LINES], 3, sample=1)
    assert (done.stdout, done.stderr) == (first + b"141\n", b"")


def test_a_pipe_that_is_closed_at_once_is_a_quiet_end() -> None:
    with start("shuffle", "--seed=3") as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        process.stdin.write(LINES)
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(PATIENCE) == -signal.SIGPIPE


def test_help_into_a_closed_pipe_is_a_quiet_end() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(words("--help"), stdout=writer, stderr=subprocess.PIPE, timeout=PATIENCE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")


@pytest.mark.parametrize("arguments", [["shuffle"], ["info"], ["--version"], ["--help"]])
def test_a_full_device_is_an_error(arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            words(*arguments),
            input=b"a\n",
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
        )
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[-1] == (
        "corekit: standard output: No space left on device"
    )


def test_a_process_substitution_is_an_input() -> None:
    done = shell(f"{corekit('shuffle', '--seed=3')} <(printf 'a\\nb\\n') <(printf 'c\\n')")
    assert done.stdout == reference_shuffle([b"a\nb\n", b"c\n"], 3)


def test_an_appending_shell_redirection_is_appended_to(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for flags in ("", "-o /dev/stdout", "-o /dev/fd/1", "-o /proc/self/fd/1"):
        out.write_bytes(b"before\n")
        done = shell(f"printf 'x\\n' | {corekit('shuffle', '--seed=3')} {flags} >> {out}")
        assert (done.returncode, done.stderr) == (0, b"")
        assert out.read_bytes() == b"before\nx\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-"])
def test_a_closed_descriptor_is_an_error_and_never_a_file(tmp_path: Path, closed: str) -> None:
    source = tmp_path / "in"
    source.write_bytes(b"a\nb\n")
    operand = "-" if closed == "<&-" else str(source)
    done = shell(f"{corekit('shuffle', '--seed=3', operand)} {closed}")
    assert done.returncode == 1
    (line,) = error_lines(done)
    assert line.startswith("corekit: standard ")
    assert source.read_bytes() == b"a\nb\n"


def test_a_closed_standard_error_changes_nothing(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.write_bytes(b"a\nb\nc\n")
    command = corekit("shuffle", "--json", "--progress", str(source), "-o", str(out))
    assert shell(f"{command} 2>&-").returncode == 0
    assert sorted(out.read_bytes().split()) == [b"a", b"b", b"c"]
