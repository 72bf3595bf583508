"""A projection that fails leaves its destination as it was; one that succeeds replaces it whole.

Full disks, refused calls, kills, files that change while they are read, links, permissions, and
file systems that lack what the way of writing would like to have.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import re
import resource
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corekit.errors import (
    ClosedPipeError,
    CorekitError,
    FileError,
    InputChangedError,
    IsDirectoryError,
    MissingFileError,
    NotDirectoryError,
    OutOfMemoryError,
    PermissionDeniedError,
)
from corekit.projection import SparseProjection
from faults.runs import OLD, Ended, Forked, Job, siblings
from faults.tracing import needs_strace, traced

D, K, N = 300, 64, 3000
X = np.random.default_rng(1).standard_normal((N, D)).astype(np.float32)
PROJECTION = SparseProjection(D, K, seed=1)
# A few dozen blocks, the least that a limit can ask for: 8 MiB, 16 MiB and two rows.
FEW_ROWS = (24 << 20) + 40 * (2 * D + K) * 4


def encoded(Y: Any) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {Y.shape}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    values: bytes = Y.tobytes()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + values


COMPLETE = encoded(PROJECTION.project(X))


@dataclass(frozen=True)
class Done:
    """What a projection reports: nothing."""

    def to_dict(self) -> dict[str, Any]:
        return {}


class Projecting(Job):
    """The arguments of one projection of a file."""

    def run(self) -> Any:
        """Run it here."""
        options = {"memory_limit": FEW_ROWS, "threads": 2, **self.options}
        assert isinstance(self.inputs, Path)
        PROJECTION.project_file(self.inputs, self.output, **options)
        return Done()


@pytest.fixture
def source(disk: Path) -> Path:
    """An input written some time ago."""
    (disk / "inputs").mkdir()
    path = disk / "inputs" / "x.npy"
    np.save(path, X)
    os.utime(path, (1e9, 1e9))
    return path


@pytest.fixture(params=["unnamed", "named"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to make the new file: a kernel without O_TMPFILE sees only O_DIRECTORY in it."""
    if request.param == "named":
        monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY)
    return str(request.param)


def check(out: Path, content: bytes = COMPLETE) -> None:
    """Check what the destination holds, and that nothing lies beside it."""
    assert out.read_bytes() == content
    assert os.listdir(out.parent) == [out.name]


def failed(ended: Ended, number: int, *named: Path, error: type[CorekitError] = FileError) -> None:
    assert ended.error is not None, ended
    assert issubclass(ended.error_class, error)
    assert ended.errno == number, ended
    assert ended.filename in [str(path) for path in named], ended


# Replacing.


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_an_old_file_is_replaced(source: Path, out: Path, way: str) -> None:
    Projecting(source, out).run()
    check(out)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_a_new_file_has_what_the_umask_leaves(
    source: Path, out: Path, way: str, umask: None, mask: int
) -> None:
    out.unlink()
    os.umask(mask)
    Projecting(source, out).run()
    check(out)
    assert mode(out) == 0o666 & ~mask


@pytest.mark.parametrize("bits", [0o640, 0o600, 0o666, 0o755, 0o2640, 0o1644])
def test_an_old_file_keeps_its_mode(
    source: Path, out: Path, way: str, umask: None, bits: int
) -> None:
    out.chmod(bits)
    if mode(out) != bits:
        pytest.skip("this user cannot set that mode")
    os.umask(0o077)
    Projecting(source, out).run()
    assert mode(out) == bits
    check(out)


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
NOBODY = 65534


@as_root
def test_an_old_file_keeps_its_owner(source: Path, out: Path, way: str) -> None:
    os.chown(out, 1234, 5678)
    out.chmod(0o640)
    Projecting(source, out).run()
    after = out.stat()
    assert (after.st_uid, after.st_gid, mode(out)) == (1234, 5678, 0o640)


def nobody(*groups: int) -> Callable[[], None]:
    def become() -> None:
        os.setgroups(groups)
        os.setgid(NOBODY)
        os.setuid(NOBODY)

    return become


@as_root
@pytest.mark.parametrize(("groups", "gid", "bits"), [((5678,), 5678, 0o660), ((), NOBODY, 0o600)])
def test_no_other_group_gets_the_rights_of_the_old_one(
    source: Path, out: Path, way: str, groups: tuple[int, ...], gid: int, bits: int
) -> None:
    out.parent.chmod(0o777)
    os.chown(out, 1234, 5678)
    out.chmod(0o662)
    ended = Forked(Projecting(source, out), before=nobody(*groups)).wait()
    assert ended.error is None, ended
    after = out.stat()
    assert (after.st_uid, after.st_gid, mode(out)) == (NOBODY, gid, bits | 2)
    check(out)


@as_root
def test_what_may_not_be_written_is_not_replaced(source: Path, out: Path, way: str) -> None:
    out.parent.chmod(0o777)
    out.chmod(0o444)
    ended = Forked(Projecting(source, out), before=nobody()).wait()
    failed(ended, errno.EACCES, out, error=PermissionDeniedError)
    check(out, OLD)


@as_root
def test_a_directory_that_may_not_be_written(source: Path, out: Path, way: str) -> None:
    out.chmod(0o666)
    ended = Forked(Projecting(source, out), before=nobody()).wait()
    failed(ended, errno.EACCES, out, error=PermissionDeniedError)
    check(out, OLD)


@as_root
def test_an_input_that_may_not_be_read(source: Path, out: Path) -> None:
    source.chmod(0)
    ended = Forked(Projecting(source, out), before=nobody()).wait()
    failed(ended, errno.EACCES, source, error=PermissionDeniedError)
    check(out, OLD)


def test_a_chain_of_links(disk: Path, source: Path, out: Path, way: str) -> None:
    folder = disk / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "second").symlink_to("../../outputs/out")
    (disk / "first").symlink_to(folder / "second")
    Projecting(source, disk / "first").run()
    assert os.readlink(disk / "first") == str(folder / "second")
    assert os.listdir(folder) == ["second"]
    check(out)


def test_a_dangling_link(disk: Path, source: Path, out: Path, way: str) -> None:
    out.unlink()
    (disk / "link").symlink_to("outputs/out")
    Projecting(source, disk / "link").run()
    assert (disk / "link").is_symlink()
    check(out)


def test_links_in_a_circle(disk: Path, source: Path) -> None:
    (disk / "link").symlink_to("link")
    failed(Forked(Projecting(source, disk / "link")).wait(), errno.ELOOP, disk / "link")


def test_hard_links_and_readers_keep_the_old_bytes(
    disk: Path, source: Path, out: Path, way: str
) -> None:
    other = disk / "other"
    os.link(out, other)
    with out.open("rb") as file:
        Projecting(source, out).run()
        assert file.read() == other.read_bytes() == OLD
    check(out)


@pytest.mark.parametrize("linked", [False, True])
def test_the_input_itself(source: Path, way: str, linked: bool) -> None:
    source.chmod(0o640)
    to = source
    if linked:
        to = source.parent.parent / "link"
        to.symlink_to(source)
    Projecting(source, to).run()
    assert mode(source) == 0o640
    check(source)


def test_a_name_in_the_working_directory(
    source: Path, out: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(out.parent)
    Projecting(source, "out").run()
    check(out)


@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127, "€" * 85])
def test_long_names(source: Path, out: Path, way: str, name: str) -> None:
    out.unlink()
    Projecting(source, out.with_name(name)).run()
    check(out.with_name(name))


# Destinations that cannot be.


def test_directories(disk: Path, source: Path, out: Path) -> None:
    for wrong in (f"{out.parent}", f"{out.parent}/", f"{disk}/new/"):
        with pytest.raises(IsDirectoryError) as caught:
            Projecting(source, wrong).run()
        assert caught.value.filename == wrong
    assert sorted(os.listdir(disk)) == ["inputs", "outputs"]


def test_places_that_are_not_there(disk: Path, source: Path, out: Path, way: str) -> None:
    for wrong, error in [(disk / "none" / "y", MissingFileError), (out / "y", NotDirectoryError)]:
        with pytest.raises(error) as caught:
            Projecting(source, wrong).run()
        assert caught.value.filename == str(wrong)
    check(out, OLD)


def test_a_working_directory_that_is_gone(
    disk: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (disk / "gone").mkdir()
    monkeypatch.chdir(disk / "gone")
    (disk / "gone").rmdir()
    with pytest.raises(MissingFileError) as caught:
        Projecting(source, "y").run()
    assert caught.value.filename == "y"


# Devices, pipes and descriptors.


def test_a_fifo(disk: Path, source: Path) -> None:
    fifo = disk / "fifo"
    os.mkfifo(fifo)
    run = Forked(Projecting(source, fifo))
    assert fifo.read_bytes() == COMPLETE
    assert run.wait().error is None
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert sorted(os.listdir(disk)) == ["fifo", "inputs"]


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("name", ["/dev/fd/{}", "/proc/self/fd/{}"])
def test_a_descriptor(source: Path, name: str, blocking: bool) -> None:
    # Whoever shares a pipe may have set it so that writes do not wait.
    reading, writing = os.pipe()
    os.set_blocking(writing, blocking)
    run = Forked(Projecting(source, name.format(writing)), keep=[writing])
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        time.sleep(0.1)
        assert file.read() == COMPLETE
    assert run.wait().error is None


def test_a_descriptor_is_written_to_where_it_stands(source: Path, out: Path) -> None:
    # As after `>>` of a shell: the file is not replaced.
    with out.open("ab") as file:
        Projecting(source, f"/dev/fd/{file.fileno()}").run()
    check(out, OLD + COMPLETE)


def test_a_reader_that_leaves(disk: Path, source: Path) -> None:
    fifo = disk / "fifo"
    os.mkfifo(fifo)
    run = Forked(Projecting(source, fifo))
    with fifo.open("rb") as file:
        assert COMPLETE.startswith(file.read(10))
    failed(run.wait(), errno.EPIPE, fifo, error=ClosedPipeError)


def test_dev_null(source: Path) -> None:
    Projecting(source, "/dev/null").run()
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_full_device(source: Path) -> None:
    failed(Forked(Projecting(source, "/dev/full")).wait(), errno.ENOSPC, Path("/dev/full"))


# Full disks.


def largest_file(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def without_reserving(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", refuse)


RESERVING = [None, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS]


@pytest.mark.parametrize("lacking", RESERVING)
def test_the_same_bytes_without_reserving(
    source: Path, out: Path, way: str, lacking: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lacking is not None:
        without_reserving(monkeypatch, lacking)
    Projecting(source, out).run()
    check(out)


@pytest.mark.parametrize("lacking", RESERVING[:2])
@pytest.mark.parametrize("size", [0, 100, 4096, 500_000, len(COMPLETE) - 1])
def test_an_output_beyond_the_largest_file(
    source: Path,
    out: Path,
    way: str,
    size: int,
    lacking: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if lacking is not None:
        without_reserving(monkeypatch, lacking)
    failed(Forked(Projecting(source, out), before=largest_file(size)).wait(), errno.EFBIG, out)
    check(out, OLD)


@pytest.mark.parametrize("lacking", RESERVING[:2])
def test_a_full_file_system(
    source: Path,
    mount: Callable[..., Path],
    way: str,
    lacking: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if lacking is not None:
        without_reserving(monkeypatch, lacking)
    out = mount("-t", "tmpfs", "-o", "size=600k", "none") / "out"
    out.write_bytes(OLD)
    failed(Forked(Projecting(source, out)).wait(), errno.ENOSPC, out)
    check(out, OLD)
    np.save(source, X[:500])
    Projecting(source, out).run()
    check(out, encoded(PROJECTION.project(X[:500])))


def test_missing_space_is_found_before_anything_is_projected(disk: Path, out: Path) -> None:
    source = disk / "x"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    rows = 2 * free // (K * 4)
    with source.open("wb") as file:
        try:
            file.truncate(rows * D * 4)
        except OSError as refused:
            pytest.skip(f"the file system has no files of that size: {refused}")

    def tell(*_: object) -> None:
        raise AssertionError("the run began")

    with pytest.raises(FileError) as caught:
        PROJECTION.project_file(source, out, shape=(rows, D), dtype="f4", progress=tell)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(out))
    check(out, OLD)


def test_an_output_larger_than_any_file(disk: Path, out: Path, way: str) -> None:
    source = disk / "x"
    with source.open("wb") as file:
        try:
            file.truncate(1 << 33)
        except OSError as refused:
            pytest.skip(f"the file system has no files of that size: {refused}")
    projection = SparseProjection(1, 1 << 27, seed=1)
    with pytest.raises(FileError) as caught:
        projection.project_file(source, out, shape=(1 << 33, 1), dtype="i1", memory_limit="2GiB")
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(out))
    check(out, OLD)


def test_memory_that_the_system_refuses(disk: Path, out: Path) -> None:
    source = disk / "x"
    with source.open("wb") as file:
        file.truncate(1 << 32)
    with Path("/proc/self/statm").open() as statm:
        mapped = int(statm.read().split()[0]) * resource.getpagesize()
    bound = mapped + (1 << 30)

    class Wide(Projecting):
        def run(self) -> Any:
            options: dict[str, Any] = {"shape": (16, 1 << 26), "dtype": "f4"}
            options["memory_limit"] = "16GiB"
            SparseProjection(1 << 26, 4, seed=1).project_file(source, out, threads=1, **options)
            return Done()

    ended = Forked(
        Wide(source, out), before=lambda: resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    ).wait()
    assert ended.error_class is OutOfMemoryError
    check(out, OLD)


# Kills.


def kill_at(run: Forked, delay: float, number: int) -> Ended:
    time.sleep(delay)
    return run.kill(number)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_killed_at_any_time(source: Path, out: Path, way: str, number: int) -> None:
    job = Projecting(source, out)
    began = time.monotonic()
    assert Forked(job).wait().error is None
    lasts = time.monotonic() - began
    random_ = random.Random(number)
    times, finished = 15, 0
    for turn in range(times):
        out.write_bytes(OLD)
        ended = kill_at(Forked(job), (turn + random_.random()) / times * lasts * 1.1, number)
        assert ended.status in (0, -number)
        finished += ended.status == 0
        assert out.read_bytes() in ({OLD, COMPLETE} if ended.status else {COMPLETE})
        left = siblings(out)
        assert sorted([out.name, *left]) == sorted(os.listdir(out.parent))
        assert len(left) <= (ended.status != 0)
        assert all(re.fullmatch(r"\.out\.corekit-[0-9a-f]{16}", name) for name in left)
        if left:
            # The next run removes what this one could not.
            job.run()
            check(out)
    assert finished < times


def test_ctrl_c_at_any_time(source: Path, out: Path, way: str) -> None:
    job = Projecting(source, out)
    began = time.monotonic()
    assert Forked(job).wait().error is None
    lasts = time.monotonic() - began

    def deaf_no_more() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    ends = set()
    for turn in range(25):
        out.write_bytes(OLD)
        ended = kill_at(Forked(job, before=deaf_no_more), turn / 25 * lasts, signal.SIGINT)
        if ended.status == 0:
            ends.add(ended.error)
            assert ended.error in (None, "KeyboardInterrupt"), ended
        else:  # before it could be heard
            assert ended.status == -signal.SIGINT
        check(out, out.read_bytes())
        assert out.read_bytes() in {OLD, COMPLETE}
    assert "KeyboardInterrupt" in ends


def test_the_sibling_of_a_run_that_lives_stays(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY)
    seen: list[list[str]] = []

    def meanwhile(done: int, total: int, phase: str) -> None:
        if not seen:
            mine = siblings(out)
            Projecting(source, out).run()
            seen.extend([mine, siblings(out)])
            assert out.read_bytes() == COMPLETE
            out.write_bytes(OLD)

    Projecting(source, out, {"progress": meanwhile}).run()
    check(out)
    assert len(seen[0]) == 1
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("name", "stays"),
    [
        (".out.corekit-0123456789abcdef", False),
        (".out.corekit-0123456789abcde", True),
        (".out.corekit-0123456789abcdeg", True),
        (".output.corekit-0123456789abcdef", True),
        ("out.corekit-0123456789abcdef", True),
    ],
)
def test_only_siblings_of_this_destination_are_removed(
    source: Path, out: Path, name: str, stays: bool
) -> None:
    path = out.with_name(name)
    path.write_bytes(b"not ours")
    Projecting(source, out).run()
    assert path.exists() == stays
    if not stays:
        path.write_bytes(b"a run holds it")
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            Projecting(source, out).run()
        assert path.exists()


def test_what_only_has_such_a_name_harms_nobody(source: Path, out: Path) -> None:
    os.mkfifo(out.with_name(".out.corekit-0123456789abcdef"))
    out.with_name(".out.corekit-0123456789abcde0").mkdir()
    out.with_name(".out.corekit-0123456789abcde1").symlink_to("out")
    Projecting(source, out).run()
    assert out.read_bytes() == COMPLETE


def test_two_runs_at_once(source: Path, out: Path, way: str) -> None:
    seen: set[bytes] = set()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            seen.add(out.read_bytes())

    watcher = threading.Thread(target=look)
    watcher.start()
    # In one process too, where a name made of its number would be one name.
    threads = [threading.Thread(target=Projecting(source, out).run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    watcher.join()
    assert seen <= {OLD, COMPLETE}
    check(out)


def test_a_new_file_that_another_run_takes_for_a_dead_one(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Between its making and its lock it is locked by who is about to remove it.
    opened = os.open
    taken: list[threading.Timer] = []

    def remove(path: Any, descriptor: int) -> None:
        os.unlink(path)
        os.close(descriptor)

    def taking(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "")
        descriptor = opened(path, flags, *rest, **options)
        if flags & os.O_EXCL and not taken:
            other = opened(path, os.O_RDONLY)
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            taken.append(threading.Timer(0.05, remove, (path, other)))
            taken[0].start()
        return descriptor

    monkeypatch.setattr(os, "open", taking)
    Projecting(source, out).run()
    (timer,) = taken
    timer.join()
    check(out)


# Inputs that change.


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1000)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"####")


@pytest.mark.parametrize("change", [append, cut, empty, rewrite])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_input_that_changes(
    source: Path, out: Path, order: str, change: Callable[[Path], None]
) -> None:
    np.save(source, np.asarray(X, order=order))  # type: ignore[call-overload]
    os.utime(source, (1e9, 1e9))
    calls = 0

    def tell(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            change(source)

    with pytest.raises(InputChangedError) as caught:
        Projecting(source, out, {"progress": tell}).run()
    assert caught.value.filename == str(source)
    assert re.search("changed|became shorter", str(caught.value))
    check(out, OLD)


def test_an_input_that_is_replaced_before_it_is_read(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = source.with_name("other")
    other.write_bytes(source.read_bytes())
    # Room is asked for when the header was read and nothing else.
    monkeypatch.setattr(os, "posix_fallocate", lambda *_: os.replace(other, source))
    projected: list[int] = []

    with pytest.raises(InputChangedError) as caught:
        Projecting(source, out, {"progress": lambda done, *_: projected.append(done)}).run()
    assert caught.value.filename == str(source)
    assert projected == []
    check(out, OLD)


def test_an_input_that_is_replaced_while_it_is_read_is_read_on(source: Path, out: Path) -> None:
    other = source.with_name("other")

    def tell(*_: object) -> None:
        other.write_bytes(b"something else")
        os.replace(other, source)

    Projecting(source, out, {"progress": tell}).run()
    check(out)


def test_an_input_that_is_only_looked_at(source: Path, out: Path) -> None:
    def tell(*_: object) -> None:
        source.chmod(0o600)
        source.read_bytes()

    Projecting(source, out, {"progress": tell}).run()
    check(out)


# Calls that fail.


def faulty(job: Job, injection: str, *, on: Path | None = None) -> Ended:
    """Run it while strace makes some of its system calls, or those on one file, fail."""
    with traced(job, injection, on=on) as run:
        return run.wait()


FAULTS = [
    ("write", "EIO", 2, "out"),
    ("write", "ENOSPC", 1, "out"),
    ("preadv,preadv2", "EIO", 1, "source"),
    ("preadv,preadv2", "EIO", 20, "source"),
    ("fsync", "EIO", 1, "out"),
    ("fallocate", "ENOSPC", 1, "out"),
    ("fchmod", "EIO", 1, "out"),
    ("?link,?linkat", "EIO", 1, "out"),
    ("?rename,?renameat,?renameat2", "EIO", 1, "out"),
]


@needs_strace
@pytest.mark.parametrize(("calls", "error", "when", "at"), FAULTS)
def test_a_call_that_fails(
    source: Path, out: Path, calls: str, error: str, when: int, at: str
) -> None:
    # The run writes to nothing else: results of the test's process go another way.
    ended = faulty(Projecting(source, out), f"{calls}:error={error}:when={when}")
    failed(ended, getattr(errno, error), source if at == "source" else out)
    check(out, OLD)


@needs_strace
@pytest.mark.parametrize(
    ("calls", "error"),
    [
        ("flock", "ENOLCK"),
        ("fchown", "EPERM"),
        ("fallocate", "EINTR"),
        ("preadv,preadv2", "EINTR"),
        ("write", "EINTR"),
        ("fsync", "EINTR"),
    ],
)
def test_a_call_that_needs_no_success(source: Path, out: Path, calls: str, error: str) -> None:
    ended = faulty(Projecting(source, out), f"{calls}:error={error}:when=1")
    assert ended.error is None, ended
    check(out)


@needs_strace
def test_a_file_system_without_unnamed_files(source: Path, out: Path) -> None:
    injection = "?openat:error=EOPNOTSUPP:when=1"
    # The first time that the directory is opened is for a file in it.
    ended = faulty(Projecting(source, out), injection, on=out.parent)
    assert ended.error is None, ended
    check(out)


@needs_strace
def test_a_thread_that_cannot_be_started(source: Path, out: Path) -> None:
    ended = faulty(Projecting(source, out), "?clone,?clone3:error=EAGAIN:when=1")
    assert ended.error_class is OutOfMemoryError
    check(out, OLD)


@needs_strace
@pytest.mark.parametrize("calls", ["?link,?linkat", "?rename,?renameat,?renameat2", "fsync"])
def test_killed_while_publishing(source: Path, out: Path, calls: str) -> None:
    ended = faulty(Projecting(source, out), f"{calls}:signal=SIGKILL:when=1")
    assert ended.status == -signal.SIGKILL
    assert out.read_bytes() == OLD
    assert len(siblings(out)) == (1 if "rename" in calls else len(siblings(out)))
    Projecting(source, out).run()
    check(out)
