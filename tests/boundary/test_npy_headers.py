"""Arrays as inputs: what the core is told of them, and which are refused."""

from __future__ import annotations

import errno
import io
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from numpy.lib import format as npy

from corekit._paths import Descriptor
from corekit.errors import InputFormatError, InvalidArgumentError, MissingFileError
from corekit.shuffle import _call, shuffle_aligned, shuffle_files
from corekit.shuffle._job import Job


def encoded(array: npt.NDArray[Any], version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    npy.write_array(file, array, version=version)
    return file.getvalue()


def written(text: str, data: bytes, version: int = 1) -> bytes:
    """Return a file with a header of one's own."""
    raw = text.encode("utf-8" if version == 3 else "latin-1")
    length = struct.pack("<H" if version == 1 else "<I", len(raw))
    return b"\x93NUMPY" + bytes([version, 0]) + length + raw + data


def rendered(job: Job, n: int) -> bytes:
    """Return the header that the core writes for n rows: NumPy's way of padding."""
    npy_job = job["npy"]
    assert npy_job is not None
    text = npy_job["before"] + b"%d" % n + npy_job["after"]
    text += b" " * (21 - len(str(n)))
    padding = 64 - (10 + len(text) + 1) % 64
    raw = text + b" " * padding + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(raw)) + raw


@pytest.fixture
def save(tmp_path: Path) -> Callable[[str, bytes | npt.NDArray[Any]], Path]:
    def save(name: str, content: bytes | npt.NDArray[Any]) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else encoded(content))
        return path

    return save


Save = Callable[[str, Any], Path]

ARRAYS: dict[str, npt.NDArray[Any]] = {
    "vector": np.arange(5, dtype=np.int16),
    "matrix": np.zeros((7, 3), dtype=np.float32),
    "cube": np.zeros((2, 3, 4), dtype=">i8"),
    "empty": np.zeros((0, 3)),
    "text": np.array(["a", "bcd"]),
    "bytes": np.zeros((3, 2), dtype="S5"),
    "dates": np.zeros(3, dtype="M8[s]"),
    "records": np.zeros(3, dtype=[("x", "<f4"), ("y", "<i8", (2,))]),
    "padded": np.zeros(3, dtype=np.dtype([("x", "i1"), ("y", "i8")], align=True)),
    "one column": np.zeros((4, 1)),
}


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_an_array_is_rows(
    jobs: list[Job], save: Save, tmp_path: Path, name: str, version: tuple[int, int]
) -> None:
    array = ARRAYS[name]
    content = encoded(array, version)
    shuffle_files(save("in.npy", content), tmp_path / "out.npy")
    (job,) = jobs
    assert job["npy"] is not None
    assert job["record_bytes"] == array[:1].nbytes or array.size == 0
    assert job["record_bytes"] == array.dtype.itemsize * int(np.prod(array.shape[1:]))
    assert job["npy"]["starts"] == [len(content) - array.nbytes]
    assert (job["delimiter"], job["input_format"], job["header"]) == (b"\n", "raw", 0)
    # With the number of rows in the gap it is NumPy's own header, byte for byte.
    assert rendered(job, len(array)) + array.tobytes() == encoded(array, (1, 0))
    more = rendered(job, 10**12)
    assert len(more) == len(rendered(job, 0))
    assert npy.read_array_header_1_0(io.BytesIO(more[8:]))[0] == (10**12, *array.shape[1:])


@pytest.mark.filterwarnings("ignore:Stored array in format 3.0")
def test_names_that_are_not_latin_are_kept(jobs: list[Job], save: Save, tmp_path: Path) -> None:
    array = np.zeros(3, dtype=[("größe 世界\\", "<f4"), ("'", "<i8")])
    content = encoded(array, (3, 0))
    shuffle_files(save("in.npy", content), tmp_path / "out")
    (job,) = jobs
    assert job["npy"] is not None
    assert job["npy"]["starts"] == [len(content) - array.nbytes]
    assert job["npy"]["before"].isascii()
    found = np.load(io.BytesIO(rendered(job, 3) + array.tobytes()))
    assert found.dtype == array.dtype


def test_the_text_is_a_dictionary_and_not_the_magic(
    jobs: list[Job], save: Save, tmp_path: Path
) -> None:
    shuffle_files(save("in.npy", ARRAYS["matrix"]), tmp_path / "out")
    assert jobs[0]["npy"] is not None
    assert jobs[0]["npy"]["before"] == b"{'descr': '<f4', 'fortran_order': False, 'shape': ("
    assert jobs[0]["npy"]["after"] == b", 3), }"


def test_several_arrays_of_one_kind(jobs: list[Job], save: Save, tmp_path: Path) -> None:
    first = save("a.npy", np.zeros((3, 2), dtype="<f4"))
    second = save("b.npy", encoded(np.zeros((9, 2), dtype="<f4"), (2, 0)))
    shuffle_files([first, second, first], tmp_path / "out", input_format="npy")
    assert jobs[0]["npy"] is not None
    assert jobs[0]["npy"]["starts"] == [128, second.stat().st_size - 72, 128]


def test_aligned_arrays_may_differ(jobs: list[Job], save: Save, tmp_path: Path) -> None:
    arrays = [np.zeros((3, 2), dtype="<f4"), np.zeros((3, 5, 1), dtype=">i8"), np.array(["a"] * 3)]
    inputs = [save(f"{number}.npy", array) for number, array in enumerate(arrays)]
    shuffle_aligned(inputs, [tmp_path / name for name in "abc"])
    assert [job["record_bytes"] for job in jobs] == [8, 40, 4]
    for job, array in zip(jobs, arrays, strict=True):
        assert job["npy"] is not None
        assert job["npy"]["starts"] == [len(encoded(array)) - array.nbytes]
        assert rendered(job, 3) + array.tobytes() == encoded(array)


def test_aligned_arrays_and_texts(jobs: list[Job], save: Save, tmp_path: Path) -> None:
    array, text = save("a.npy", ARRAYS["matrix"]), save("text", b"a\n")
    outputs = [tmp_path / "c", tmp_path / "d"]
    shuffle_aligned([text, array], outputs)
    assert [job["npy"] is None for job in jobs] == [True, False]
    assert [job["record_bytes"] for job in jobs] == [None, 12]
    with pytest.raises(InputFormatError, match=r"is not a \.npy file") as caught:
        shuffle_aligned([array, text], outputs, input_format="npy")
    assert caught.value.filename == str(text)
    assert len(jobs) == 2


@pytest.mark.parametrize("input_format", ["raw", "gzip", "zstd"])
def test_bytes_are_bytes_when_one_says_so(
    jobs: list[Job], save: Save, tmp_path: Path, input_format: Any
) -> None:
    source = save("in.npy", ARRAYS["matrix"])
    shuffle_files(source, tmp_path / "out", input_format=input_format, record_bytes=2)
    assert (jobs[0]["npy"], jobs[0]["record_bytes"]) == (None, 2)
    assert jobs[0]["input_format"] == input_format


@pytest.mark.parametrize("content", [b"", b"a\n", b"\x93NUMP", b"\x93numpy"])
def test_others_are_left_to_the_core(
    jobs: list[Job], save: Save, tmp_path: Path, content: bytes
) -> None:
    shuffle_files([save("in", content), tmp_path / "missing"], tmp_path / "out", header=1)
    assert (jobs[0]["npy"], jobs[0]["input_format"]) == (None, "auto")
    assert (jobs[0]["delimiter"], jobs[0]["record_bytes"]) == (b"\n", None)


VECTOR = "{'descr': '<i2', 'fortran_order': False, 'shape': (2,), }\n"
HEADER = encoded(np.arange(2, dtype=np.int16))

WRONG = {
    "objects": (encoded(np.array([None, 1])), "Python objects"),
    "a scalar": (encoded(np.array(1.0)), "no rows"),
    "Fortran order": (encoded(np.asfortranarray(np.zeros((3, 2)))), "Fortran order"),
    "no bytes a row": (encoded(np.zeros((3, 0))), "zero bytes"),
    "empty strings": (encoded(np.zeros(3, dtype="V0")), "zero bytes"),
    "too short": (HEADER[:-1], "has 3 bytes of data, but its header says 2 rows of 2 bytes"),
    "too long": (HEADER + b"x", "has 5 bytes of data"),
    "only the magic": (b"\x93NUMPY", "version"),
    "half a length": (b"\x93NUMPY\x01\x00v", "ends within its header"),
    "half a header": (HEADER[:50], "ends within its header"),
    "a later version": (b"\x93NUMPY\x04\x00" + HEADER[8:], "version"),
    "a huge header": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "header of more than"),
    "not a dictionary": (written("3\n", b""), "NumPy cannot read"),
    "no text": (written("\xff{{\n", b""), "NumPy cannot read"),
    "brackets": (written("(" * 5000, b""), "NumPy cannot read"),
    "other keys": (written("{'descr': '<i2'}", b""), "NumPy cannot read"),
    "no such type": (written(VECTOR.replace("<i2", "<q9"), b"1234"), "NumPy cannot read"),
    "a strange type": (written(VECTOR.replace("'<i2'", "[()]"), b"1234"), "NumPy cannot read"),
    "arrays in arrays": (
        written(VECTOR.replace("'<i2'", "('<i1', (2,))"), b"1234"),
        "arrays themselves",
    ),
    "negative lengths": (
        written(VECTOR.replace("(2,)", "(-2, -1)"), b"1234"),
        "impossible shape",
    ),
    "not UTF-8": (b"\x93NUMPY\x03\x00\x01\x00\x00\x00\xff", "NumPy cannot read"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("input_format", ["auto", "npy"])
def test_arrays_that_are_refused(
    jobs: list[Job], save: Save, tmp_path: Path, case: str, input_format: Any
) -> None:
    content, told = WRONG[case]
    source = save("in.npy", content)
    with pytest.raises(InputFormatError, match=told) as caught:
        shuffle_files(source, tmp_path / "out", input_format=input_format)
    assert caught.value.errno == errno.EBADMSG
    assert caught.value.filename == str(source)
    assert not jobs
    assert os.listdir(tmp_path) == ["in.npy"]


@pytest.mark.parametrize(
    "other",
    [
        np.zeros((3, 2), dtype=np.float64),
        np.zeros((3, 2), dtype=">f4"),
        np.zeros((3, 3), dtype=np.float32),
        np.zeros(3, dtype=np.float32),
        np.zeros((3, 2, 1), dtype=np.float32),
    ],
)
def test_arrays_of_two_kinds(
    jobs: list[Job], save: Save, tmp_path: Path, other: npt.NDArray[Any]
) -> None:
    first, second = save("a.npy", np.zeros((9, 2), dtype=np.float32)), save("b.npy", other)
    with pytest.raises(InputFormatError, match=r"has rows of .*, shape .*, but .*") as caught:
        shuffle_files([first, second], tmp_path / "out")
    assert caught.value.filename == str(second)
    assert str(first) in str(caught.value)
    assert not jobs


def test_arrays_among_others(jobs: list[Job], save: Save, tmp_path: Path) -> None:
    array, text = save("a.npy", ARRAYS["matrix"]), save("text", b"a\n")
    for inputs in ([array, text], [text, array]):
        with pytest.raises(InputFormatError, match="mixed kinds") as caught:
            shuffle_files(inputs, tmp_path / "out")
        assert caught.value.filename == str(text)
        assert str(array) in str(caught.value)
    with pytest.raises(InputFormatError, match=r"is not a \.npy file") as caught:
        shuffle_files([array, text], tmp_path / "out", input_format="npy")
    assert caught.value.filename == str(text)
    with pytest.raises(MissingFileError):
        shuffle_files([tmp_path / "missing", array], tmp_path / "out")
    assert not jobs


def test_a_missing_array(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError) as caught:
        shuffle_files(tmp_path / "missing", tmp_path / "out", input_format="npy")
    assert caught.value.filename == str(tmp_path / "missing")


def test_a_compressed_array_is_none(save: Save, tmp_path: Path) -> None:
    import gzip

    source = save("in.npy.gz", gzip.compress(encoded(ARRAYS["matrix"])))
    with pytest.raises(InputFormatError, match=r"is not a \.npy file"):
        shuffle_files(source, tmp_path / "out", input_format="npy")


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"header": 1}, "header"),
        ({"record_bytes": 4}, "record_bytes"),
        ({"delimiter": b"\0"}, "delimiter"),
    ],
)
@pytest.mark.parametrize("input_format", ["auto", "npy"])
def test_options_that_say_otherwise(
    save: Save, tmp_path: Path, options: Any, name: str, input_format: Any
) -> None:
    source = save("in.npy", ARRAYS["matrix"])
    with pytest.raises(InvalidArgumentError, match=rf"^{name} must .*npy.*, got "):
        shuffle_files(source, tmp_path / "out", input_format=input_format, **options)


def test_a_pipe_is_not_waited_for(jobs: list[Job], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    before = set(threading.enumerate())
    shuffle_files(tmp_path / "fifo", tmp_path / "out")
    with pytest.raises(InputFormatError, match="not a regular file"):
        shuffle_files(tmp_path / "fifo", tmp_path / "out", input_format="npy")
    assert len(jobs) == 1
    assert set(threading.enumerate()) <= before


def test_a_descriptor_is_no_array_and_is_left_where_it_is(
    jobs: list[Job], save: Save, tmp_path: Path
) -> None:
    with save("in.npy", ARRAYS["matrix"]).open("rb") as file:
        descriptor = Descriptor(file.fileno())
        with pytest.raises(InvalidArgumentError, match=r"^inputs\[0\] must be the path .*, got "):
            _call.run([descriptor], tmp_path / "out", input_format="npy")
        with pytest.raises(InputFormatError, match=r"is a \.npy file") as caught:
            _call.run([descriptor], tmp_path / "out")
        assert caught.value.filename == f"/dev/fd/{descriptor:d}"
        assert os.lseek(descriptor, 0, os.SEEK_CUR) == 0
        _call.run([descriptor], tmp_path / "out", input_format="raw")
        os.lseek(descriptor, 1, os.SEEK_SET)
        _call.run([descriptor], tmp_path / "out")
    assert [job["npy"] for job in jobs] == [None, None]


def test_numpy_is_imported_for_arrays_only(save: Save, tmp_path: Path) -> None:
    script = (
        "import sys; from corekit import errors; from corekit.shuffle import _job\n"
        "for source in sys.argv[1:]:\n"
        "    _job.prepare(source, 'out'); print('numpy' in sys.modules)\n"
    )
    sources = [save("text", b"a\n"), save("in.npy", ARRAYS["matrix"])]
    done = subprocess.run(
        [sys.executable, "-c", script, *sources], capture_output=True, check=True, cwd=tmp_path
    )
    assert done.stdout == b"False\nTrue\n"
