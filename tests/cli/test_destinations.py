"""Where the records go: files are replaced, devices and FIFOs are streamed to."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from command import run
from reference import reference_shuffle

LINES = b"one\ntwo\nthree\nfour\n"
SHUFFLED = reference_shuffle([LINES], 5)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in"
    path.write_bytes(LINES)
    return path


def shuffle(source: Path, destination: str | Path, cwd: Path | None = None) -> None:
    done = run("shuffle", "--seed=5", source, "-o", destination, cwd=cwd)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_new_file(source: Path, tmp_path: Path) -> None:
    shuffle(source, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == SHUFFLED
    assert sorted(os.listdir(tmp_path)) == ["in", "out"]


def test_a_relative_name(source: Path, tmp_path: Path) -> None:
    shuffle(source, "out", cwd=tmp_path)
    assert (tmp_path / "out").read_bytes() == SHUFFLED


def test_a_dash_is_a_name_as_in_shuf(source: Path, tmp_path: Path) -> None:
    shuffle(source, "-", cwd=tmp_path)
    assert (tmp_path / "-").read_bytes() == SHUFFLED


def test_an_old_file_keeps_its_mode(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_bytes(b"old")
    out.chmod(0o640)
    shuffle(source, out)
    assert out.read_bytes() == SHUFFLED
    assert stat.S_IMODE(out.stat().st_mode) == 0o640


def test_the_input_itself(source: Path) -> None:
    shuffle(source, source)
    assert source.read_bytes() == SHUFFLED


def test_a_symbolic_link_stays_and_its_target_is_replaced(source: Path, tmp_path: Path) -> None:
    folder, link = tmp_path / "folder", tmp_path / "link"
    folder.mkdir()
    (folder / "target").write_bytes(b"old")
    link.symlink_to("folder/target")
    shuffle(source, link)
    assert link.is_symlink()
    assert (folder / "target").read_bytes() == SHUFFLED
    assert os.listdir(folder) == ["target"]


def test_dots_after_a_linked_directory_go_up_from_its_target(source: Path, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a/b")
    shuffle(source, "link/../out", cwd=tmp_path)
    assert (tmp_path / "a" / "out").read_bytes() == SHUFFLED


def test_a_fifo_is_streamed_to(source: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(fifo.read_bytes()))
    reader.start()
    shuffle(source, fifo)
    reader.join()
    assert received == [SHUFFLED]
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_a_device_is_streamed_to(source: Path) -> None:
    shuffle(source, "/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
