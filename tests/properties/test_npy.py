"""The promise: arrays come out as arrays that `numpy.load` reads, of whole rows."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corekit.errors import InputFormatError, InvalidArgumentError
from corekit.shuffle import _call, permutation, shuffle_files
from properties.engine import TINY
from properties.formats import PLANS, SHAPES, Array, Shape, arrays, check, encoded
from properties.inputs import SEEDS, tunings
from reference import reference_order

DTYPES = [
    *("?", "i1", "<u2", ">i4", "<i8", ">u8", "<f2", ">f4", "<f8", "<c8", ">c16"),
    *("S5", "<U3", ">U2", "V7", "M8[ns]", ">m8[D]", "<f4,(2,)>i2", "i1,<f8"),
]


def made(n: int, dtype: str, shape: tuple[int, ...] = ()) -> Array:
    """Return rows of bytes that are all different, mostly."""
    kind = np.dtype(dtype)
    size = kind.itemsize * int(np.prod((n, *shape)))
    words = np.arange(size // 4 + 1, dtype=np.uint32) * np.uint32(2654435761)
    data = words.tobytes()[:size]
    if kind.kind == "b":
        data = bytes(byte & 1 for byte in data)
    if kind.kind == "U":
        small = np.frombuffer(data, "u4") % 0x3FF
        data = small.astype(kind.byteorder + "u4").tobytes()
    return np.frombuffer(data, kind).reshape(n, *shape)


def load(path: Path) -> Array:
    array: Array = np.load(path)
    raw = path.read_bytes()
    (length,) = struct.unpack("<H", raw[8:10])
    assert (10 + length) % 64 == 0
    assert raw[:8] == b"\x93NUMPY\x01\x00"
    assert len(raw) == 10 + length + array.nbytes
    return array


def joined(parts: Sequence[Array]) -> Array:
    """Return parts as one; `numpy.concatenate` would change the order of their bytes."""
    first = parts[0]
    data = b"".join(part.tobytes() for part in parts)
    return np.frombuffer(data, first.dtype).reshape(-1, *first.shape[1:])


def same(one: Array, two: Array) -> bool:
    return (one.dtype, one.shape, one.tobytes()) == (two.dtype, two.shape, two.tobytes())


@pytest.mark.parametrize("shape", [(), (3,), (2, 5), (1, 1, 1)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_every_type_and_shape(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    array = made(301, dtype, shape)
    (tmp_path / "in.npy").write_bytes(encoded(array))
    order = permutation(301, seed=1)
    shuffle_files(tmp_path / "in.npy", tmp_path / "out.npy", seed=1)
    assert same(load(tmp_path / "out.npy"), array[order])
    # Through blocks that are too small for it, and one file of several.
    report = _call.run(
        tmp_path / "in.npy", tmp_path / "part-{index}.npy", seed=1, shards=2, tuning=TINY
    )
    one, two = (load(Path(file.path)) for file in report.files)
    assert same(joined([one, two]), array[order])


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_output(shape: str, plan: str) -> None:
    source = arrays([made(900, "<f4", (13,)), made(0, "<f4", (13,)), made(7, "<f4", (13,))])
    check(source, SHAPES[shape], 2, tuning=PLANS[plan])


def test_parts_load_as_arrays(tmp_path: Path) -> None:
    array = made(500, ">i4", (2, 3))
    (tmp_path / "in.npy").write_bytes(encoded(array))
    order = permutation(500, seed=3)

    def run(name: str, **options: Any) -> list[Array]:
        report = shuffle_files(tmp_path / "in.npy", tmp_path / name, seed=3, **options)
        assert report.bytes == report.output_size
        return [load(Path(file.path)) for file in report.files] or [load(tmp_path / name)]

    assert same(run("sample.npy", sample=7)[0], array[order[:7]])
    assert same(run("none.npy", sample=0)[0], array[:0])
    (half,) = run("half.npy", fraction="0.5")
    assert same(half, array[order[: len(half)]])
    assert same(joined(run("shard{index}.npy", shards=3)), array[order])
    assert same(joined(run("rows{index}.npy", shard_records=99)), array[order])
    assert same(joined(run("bytes{index}.npy", shard_bytes=1000)), array[order])
    assert same(joined(run("split-{split}.npy", splits={"a": 0.1, "b": 0.9})), array[order])
    again = array[permutation(500, seed=3, epoch=1)]
    assert same(run("twice.npy", epochs=2)[0], joined([array[order], again]))
    zero, one = run("e{epoch}.npy", epochs=2)
    assert same(zero, array[order])
    assert same(one, again)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (0, 2, 2)])
def test_no_rows(tmp_path: Path, shape: tuple[int, ...]) -> None:
    empty = np.empty(shape, dtype=">f8")
    (tmp_path / "in.npy").write_bytes(encoded(empty))
    for inputs in ([tmp_path / "in.npy"], [tmp_path / "in.npy"] * 3):
        report = shuffle_files(inputs, tmp_path / "out.npy", seed=4)
        assert (tmp_path / "out.npy").read_bytes() == encoded(empty)
        assert report.records == 0
    shuffle_files(tmp_path / "in.npy", tmp_path / "{index}.npy", shards=2)
    assert same(load(tmp_path / "1.npy"), empty)


@given(
    counts=st.lists(st.integers(0, 400), min_size=1, max_size=3),
    dtype=st.sampled_from(DTYPES),
    row=st.lists(st.integers(1, 5), max_size=3),
    shape=st.sampled_from(list(SHAPES.values())),
    seed=SEEDS,
    tuning=st.none() | tunings(),
)
def test_any(
    counts: list[int],
    dtype: str,
    row: list[int],
    shape: Shape,
    seed: int,
    tuning: Mapping[str, int] | None,
) -> None:
    given_arrays = [made(n, dtype, tuple(row)) for n in counts]
    small = Shape(**{**vars(shape), "shard_bytes": shape.shard_bytes and 1000})
    check(arrays(given_arrays), small, seed, tuning=tuning)


def test_several_arrays_are_one(tmp_path: Path) -> None:
    one, two = made(40, "<i8", (2,)), made(60, "<i8", (2,))
    (tmp_path / "a").write_bytes(encoded(one))
    (tmp_path / "b").write_bytes(encoded(two))
    shuffle_files([tmp_path / "a", tmp_path / "b"], tmp_path / "out", seed=5)
    order = reference_order([40, 60], 5)
    assert same(load(tmp_path / "out"), joined([one, two])[order])
    # In place, too.
    shuffle_files([tmp_path / "a", tmp_path / "b"], tmp_path / "a", seed=5)
    assert same(load(tmp_path / "a"), joined([one, two])[order])


REFUSED: Mapping[str, bytes] = {
    "Fortran order": encoded(np.asfortranarray(made(4, "<i4", (3,)))),
    "Python objects": encoded(np.array([None, 1])),
    "no rows": encoded(np.array(1.0)),
    "zero bytes": encoded(np.zeros((3, 0))),
    "its header says": encoded(made(4, "<i4", (3,)))[:-1],
}


@pytest.mark.parametrize("how", REFUSED)
def test_refusals_leave_everything(tmp_path: Path, how: str) -> None:
    (tmp_path / "in.npy").write_bytes(REFUSED[how])
    (tmp_path / "out.npy").write_bytes(b"before")
    with pytest.raises(InputFormatError, match=how) as caught:
        shuffle_files(tmp_path / "in.npy", tmp_path / "out.npy")
    assert caught.value.filename == str(tmp_path / "in.npy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.npy", "out.npy"]
    assert (tmp_path / "out.npy").read_bytes() == b"before"


def test_arrays_in_pipes_and_other_words_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in.npy").write_bytes(encoded(made(4, "<i4")))
    for options in ({"header": 1}, {"record_bytes": 4}, {"delimiter": b"\0"}):
        with pytest.raises(InvalidArgumentError, match=next(iter(options))):
            shuffle_files(tmp_path / "in.npy", tmp_path / "out", **options)
    with pytest.raises(InputFormatError, match="not a regular file"):
        shuffle_files("/dev/null", tmp_path / "out", input_format="npy")
    # As bytes they are bytes.
    shuffle_files(tmp_path / "in.npy", tmp_path / "out", input_format="raw", record_bytes=1)
    assert sorted((tmp_path / "out").read_bytes()) == sorted((tmp_path / "in.npy").read_bytes())
