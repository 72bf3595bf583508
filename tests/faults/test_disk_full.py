"""A full disk costs nothing but the run.

Space that is known to be missing is an error before anything is read; space that runs
out on the way is one when it does, for the output as for scratch. Either way the old
output is untouched and nothing is left over. Limits on the size of a file are the same
to a run, and need no rights to be set.
"""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from command import error_lines, run
from corekit.errors import FileError
from corekit.shuffle import plan, shuffle_files
from faults.runs import LINES, OLD, SMALL, SPILLING, Ended, Forked, Job, shuffled

MIB = 1 << 20


def full(ended: Ended, out: Path, *places: Path, number: int = errno.ENOSPC) -> None:
    """Check that the run failed for lack of space and left everything as it was."""
    assert ended.error is not None, ended
    assert (ended.error_class, ended.errno) == (FileError, number)
    assert ended.filename in [str(place) for place in places]
    assert out.read_bytes() == OLD
    assert os.listdir(out.parent) == [out.name]


def only_at_the_start(done: int, total: int | None, phase: str) -> None:
    assert (done, phase) == (0, "scatter"), "the run began"


@pytest.fixture
def huge(disk: Path) -> Path:
    """A file with a hole, larger than all free space."""
    path = disk / "huge"
    stat = os.statvfs(disk)
    with path.open("wb") as file:
        try:
            file.truncate(2 * stat.f_bavail * stat.f_frsize)
        except OSError as refused:
            pytest.skip(f"the file system has no files of that size: {refused}")
        file.write(LINES)
    return path


@pytest.mark.parametrize("scratch", [None, "none"])
def test_missing_space_is_found_before_anything_is_read(
    huge: Path, out: Path, scratch: str | None
) -> None:
    with pytest.raises(FileError) as caught:
        shuffle_files(huge, out, memory_limit="32MiB", scratch=scratch, progress=only_at_the_start)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename in (str(out), str(out.parent))
    assert out.read_bytes() == OLD
    assert os.listdir(out.parent) == ["out"]


def test_a_plan_needs_no_space(huge: Path, out: Path) -> None:
    assert plan(huge, out, memory_limit="32MiB").input_bytes == huge.stat().st_size


def test_missing_space_for_scratch_alone_is_found_too(huge: Path) -> None:
    with pytest.raises(FileError) as caught:
        shuffle_files(
            huge,
            "/dev/null",
            memory_limit="32MiB",
            scratch=huge.parent,
            progress=only_at_the_start,
        )
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(huge.parent))


def test_the_file_system_of_the_target_of_a_link_counts(
    disk: Path, out: Path, mount: Callable[..., Path]
) -> None:
    target = mount("-t", "tmpfs", "-o", "size=1m", "none") / "target"
    target.write_bytes(OLD)
    link = out.parent / "link"
    link.symlink_to(target)
    source = disk / "lines"
    source.write_bytes(LINES * 4)
    with pytest.raises(FileError) as caught:
        shuffle_files(source, link, scratch=out.parent, progress=only_at_the_start)
    assert caught.value.errno == errno.ENOSPC
    assert target.read_bytes() == OLD
    assert os.listdir(target.parent) == ["target"]


@pytest.mark.parametrize("tuning", [{}, {"no_fallocate": 1}, {"no_tmpfile": 1}, {"no_direct": 1}])
@pytest.mark.parametrize("known", [True, False], ids=["a file", "a pipe"])
def test_a_full_file_system_for_the_output(
    disk: Path, mount: Callable[..., Path], known: bool, tuning: dict[str, int]
) -> None:
    out = mount("-t", "tmpfs", "-o", "size=1m", "none") / "out"
    out.write_bytes(OLD)
    source = disk / "lines"
    source.write_bytes(LINES * 4)
    job = Job(source if known else Path("/dev/stdin"), out, {"scratch": "none"}, tuning)
    with (
        source.open("rb") as file,
        subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE) as pipe,
    ):
        assert pipe.stdout is not None
        number = pipe.stdout.fileno()
        ended = Forked(job, before=lambda: os.dup2(number, 0), keep={number}).wait()
        pipe.kill()
    full(ended, out, out, out.parent)


@pytest.mark.parametrize("tuning", [{}, {"no_fallocate": 1}, {"no_tmpfile": 1}, {"no_direct": 1}])
def test_a_full_file_system_for_scratch(
    disk: Path, source: Path, out: Path, mount: Callable[..., Path], tuning: dict[str, int]
) -> None:
    image = disk / "image"
    with image.open("wb") as file:
        file.truncate(MIB)
    try:
        subprocess.run(["mke2fs", "-q", "-F", image], check=True, capture_output=True)
    except OSError as missing:
        pytest.skip(f"no file system can be made here: {missing}")
    scratch = mount("-o", "loop", str(image))
    before = os.listdir(scratch)
    # A pipe, so that nobody knows beforehand.
    with subprocess.Popen(["cat", *[source] * 8], stdout=subprocess.PIPE) as pipe:
        assert pipe.stdout is not None
        number = pipe.stdout.fileno()
        job = Job(Path("/dev/stdin"), out, {"scratch": scratch}, {**SPILLING, **tuning})
        ended = Forked(job, before=lambda: os.dup2(number, 0), keep={number}).wait()
        pipe.kill()
    full(ended, out, scratch)
    assert os.listdir(scratch) == before


def largest_file(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


SWITCHES = [{}, {"no_fallocate": 1}, {"no_tmpfile": 1}, {"no_direct": 1}]


@pytest.mark.parametrize("tuning", SWITCHES)
@pytest.mark.parametrize("size", [0, 4096, 100_000, len(LINES) // 8192 * 8192])
def test_an_output_beyond_the_largest_file(
    source: Path, out: Path, tuning: dict[str, int], size: int
) -> None:
    job = Job(source, out, {"scratch": "none"}, {"frame": 8192, **tuning})
    full(Forked(job, before=largest_file(size)).wait(), out, out, number=errno.EFBIG)


@pytest.mark.parametrize("tuning", SWITCHES)
@pytest.mark.parametrize("size", [0, 4096, 100_000])
def test_scratch_beyond_the_largest_file(
    source: Path, out: Path, tuning: dict[str, int], size: int
) -> None:
    job = Job(source, out, {}, {**SPILLING, **tuning})
    full(Forked(job, before=largest_file(size)).wait(), out, out.parent, number=errno.EFBIG)


def test_the_reason_is_never_lost(source: Path, out: Path) -> None:
    # Many threads end when one fails; none of them may speak first.
    for _ in range(100):
        run = Forked(Job(source, out), before=largest_file(4096))
        full(run.wait(), out, out.parent, number=errno.EFBIG)


def test_long_lines_beyond_the_largest_file(disk: Path, out: Path) -> None:
    # Those of a pipe are kept in scratch of their own.
    with subprocess.Popen(
        [sys.executable, "-c", "print('x' * 300_000)"], stdout=subprocess.PIPE
    ) as pipe:
        assert pipe.stdout is not None
        number = pipe.stdout.fileno()

        def before() -> None:
            os.dup2(number, 0)
            largest_file(100_000)()

        job = Job(Path("/dev/stdin"), out, tuning=SMALL)
        ended = Forked(job, before=before, keep={number}).wait()
    full(ended, out, out.parent, number=errno.EFBIG)


@pytest.mark.parametrize("tuning", [{}, SPILLING])
def test_a_full_device(source: Path, disk: Path, tuning: dict[str, int]) -> None:
    device = Path("/dev/full")
    if not device.exists():
        pytest.skip("no /dev/full here")
    ended = Forked(Job(source, device, {"scratch": disk}, tuning)).wait()
    assert ended.error is not None
    assert (ended.error_class, ended.errno) == (FileError, errno.ENOSPC)
    assert ended.filename == str(device)
    assert device.is_char_device()


def test_the_command_line_says_so(source: Path) -> None:
    done = run("shuffle", "--seed=1", source, "-o", "/dev/full")
    assert done.returncode == 1
    assert error_lines(done) == ["corekit: /dev/full: No space left on device"]


def test_a_run_that_failed_can_be_repeated(source: Path, out: Path) -> None:
    job = Job(source, out)
    full(Forked(job, before=largest_file(4096)).wait(), out, out.parent, number=errno.EFBIG)
    options: dict[str, Any] = {"scratch": "none"}
    Job(source, out, options, {}).run()
    assert out.read_bytes() == shuffled()
