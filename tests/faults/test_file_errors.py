"""What the system refuses about a file becomes an error of the documented class.

It is the class that is also the matching builtin, with the system's errno and the name
of the file as the caller wrote it. The old output is untouched, and no file is left
over: not beside the destination, not in scratch.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from corekit.errors import (
    FileError,
    IsDirectoryError,
    MissingFileError,
    NotDirectoryError,
    PermissionDeniedError,
)
from corekit.shuffle import plan
from faults.runs import LINES, OLD, Ended, Forked, Job, shuffled

NOBODY = 65534


def nobody() -> None:
    """Give up the rights that no permission binds."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def refused(ended: Ended, error: type[FileError], number: int, *names: Path) -> None:
    assert ended.error is not None, ended
    assert (ended.error_class, ended.errno) == (error, number)
    assert ended.filename in [str(name) for name in names]
    assert ended.message is not None
    assert os.strerror(number) in ended.message


def unreadable(folder: Path, kind: str) -> Path:
    """Make an input that cannot be read."""
    path = folder / "input"
    match kind:
        case "a directory":
            path.mkdir()
        case "below a file":
            path.write_bytes(LINES)
            return path / "lines"
        case "a link to itself":
            path.symlink_to(path)
        case "a name too long":
            return folder / ("x" * 300)
        case "a dangling link":
            path.symlink_to("nowhere")
    return path


@pytest.mark.parametrize(
    ("kind", "error", "number"),
    [
        ("missing", MissingFileError, errno.ENOENT),
        ("a dangling link", MissingFileError, errno.ENOENT),
        ("a directory", IsDirectoryError, errno.EISDIR),
        ("below a file", NotDirectoryError, errno.ENOTDIR),
        ("a link to itself", FileError, errno.ELOOP),
        ("a name too long", FileError, errno.ENAMETOOLONG),
    ],
)
@pytest.mark.parametrize("position", [0, 1])
def test_an_input(
    disk: Path,
    source: Path,
    out: Path,
    kind: str,
    error: type[FileError],
    number: int,
    position: int,
) -> None:
    bad = unreadable(disk, kind)
    inputs = [source, source]
    inputs[position] = bad
    refused(Forked(Job(inputs, out)).wait(), error, number, bad)
    assert out.read_bytes() == OLD
    assert os.listdir(out.parent) == ["out"]
    with pytest.raises(error) as caught:
        plan(inputs, out)
    assert (caught.value.errno, caught.value.filename) == (number, str(bad))


@pytest.mark.parametrize("kind", ["file", "directory", "fifo"])
def test_an_input_without_permission(disk: Path, out: Path, kind: str) -> None:
    folder = disk / "private"
    folder.mkdir()
    path = folder / "input"
    if kind == "fifo":
        os.mkfifo(path, 0)
    else:
        path.write_bytes(LINES)
    path.chmod(0)
    if kind == "directory":
        folder.chmod(0)
    out.parent.chmod(0o777)
    out.chmod(0o666)
    ended = Forked(Job(path, out), before=nobody).wait()
    folder.chmod(0o755)
    refused(ended, PermissionDeniedError, errno.EACCES, path)
    assert out.read_bytes() == OLD
    assert os.listdir(out.parent) == ["out"]


@pytest.mark.parametrize(
    ("make", "error", "number"),
    [
        (lambda folder: folder / "none" / "out", MissingFileError, errno.ENOENT),
        (lambda folder: folder / "file" / "out", NotDirectoryError, errno.ENOTDIR),
        (lambda folder: folder / "folder", IsDirectoryError, errno.EISDIR),
        (lambda folder: folder / "link to folder", IsDirectoryError, errno.EISDIR),
        (lambda folder: folder / "loop", FileError, errno.ELOOP),
        (lambda folder: folder / "dangling", MissingFileError, errno.ENOENT),
        (lambda folder: folder / ("x" * 300), FileError, errno.ENAMETOOLONG),
    ],
    ids=[
        "in no directory",
        "below a file",
        "a directory",
        "a link to a directory",
        "a link to itself",
        "a link into no directory",
        "a name too long",
    ],
)
def test_an_output(
    disk: Path,
    source: Path,
    make: Callable[[Path], Path],
    error: type[FileError],
    number: int,
) -> None:
    folder = disk / "outputs"
    (folder / "folder").mkdir(parents=True)
    (folder / "file").write_bytes(OLD)
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("none/out")
    (folder / "link to folder").symlink_to("folder")
    before = sorted(os.listdir(folder))
    path = make(folder)
    # A directory that is not there is named itself, or as a part of what it should hold.
    refused(Forked(Job(source, path)).wait(), error, number, path, folder / "none")
    assert sorted(os.listdir(folder)) == before
    assert os.listdir(folder / "folder") == []
    assert (folder / "file").read_bytes() == OLD


def test_an_output_directory_that_is_not_writable(source: Path, out: Path) -> None:
    out.chmod(0o666)
    ended = Forked(Job(source, out), before=nobody).wait()
    if os.geteuid() != 0:
        pytest.skip("an owner's own directory is writable")
    refused(ended, PermissionDeniedError, errno.EACCES, out)
    assert out.read_bytes() == OLD
    assert os.listdir(out.parent) == ["out"]


def test_an_old_output_that_is_not_writable(source: Path, out: Path) -> None:
    out.parent.chmod(0o777)
    out.chmod(0o444)
    ended = Forked(Job(source, out), before=nobody).wait()
    refused(ended, PermissionDeniedError, errno.EACCES, out)
    assert out.read_bytes() == OLD
    assert os.listdir(out.parent) == ["out"]


def test_an_output_on_a_read_only_file_system(source: Path, mount: Callable[..., Path]) -> None:
    point = mount("-t", "tmpfs", "-o", "ro,size=1m", "none")
    refused(
        Forked(Job(source, point / "out", {"scratch": "none"}, {})).wait(),
        FileError,
        errno.EROFS,
        point / "out",
    )


def test_scratch_in_no_directory(disk: Path, source: Path, out: Path) -> None:
    scratch = disk / "none"
    ended = Forked(Job(source, out, {"scratch": scratch})).wait()
    refused(ended, MissingFileError, errno.ENOENT, scratch)
    assert out.read_bytes() == OLD


def test_scratch_in_a_file(source: Path, out: Path) -> None:
    ended = Forked(Job(source, out, {"scratch": source})).wait()
    refused(ended, NotDirectoryError, errno.ENOTDIR, source)
    assert out.read_bytes() == OLD


@pytest.mark.parametrize("switches", [{}, {"no_tmpfile": 1}])
def test_scratch_that_is_not_writable(
    disk: Path, source: Path, out: Path, switches: dict[str, int]
) -> None:
    scratch = disk / "scratch"
    scratch.mkdir(mode=0o555)
    out.parent.chmod(0o777)
    out.chmod(0o666)
    job = Job(source, out, {"scratch": scratch}, {**Job(source, out).tuning, **switches})
    refused(Forked(job, before=nobody).wait(), PermissionDeniedError, errno.EACCES, scratch)
    assert out.read_bytes() == OLD
    assert os.listdir(out.parent) == ["out"]
    assert os.listdir(scratch) == []


def test_the_same_process_can_go_on(disk: Path, source: Path, out: Path) -> None:
    for bad in (disk / "none", disk):
        with pytest.raises(FileError):
            Job([source, bad], out).run()
        Job(source, out).run()
        assert out.read_bytes() == shuffled()
