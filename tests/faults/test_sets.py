"""A set of files is there as a whole, or known to be incomplete.

However a run ends that writes one: either the old files with their manifest are there,
or the new ones with theirs, or no manifest at all; and then each file is wholly an old
or a new one, and the next run to the same names sets all right by itself. Files that no
manifest names are never touched.
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from corekit.errors import (
    ExistingFileError,
    FileError,
    InvalidArgumentError,
    IsDirectoryError,
    MissingFileError,
    NotDirectoryError,
    PermissionDeniedError,
)
from corekit.shuffle import shuffle_files
from faults.runs import LINES, SMALL, SPILLING, Ended, Forked, Job, shuffled, until
from faults.test_descriptors import few_files
from faults.test_disk_full import largest_file, only_at_the_start
from faults.test_file_errors import nobody, refused
from faults.test_system_calls import RENAME
from faults.tracing import needs_strace, traced
from reference import reference_shuffle

MANIFEST = "out.manifest.json"
STAGING = re.compile(r"\.out\.manifest\.corekit-[0-9a-f]{16}")
PATTERN = "out-{index:03d}.txt"
NOTHING_HELD = {**SMALL, "blocks": 200, "spill": 1}
DEADLINE = 5  # seconds from Ctrl-C to the end: a guard against hangs

Files = dict[str, bytes]


def files(folder: Path) -> Files:
    """Return what is in a directory, the manifest too, without staging directories."""
    return {
        name: (folder / name).read_bytes()
        for name in os.listdir(folder)
        if not STAGING.fullmatch(name)
    }


def staged(folder: Path) -> list[Path]:
    """Return the staging directories."""
    return [folder / name for name in os.listdir(folder) if STAGING.fullmatch(name)]


def named(found: Files) -> list[str]:
    """Return the names in the manifest, in order, after a look at whether it is right."""
    manifest = json.loads(found[MANIFEST])
    for file in manifest["files"]:
        assert len(found[file["name"]]) == file["size"]
    return [file["name"] for file in manifest["files"]]


def together(found: Files) -> bytes:
    """Return the bytes of a complete set's files, one after the other."""
    names = named(found)
    assert {*names, MANIFEST} == set(found)
    return b"".join(found[name] for name in names)


@dataclass(frozen=True)
class Kind:
    """What a set's names are, and what makes it."""

    pattern: str = PATTERN
    options: dict[str, Any] = field(default_factory=lambda: {"shards": 5})

    def job(self, source: Path, folder: Path, seed: int = 1, copies: int = 1, **more: Any) -> Job:
        options = {**self.options, "seed": seed, **more}
        return Job([source] * copies, folder / self.pattern, options, NOTHING_HELD)


SHARDS = Kind()
KINDS = {
    "shards": SHARDS,
    "gzip": Kind("out-{index}.gz", {"shards": 12}),
    "zstd": Kind("out-{index}.zst", {"shard_bytes": "50K"}),
    "splits": Kind("out-{split}.txt", {"splits": {"train": "0.7", "test": "0.3"}}),
    "epochs": Kind("out-{epoch}.txt", {"epochs": 3}),
    "all": Kind(
        "out-{split}-{epoch}-{index}.txt",
        {"splits": {"a": "1/3", "b": "2/3"}, "epochs": 2, "shard_records": 4000},
    ),
}


@pytest.fixture
def place(disk: Path) -> Path:
    folder = disk / "outputs"
    folder.mkdir()
    return folder


@pytest.fixture
def old(source: Path, place: Path) -> Files:
    """An older set of seven shards, in its place."""
    return complete(SHARDS.job(source, place, 5, shards=7))


def complete(job: Job) -> Files:
    """Run a job to its end, which leaves nothing but a set; return that."""
    ended = Forked(job).wait()
    assert ended.error is None, ended
    folder = Path(job.output).parent
    assert staged(folder) == []
    found = files(folder)
    together(found)
    return found


def untouched(folder: Path, before: Files) -> None:
    assert files(folder) == before
    assert staged(folder) == []


def consistent(folder: Path, old: Files, new: Files) -> bool:
    """Check what a run left that did not come to its end; whether a manifest is there."""
    found = files(folder)
    for path in staged(folder):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert len(staged(folder)) <= 1
    if MANIFEST in found:
        assert found in (old, new)
        return True
    for name, content in found.items():
        assert content in (old.get(name), new.get(name))
    return False


def check_the_next(kind: Kind, source: Path, folder: Path) -> None:
    """Check that a run to the same names, of another order and size, sets all right."""
    found = complete(kind.job(source, folder, 2))
    if kind is SHARDS:
        assert together(found) == shuffled(2)


def fill(folder: Path, old: Files) -> None:
    """Put an old set there, in an empty directory."""
    shutil.rmtree(folder)
    folder.mkdir()
    for name, content in old.items():
        (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("name", "number", "times"),
    [
        ("shards", signal.SIGKILL, 20),
        ("gzip", signal.SIGKILL, 10),
        ("zstd", signal.SIGKILL, 10),
        ("splits", signal.SIGKILL, 8),
        ("epochs", signal.SIGKILL, 8),
        ("all", signal.SIGKILL, 12),
        ("shards", signal.SIGTERM, 6),
    ],
)
def test_killed_at_any_time(
    disk: Path, source: Path, place: Path, name: str, number: int, times: int
) -> None:
    kind = KINDS[name]
    old = complete(kind.job(source, place, 5))
    elsewhere = disk / "elsewhere"
    elsewhere.mkdir()
    job = kind.job(source, place, copies=4)
    start = time.monotonic()
    new = complete(kind.job(source, elsewhere, copies=4))
    lasts = time.monotonic() - start
    rng = random.Random(7)
    finished = 0
    for turn in range(times):
        fill(place, old)
        run = Forked(job)
        time.sleep((turn + rng.random()) / times * lasts * 1.1)
        ended = run.kill(number)
        assert ended.status in (0, -number)
        finished += ended.status == 0
        if ended.status == 0:
            untouched(place, new)
        else:
            consistent(place, old, new)
            check_the_next(kind, source, place)
    assert finished < times


# The steps of publishing: the journal, the old manifest, the old files that go (two),
# the new files (five), the new manifest; and what makes them last.
STEPS = [
    *[(RENAME, n) for n in range(1, 9)],
    *[("?unlink,?unlinkat", n) for n in range(2, 6)],
    *[("fsync", n) for n in range(1, 7)],
    ("?mkdir,?mkdirat", 1),
    ("ftruncate", 1),
    ("pwrite64", 2),
    ("flock", 1),
    ("flock", 2),
]


@needs_strace
@pytest.mark.parametrize(("calls", "n"), STEPS, ids=lambda v: str(v).split(",")[0].strip("?"))
@pytest.mark.parametrize("how", ["killed", "EIO"])
def test_a_step_that_fails(
    disk: Path, source: Path, place: Path, old: Files, calls: str, n: int, how: str
) -> None:
    elsewhere = disk / "elsewhere"
    elsewhere.mkdir()
    new = complete(SHARDS.job(source, elsewhere))
    injection = "signal=SIGKILL" if how == "killed" else f"error={how}"
    with traced(SHARDS.job(source, place), f"{calls}:{injection}:when={n}") as run:
        ended = run.wait()
    has_manifest = consistent(place, old, new)
    if how != "killed":
        assert ended.status == 0
        if ended.error is None:
            assert files(place) == new
        else:
            assert (ended.error_class, ended.errno) == (FileError, errno.EIO)
            assert ended.filename is not None
            assert Path(ended.filename).parent in (place, disk)
        if has_manifest and calls != RENAME and not calls.startswith("?unlink"):
            assert staged(place) == []
    check_the_next(SHARDS, source, place)


@needs_strace
def test_killed_twice(disk: Path, source: Path, place: Path, old: Files) -> None:
    # In the middle of the new files, and then in the middle of those of the next run.
    for shards, n in [(6, 4), (9, 6)]:
        job = SHARDS.job(source, place, shards, shards=shards)
        with traced(job, f"{RENAME}:signal=SIGKILL:when={n}") as run:
            assert run.wait().status == -signal.SIGKILL
        assert MANIFEST not in files(place)
    check_the_next(SHARDS, source, place)
    assert len(files(place)) == 5 + 1


@pytest.mark.parametrize("name", KINDS)
def test_an_older_set_goes(source: Path, place: Path, name: str) -> None:
    kind = KINDS[name]
    wide = {"shards": 30} if "shards" in kind.options else {}
    before = complete(kind.job(source, place, 5, **wide))
    after = complete(kind.job(source, place, 1))
    assert wide == {} or len(before) > len(after)
    assert before[MANIFEST] != after[MANIFEST]


def test_the_files_together_are_the_shuffled_lines(source: Path, place: Path) -> None:
    for shards in (64, 5, 1):
        assert together(complete(SHARDS.job(source, place, shards=shards))) == shuffled()


STRAYS = ["out-000.txt", "out-004.txt", "out-999.txt", "out-1000.txt"]


@pytest.mark.parametrize("name", STRAYS)
def test_a_stray_is_refused_and_stays(source: Path, place: Path, name: str) -> None:
    (place / name).write_bytes(b"not ours")
    job = SHARDS.job(source, place, progress=only_at_the_start)
    refused(Forked(job).wait(), ExistingFileError, errno.EEXIST, place / name)
    untouched(place, {name: b"not ours"})


@pytest.mark.parametrize("name", ["out-007.txt", "out-999.txt"])
def test_a_stray_beside_an_old_set(source: Path, place: Path, old: Files, name: str) -> None:
    (place / name).write_bytes(b"not ours")
    job = SHARDS.job(source, place, progress=only_at_the_start)
    refused(Forked(job).wait(), ExistingFileError, errno.EEXIST, place / name)
    untouched(place, {**old, name: b"not ours"})


@pytest.mark.parametrize("make", ["a link", "an input"])
def test_other_strays(source: Path, place: Path, make: str) -> None:
    stray = place / "out-002.txt"
    if make == "a link":
        stray.symlink_to(source)
        job = SHARDS.job(source, place, progress=only_at_the_start)
    else:
        stray.write_bytes(LINES)
        job = SHARDS.job(stray, place, progress=only_at_the_start)
    refused(Forked(job).wait(), ExistingFileError, errno.EEXIST, stray)
    assert os.listdir(place) == [stray.name]
    assert source.read_bytes() == LINES


@pytest.mark.parametrize("name", ["out-1.txt", "out-abc.txt", "out-.txt", "out-001.txt.gz", "b"])
def test_what_has_another_name_stays(source: Path, place: Path, name: str) -> None:
    (place / name).write_bytes(b"not ours")
    SHARDS.job(source, place).run()
    assert files(place).pop(name) == b"not ours"
    assert len(os.listdir(place)) == 5 + 1 + 1


def test_a_stray_that_comes_meanwhile(disk: Path, source: Path, place: Path, old: Files) -> None:
    fifo = disk / "fifo"
    os.mkfifo(fifo)
    run = Forked(Job([source, fifo], place / PATTERN, {"shards": 9}, SPILLING))
    with fifo.open("wb"):
        until(lambda: staged(place))
        (place / "out-008.txt").write_bytes(b"not ours")
    refused(run.wait(), ExistingFileError, errno.EEXIST, place / "out-008.txt")
    untouched(place, {**old, "out-008.txt": b"not ours"})


def test_a_set_may_replace_its_own_inputs(source: Path, place: Path, old: Files) -> None:
    inputs = [place / name for name in named(old)]
    Job(inputs, place / PATTERN, {"shards": 3}, NOTHING_HELD).run()
    found = files(place)
    assert sorted(together(found).splitlines()) == sorted(LINES.splitlines())
    assert len(found) == 3 + 1


def refused_below(place: Path, ended: Ended, error: type[FileError], number: int) -> None:
    """Check the error of a run; its file is the directory or something in it."""
    assert ended.error is not None, ended
    assert (ended.error_class, ended.errno) == (error, number)
    assert ended.filename is not None
    assert place in (Path(ended.filename), Path(ended.filename).parent)


def full(ended: Ended, place: Path, number: int) -> None:
    refused_below(place, ended, FileError, number)


@pytest.mark.parametrize("known", [True, False], ids=["a file", "a pipe"])
@pytest.mark.parametrize("switches", [{}, {"no_direct": 1}])
@pytest.mark.parametrize("pattern", [PATTERN, "out-{index}.zst"])
def test_a_full_file_system(
    disk: Path, mount: Callable[..., Path], known: bool, switches: dict[str, int], pattern: str
) -> None:
    place = mount("-t", "tmpfs", "-o", "size=2m", "none")
    source = disk / "noise"
    source.write_bytes(random.Random(1).randbytes(900_000))
    kind = Kind(pattern, {"shards": 3, "scratch": "none"})
    before = complete(Job([source], place / pattern, kind.options))
    job = Job(
        [source] * 2 if known else Path("/dev/stdin"),
        place / pattern,
        {**kind.options, "shards": 4},
        switches,
    )
    with subprocess.Popen(["cat", source, source], stdout=subprocess.PIPE) as pipe:
        assert pipe.stdout is not None
        number = pipe.stdout.fileno()
        ended = Forked(job, before=lambda: os.dup2(number, 0), keep={number}).wait()
        pipe.kill()
    full(ended, place, errno.ENOSPC)
    untouched(place, before)


@pytest.mark.parametrize("switches", [{}, {"no_direct": 1}])
@pytest.mark.parametrize("size", [0, 4096, 50_000])
def test_beyond_the_largest_file(
    source: Path, place: Path, old: Files, size: int, switches: dict[str, int]
) -> None:
    job = Job(source, place / PATTERN, {"shards": 3, "scratch": "none"}, switches)
    full(Forked(job, before=largest_file(size)).wait(), place, errno.EFBIG)
    untouched(place, old)
    Job(source, place / PATTERN, {"shards": 3}).run()
    assert together(files(place)) == shuffled()


def test_a_manifest_beyond_the_largest_file(source: Path, place: Path, old: Files) -> None:
    job = Job(source, place / PATTERN, {"shards": 300, "scratch": "none"}, {"no_direct": 1})
    full(Forked(job, before=largest_file(10_000)).wait(), place, errno.EFBIG)
    untouched(place, old)


def zipped(folder: Path) -> list[Path]:
    """Write three hundred files with a line or a few each."""
    folder.mkdir()
    paths = [folder / f"{n}.gz" for n in range(300)]
    lines = LINES.splitlines(keepends=True)
    for n, path in enumerate(paths):
        path.write_bytes(gzip.compress(b"".join(lines[n :: len(paths)]), 1))
    return paths


@pytest.mark.parametrize("ending", ["", ".zst", ".gz"])
@pytest.mark.parametrize("inputs", ["a file", "zipped files"])
@pytest.mark.parametrize("tuning", [{}, {**NOTHING_HELD, "workers": 8}], ids=["as planned", "tiny"])
def test_a_thousand_files_and_few_descriptors(
    disk: Path, source: Path, place: Path, ending: str, inputs: str, tuning: dict[str, int]
) -> None:
    given = [source] if inputs == "a file" else zipped(disk / "zipped")
    out = place / ("out-{index}.txt" + ending)
    options = {"shards": 1000, "threads": 8}
    ended = Forked(Job(given, out, options, tuning), before=few_files(32)).wait()
    assert ended.error is None, ended
    found = files(place)
    names = named(found)
    assert {*names, MANIFEST} == set(found)
    assert len(names) == 1000
    if ending == ".zst":
        # One frame after the other is one file for corekit.
        joined = disk / "joined.zst"
        joined.write_bytes(together(found))
        again = shuffle_files(joined, "/dev/null")
        assert ended.report is not None
        assert (again.input_records, f"{again.input_digest:032x}") == (
            ended.report["records"],
            ended.report["digest"],
        )
        return
    contents = [found[name] for name in names]
    text = b"".join(map(gzip.decompress, contents) if ending else contents)
    lines = [LINES] if inputs == "a file" else [gzip.decompress(p.read_bytes()) for p in given]
    assert text == reference_shuffle(lines, 1)


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_only_the_user_sees_what_is_staged(
    disk: Path, source: Path, place: Path, umask: int
) -> None:
    fifo = disk / "fifo"
    os.mkfifo(fifo)
    job = Job([source, fifo], place / PATTERN, {"shards": 2}, SPILLING)
    run = Forked(job, before=lambda: os.umask(umask))
    with fifo.open("wb"):
        until(lambda: staged(place))
        (path,) = staged(place)
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert run.wait().error is None
    found = files(place)
    assert together(found) == reference_shuffle([LINES, b""], 1)
    assert {stat.S_IMODE((place / name).stat().st_mode) for name in found} == {0o666 & ~umask}


def test_what_a_live_run_has_staged_stays(
    disk: Path, source: Path, place: Path, old: Files
) -> None:
    fifo = disk / "fifo"
    os.mkfifo(fifo)
    living = Forked(Job([source, fifo], place / PATTERN, {"shards": 2}, SPILLING))
    with fifo.open("wb"):
        until(lambda: staged(place))
        (path,) = staged(place)
        SHARDS.job(source, place, 2).run()
        assert staged(place) == [path]
        assert together(files(place)) == shuffled(2)
    assert living.wait().error is None
    assert staged(place) == []
    assert together(files(place)) == shuffled()


def test_two_runs_at_once(source: Path, place: Path, old: Files) -> None:
    for _ in range(5):
        runs = [Forked(SHARDS.job(source, place, seed, shards=4 * seed)) for seed in (1, 2)]
        assert [run.wait().error for run in runs] == [None, None]
        found = files(place)
        assert together(found) == shuffled((len(found) - 1) // 4)
        assert staged(place) == []


@pytest.mark.parametrize("name", ["shards", "gzip", "zstd", "all"])
@pytest.mark.parametrize("phase", ["scatter", "gather", "publish"])
def test_ctrl_c_leaves_nothing(
    disk: Path, source: Path, place: Path, name: str, phase: str
) -> None:
    kind = KINDS[name]
    before = complete(kind.job(source, place, 5))
    source.write_bytes(LINES * 10)
    sent, told = os.pipe()

    def press(*_: object) -> None:
        # From a thread, so that the signal comes while the core runs.
        time.sleep(0.01)
        os.writev(told, [str(time.monotonic()).encode()])
        os.kill(os.getpid(), signal.SIGINT)

    pressed = threading.Event()

    def progress(_done: int, _total: int | None, now: str) -> None:
        if now == phase and not pressed.is_set():
            pressed.set()
            threading.Thread(target=press).start()

    # Slow, where Ctrl-C comes before the end.
    level = {"gzip": "gzip:12", "zstd": "zstd:19"}.get(name) if phase != "publish" else None
    more: dict[str, Any] = {"progress": progress}
    if level:
        more["compress"] = level
    job = kind.job(source, place, copies=2, **more)
    run = Forked(
        job,
        before=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        keep={told},
    )
    ended = run.wait()
    end = time.monotonic()
    os.close(told)
    with os.fdopen(sent, "rb") as file:
        pressed_at = file.read()
    if ended.error is None:
        # It was through before the signal came.
        assert phase != "scatter"
        assert staged(place) == []
        together(files(place))
        return
    assert ended.error == "KeyboardInterrupt", ended
    assert end - float(pressed_at) < DEADLINE
    assert staged(place) == []
    if files(place) != before:
        # What is being published when the signal comes is published.
        assert phase == "publish"
        together(files(place))


def test_a_handler_that_raises_cleans_up(disk: Path, source: Path, place: Path, old: Files) -> None:
    fifo = disk / "fifo"
    os.mkfifo(fifo)
    run = Forked(
        Job([source, fifo], place / PATTERN, {"shards": 2}, SPILLING),
        before=lambda: signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to stop")),
    )
    with fifo.open("wb"):
        until(lambda: staged(place))
        assert run.kill(signal.SIGTERM).error == "SystemExit"
    untouched(place, old)


def test_a_directory_that_is_not_writable(source: Path, place: Path, old: Files) -> None:
    if os.geteuid() != 0:
        pytest.skip("an owner's own directory is writable")
    job = SHARDS.job(source, place, progress=only_at_the_start)
    ended = Forked(job, before=nobody).wait()
    refused_below(place, ended, PermissionDeniedError, errno.EACCES)
    untouched(place, old)


def test_a_read_only_file_system(source: Path, mount: Callable[..., Path]) -> None:
    place = mount("-t", "tmpfs", "-o", "ro,size=1m", "none")
    job = Job(
        source, place / PATTERN, {"shards": 2, "scratch": "none", "progress": only_at_the_start}, {}
    )
    refused_below(place, Forked(job).wait(), FileError, errno.EROFS)


@pytest.mark.parametrize(
    ("folder", "error", "number"),
    [("none", MissingFileError, errno.ENOENT), ("inputs/lines", NotDirectoryError, errno.ENOTDIR)],
)
def test_no_directory(
    disk: Path, source: Path, folder: str, error: type[FileError], number: int
) -> None:
    out = disk / folder / PATTERN
    job = Job(source, out, {"shards": 2, "progress": only_at_the_start})
    refused_below(out.parent, Forked(job).wait(), error, number)


def test_a_directory_of_such_a_name(source: Path, place: Path, old: Files) -> None:
    (place / "out-100.txt").mkdir()
    job = SHARDS.job(source, place, progress=only_at_the_start)
    refused(Forked(job).wait(), IsDirectoryError, errno.EISDIR, place / "out-100.txt")
    (place / "out-100.txt").rmdir()
    untouched(place, old)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"files": [{"name": 1}]}', b"\xff"])
def test_a_manifest_that_is_none(source: Path, place: Path, content: bytes) -> None:
    (place / MANIFEST).write_bytes(content)
    with pytest.raises(InvalidArgumentError, match="manifest"):
        SHARDS.job(source, place, progress=only_at_the_start).run()
    untouched(place, {MANIFEST: content})


@pytest.mark.parametrize("name", ["../inputs/lines", "out-000.txt/../../inputs/lines", ".", ""])
def test_a_manifest_never_leads_astray(source: Path, place: Path, name: str) -> None:
    # Only what has a name of this set is ever removed.
    (place / "other").write_bytes(b"not ours")
    (place / MANIFEST).write_text(json.dumps({"files": [{"name": name}]}))
    SHARDS.job(source, place).run()
    assert source.read_bytes() == LINES
    assert files(place).pop("other") == b"not ours"


def test_the_set_of_another_pattern(source: Path, place: Path, old: Files) -> None:
    # It has the same manifest, without which nothing would name its files.
    job = Job(source, place / "out-{index}.csv", {"shards": 2, "progress": only_at_the_start})
    ended = Forked(job).wait()
    refused(ended, ExistingFileError, errno.EEXIST, *[place / name for name in named(old)])
    untouched(place, old)


@pytest.mark.parametrize(
    ("pattern", "options"),
    [
        ("out.txt", {"shards": 2}),
        ("out-{split}.txt", {"shards": 2}),
        ("out-{index}.txt", {"splits": {"a": 1}}),
        ("out-{index}-{epoch}.txt", {"shards": 2}),
        ("out-{number}.txt", {"shards": 2}),
        ("out-{}.txt", {"shards": 2}),
        ("out-{index.txt", {"shards": 2}),
        ("out-index}.txt", {"shards": 2}),
        ("out-{index:x}.txt", {"shards": 2}),
        ("out-{index:999d}.txt", {"shards": 2}),
        ("out-{split:5d}", {"splits": {"a": 1}}),
        ("{index}/out", {"shards": 2}),
        ("out.{split}.json", {"splits": {"a": 1}}),
        ("out-{split}", {"splits": {"a/b": 1}}),
        ("x" * 201 + "{index}", {"shards": 2}),
    ],
)
def test_a_pattern_that_cannot_be_used(
    source: Path, place: Path, pattern: str, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArgumentError):
        Job(source, place / pattern, {**options, "progress": only_at_the_start}).run()
    assert os.listdir(place) == []


@pytest.mark.parametrize(
    ("pattern", "options"),
    [
        ("out-{index}" + "y" * 252, {"shards": 3}),
        ("out-{split}", {"splits": {"a": "1/2", "b" * 252: "1/2"}}),
    ],
    ids=["index", "split"],
)
def test_names_too_long(source: Path, place: Path, pattern: str, options: dict[str, Any]) -> None:
    (place / MANIFEST).write_text(json.dumps({"files": [{"name": "out-a"}]}))
    (place / "out-a").write_bytes(b"the old set")
    before = files(place)
    with pytest.raises((FileError, InvalidArgumentError)):
        Job(source, place / pattern, options).run()
    untouched(place, before)


def test_many_sets_leave_no_descriptors(source: Path, place: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for turn in range(20):
        SHARDS.job(source, place, shards=turn + 1).run()
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(named(files(place))) == 20


@pytest.mark.parametrize("ending", ["gz", "zst"])
@pytest.mark.parametrize("threads", [2, 3])
def test_compressing_never_hangs(source: Path, place: Path, ending: str, threads: int) -> None:
    # However frames come to be full, one after the other or not.
    tuning = {**NOTHING_HELD, "workers": threads}
    for turn in range(15):
        options = {"seed": turn, "shard_bytes": "50K"}
        ended = Forked(Job(source, place / f"out-{{index}}.{ending}", options, tuning)).wait()
        assert ended.error is None
