"""Where scratch goes when nobody says: beside the output, for streams to disk."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from corekit.errors import MissingFileError, NotDirectoryError
from corekit.shuffle import _scratch

MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 {device} / / rw,relatime shared:1 - {kind} /dev/vda rw,discard
"""


def test_beside_the_output(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path)
    assert _scratch.directory(None, path + b"/out") == os.path.realpath(path)


def test_beside_the_target_of_a_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/out")
    expected = os.fsencode(os.path.realpath(tmp_path / "folder"))
    assert _scratch.directory(None, os.fsencode(tmp_path / "link")) == expected


@pytest.mark.parametrize("pattern", [b"/x-{index}.txt", b"/{split}/{epoch:02}/x", b"/{index:05}"])
def test_in_the_directory_that_holds_a_whole_set(tmp_path: Path, pattern: bytes) -> None:
    path = os.fsencode(tmp_path)
    assert _scratch.directory(None, path + pattern, pattern=True) == os.path.realpath(path)


def test_a_brace_that_is_no_field_is_a_part_of_a_name(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path / "a{b}")
    os.mkdir(path)
    assert _scratch.directory(None, path + b"/{index}", pattern=True) == os.path.realpath(path)
    assert _scratch.directory(None, path + b"/{index}/x") == os.path.realpath(path + b"/{index}")


def test_a_directory_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "none").mkdir()
    expected = os.fsencode(os.path.join(os.getcwd(), "./none"))
    assert _scratch.directory("./none", b"/out") == expected
    assert _scratch.directory(Path("none"), b"/out") == os.fsencode(Path.cwd() / "none")


def test_none_is_the_word_for_no_scratch() -> None:
    assert _scratch.directory("none", b"/out") is None


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        _scratch.directory(tmp_path / "missing", b"/out")
    (tmp_path / "file").touch()
    with pytest.raises(NotDirectoryError):
        _scratch.directory(tmp_path / "file", b"/out")


@pytest.mark.parametrize("output", [1, b"/dev/null"])
def test_streams_use_the_temporary_directory(
    output: int | bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(_scratch, "_file_system", lambda path: "ext4")
    assert _scratch.directory(None, output) == os.fsencode(tmp_path)


def test_a_fifo_is_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.setattr(_scratch, "_temporary", lambda: b"/temporary")
    assert _scratch.directory(None, os.fsencode(tmp_path / "fifo")) == b"/temporary"


def test_a_temporary_directory_in_memory_is_avoided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/in-memory")
    kinds = {"/in-memory": "tmpfs", "/var/tmp": "ext4"}
    monkeypatch.setattr(_scratch, "_file_system", kinds.get)
    assert _scratch.directory(None, 1) == b"/var/tmp"
    kinds["/var/tmp"] = "tmpfs"
    assert _scratch.directory(None, 1) == b"/in-memory"


def test_a_system_without_any_temporary_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(tempfile, "gettempdir", missing)
    assert _scratch.directory(None, 1) is None


def test_the_file_system_is_found_by_its_device_number(tmp_path: Path) -> None:
    device = tmp_path.stat().st_dev
    table = tmp_path / "mountinfo"
    table.write_text(MOUNTS.format(device=f"{os.major(device)}:{os.minor(device)}", kind="tmpfs"))
    assert _scratch._file_system(str(tmp_path), str(table)) == "tmpfs"
    table.write_text(MOUNTS.format(device="999999:1", kind="tmpfs"))
    assert _scratch._file_system(str(tmp_path), str(table)) is None
    assert _scratch._file_system(str(tmp_path), str(tmp_path / "missing")) is None
    assert _scratch._file_system("/proc") == "proc"
