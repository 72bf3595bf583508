"""A destination is replaced as a careful program replaces a file.

It keeps its mode and its owner; a new one has the mode that the umask leaves. A
symbolic link stays and what it leads to is replaced; other names of the old file keep
the old bytes; a reader that has it open reads on. An input may be the destination.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.runs import LINES, OLD, SPILLING, Forked, Job, shuffled
from faults.test_file_errors import NOBODY

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")

SWITCHES = [{}, {"no_tmpfile": 1}]


@pytest.fixture(params=SWITCHES, ids=["unnamed", "named"])
def tuning(request: pytest.FixtureRequest) -> dict[str, int]:
    """Both ways to make the new file."""
    return {**SPILLING, **request.param}


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o027, 0o077])
def test_a_new_file_has_what_the_umask_leaves(
    source: Path, out: Path, tuning: dict[str, int], umask: None, mask: int
) -> None:
    out.unlink()
    os.umask(mask)
    Job(source, out, tuning=tuning).run()
    assert mode(out) == 0o666 & ~mask
    assert out.read_bytes() == shuffled()


@pytest.mark.parametrize("bits", [0o640, 0o600, 0o666, 0o755, 0o200, 0o2640, 0o4755, 0o1644])
def test_an_old_file_keeps_its_mode(
    source: Path, out: Path, tuning: dict[str, int], umask: None, bits: int
) -> None:
    out.chmod(bits)
    if mode(out) != bits:
        pytest.skip("this user cannot set that mode")
    os.umask(0o077)
    Job(source, out, tuning=tuning).run()
    assert mode(out) == bits
    out.chmod(0o600)
    assert out.read_bytes() == shuffled()


@as_root
def test_an_old_file_keeps_its_owner(source: Path, out: Path, tuning: dict[str, int]) -> None:
    os.chown(out, 1234, 5678)
    out.chmod(0o640)
    Job(source, out, tuning=tuning).run()
    after = out.stat()
    assert (after.st_uid, after.st_gid, mode(out)) == (1234, 5678, 0o640)


@as_root
def test_who_cannot_keep_the_owner_becomes_it(
    source: Path, out: Path, tuning: dict[str, int]
) -> None:
    out.parent.chmod(0o777)
    os.chown(out, 1234, 5678)
    out.chmod(0o606)

    def before() -> None:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)

    assert Forked(Job(source, out, tuning=tuning), before=before).wait().error is None
    assert out.stat().st_uid == NOBODY
    assert out.read_bytes() == shuffled()


@as_root
def test_the_group_is_kept_where_the_owner_cannot_be(
    source: Path, out: Path, tuning: dict[str, int]
) -> None:
    group = 5678
    out.parent.chmod(0o777)
    os.chown(out, 1234, group)
    out.chmod(0o660)

    def before() -> None:
        os.setgroups([group])
        os.setgid(NOBODY)
        os.setuid(NOBODY)

    assert Forked(Job(source, out, tuning=tuning), before=before).wait().error is None
    after = out.stat()
    assert (after.st_uid, after.st_gid, mode(out)) == (NOBODY, group, 0o660)


@as_root
def test_no_other_group_gets_the_rights_of_the_old_one(
    source: Path, out: Path, tuning: dict[str, int]
) -> None:
    # The old group cannot be given: then what it was allowed, the new one is not.
    out.parent.chmod(0o777)
    os.chown(out, NOBODY, 5678)
    out.chmod(0o640)

    def before() -> None:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)

    assert Forked(Job(source, out, tuning=tuning), before=before).wait().error is None
    after = out.stat()
    assert after.st_gid == 5678 or not after.st_mode & 0o070


def test_a_link_in_the_same_directory(source: Path, out: Path, tuning: dict[str, int]) -> None:
    link = out.with_name("link")
    link.symlink_to("out")
    Job(source, link, tuning=tuning).run()
    assert os.readlink(link) == "out"
    assert out.read_bytes() == shuffled()
    assert sorted(os.listdir(out.parent)) == ["link", "out"]


def test_a_chain_of_links(disk: Path, source: Path, out: Path, tuning: dict[str, int]) -> None:
    folder = disk / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "second").symlink_to("../../outputs/out")
    (disk / "a" / "first").symlink_to(folder / "second")
    (disk / "folder").symlink_to("a")
    Job(source, disk / "folder" / "first", tuning=tuning).run()
    assert os.readlink(folder / "second") == "../../outputs/out"
    assert (disk / "a" / "first").is_symlink()
    assert out.read_bytes() == shuffled()
    assert os.listdir(out.parent) == ["out"]
    assert os.listdir(folder) == ["second"]


def test_a_dangling_link(disk: Path, source: Path, out: Path, tuning: dict[str, int]) -> None:
    link = disk / "link"
    link.symlink_to("outputs/new")
    Job(source, link, tuning=tuning).run()
    assert link.is_symlink()
    assert (out.parent / "new").read_bytes() == shuffled()
    assert sorted(os.listdir(out.parent)) == ["new", "out"]


def test_a_link_to_an_input(disk: Path, source: Path, tuning: dict[str, int]) -> None:
    link = disk / "link"
    link.symlink_to(source)
    Job([source, link], link, tuning=tuning).run()
    assert link.is_symlink()
    assert source.read_bytes() == shuffled(copies=2)
    assert os.listdir(source.parent) == [source.name]


def test_hard_links_keep_the_old_bytes(source: Path, out: Path, tuning: dict[str, int]) -> None:
    other = out.with_name("other")
    os.link(out, other)
    before = other.stat()
    Job(source, out, tuning=tuning).run()
    after = other.stat()
    assert other.read_bytes() == OLD
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert (after.st_nlink, out.stat().st_nlink) == (1, 1)
    assert out.read_bytes() == shuffled()


def test_a_reader_reads_on(source: Path, out: Path, tuning: dict[str, int]) -> None:
    with out.open("rb") as file:
        assert file.read(4) == OLD[:4]
        Job(source, out, tuning=tuning).run()
        assert file.read() == OLD[4:]


@pytest.mark.parametrize("strategy", ["as planned", "scratch", "rescan"])
@pytest.mark.parametrize("copies", [1, 3])
def test_an_input(source: Path, strategy: str, copies: int, tuning: dict[str, int]) -> None:
    if strategy == "as planned":
        tuning = {"no_tmpfile": tuning.get("no_tmpfile", 0)}
    else:
        tuning = {**tuning, "spill": int(strategy == "scratch")}
    source.chmod(0o640)
    report = Job([source] * copies, source, tuning=tuning).run()
    assert strategy in ("as planned", report.plan.strategy)
    assert source.read_bytes() == shuffled(copies=copies)
    assert mode(source) == 0o640
    assert os.listdir(source.parent) == [source.name]


def test_an_input_with_long_lines(source: Path, tuning: dict[str, int]) -> None:
    long = b"x" * 100_000
    source.write_bytes(LINES + long)
    Job(source, source, tuning=tuning).run()
    assert sorted(source.read_bytes().split(b"\n")) == sorted([*LINES.split(b"\n"), long])


def test_nothing_to_write(source: Path, out: Path, tuning: dict[str, int]) -> None:
    source.write_bytes(b"")
    Job(source, out, tuning=tuning).run()
    assert out.read_bytes() == b""
    assert os.listdir(out.parent) == ["out"]
