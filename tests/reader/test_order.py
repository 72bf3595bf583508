"""The promise: a reader gives the records that the formula gives, in its order, all of them.

Whatever the inputs are, wherever the records wait, however they are asked for: one by
one or many at a time, by one reader or by several that share the order.
"""

from __future__ import annotations

import importlib.util
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from corekit.errors import ArgumentTypeError, InvalidArgumentError
from corekit.shuffle import RecordBatch, ShuffledReader, shuffle_files
from properties.engine import disk as real_disk
from properties.formats import Source, arrays, delimited, fixed
from reader.runs import PLANS, expected, joined, open_reader, share, text_order
from reference import split_records

Step = tuple[str, int]


@st.composite
def sources(draw: st.DrawFn) -> Source:
    """Inputs of every kind."""
    encoding = draw(st.sampled_from(["raw", "raw", "gzip", "zstd"]))
    cuts = draw(st.lists(st.integers(0, 5000), max_size=3))
    kind = draw(st.sampled_from(["delimited", "fixed", "arrays"]))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    counts = draw(st.lists(st.integers(0, 400), min_size=1, max_size=3))
    if kind == "arrays":
        row = draw(st.sampled_from([(), (1,), (3,), (2, 5)]))
        dtype = draw(st.sampled_from(["<u1", "<i4", "<f8"]))
        return arrays([rng.integers(0, 200, (n, *row)).astype(dtype) for n in counts])
    if kind == "fixed":
        size = draw(st.sampled_from([1, 7, 16, 300]))
        head = rng.bytes(size) if draw(st.booleans()) else b""
        texts = [rng.bytes(n * size) for n in counts]
        return fixed(texts, size, encoding=encoding, cuts=cuts, head=head)
    delimiter = draw(st.sampled_from([b"\n", b"\0", b"ab", b"<=>\n"]))
    longest = draw(st.sampled_from([0, 5, 60, 500]))
    texts = []
    for n in counts:
        lengths = rng.integers(0, longest, n, endpoint=True)
        text = delimiter.join(bytes(rng.choice(list(b"abcxyz"), length)) for length in lengths)
        texts.append(text + delimiter * draw(st.integers(0, 1)))
    heads = draw(st.sampled_from([(), (b"top",), (b"top", b"", b"x" * 100)]))
    return delimited(texts, delimiter=delimiter, encoding=encoding, cuts=cuts, head=heads)


STEPS = st.lists(st.tuples(st.sampled_from(["iter", "batches"]), st.integers(1, 300)), max_size=6)


def read(reader: ShuffledReader, steps: Sequence[Step]) -> list[bytes]:
    """Read in such steps, then the rest."""
    found: list[bytes] = []
    for way, n in steps:
        if way == "iter":
            found += islice(reader, n)
        else:
            found += joined(islice(reader.iter_batches(n), 2))
        assert reader.position == len(found)
    for batch in reader.iter_batches(100):
        found += batch
    return found


@given(
    source=sources(),
    plan=st.sampled_from(list(PLANS)),
    page=st.sampled_from([64, 128, 4096]),
    pretended=st.sampled_from([None, None, 1, 100, 10**9]),
    scratch=st.booleans(),
    seed=st.integers(0, 2**128 - 1),
    epoch=st.sampled_from([0, 1, 2**32 - 1]),
    world=st.integers(1, 5),
    steps=STEPS,
)
@example(
    source=delimited([b"", b""]),
    plan="memory",
    page=64,
    pretended=None,
    scratch=False,
    seed=1,
    epoch=0,
    world=3,
    steps=[("iter", 1)],
)
def test_the_formula(
    source: Source,
    plan: str,
    page: int,
    pretended: int | None,
    scratch: bool,
    seed: int,
    epoch: int,
    world: int,
    steps: Sequence[Step],
) -> None:
    order = expected(source.records, seed, epoch)
    tuning = {**PLANS[plan], "page": page}
    if pretended is not None:
        tuning["records"] = pretended
    with tempfile.TemporaryDirectory(dir=real_disk()) as folder:
        paths = [Path(folder, f"in{number}") for number in range(len(source.inputs))]
        for path, data in zip(paths, source.inputs, strict=True):
            path.write_bytes(data)
        for rank in range(world):
            reader = open_reader(
                paths,
                tuning,
                seed=seed,
                epoch=epoch,
                rank=rank,
                world_size=world,
                # Without scratch, what cannot be kept is read again.
                scratch=folder if scratch or plan == "scratch" else "none",
                **source.options,
            )
            with reader:
                found = read(reader, steps)
                assert reader.records == len(order)
            assert found == share(order, rank, world), f"rank {rank} of {world}"


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("pretended", [0, 1, 10**6])
def test_ranks_are_disjoint_complete_and_in_order(
    source: Path, scratch: Path, plan: str, pretended: int
) -> None:
    tuning = {**PLANS[plan], "records": pretended} if pretended else PLANS[plan]
    for world in (2, 7):
        found: list[bytes] = []
        for rank in range(world):
            with open_reader(source, tuning, rank=rank, world_size=world, scratch=scratch) as one:
                found += one
        assert found == text_order()


def test_more_ranks_than_records(disk: Path) -> None:
    path = disk / "few"
    path.write_bytes(b"a\nb\nc\n")
    ranks = [list(ShuffledReader(path, seed=4, rank=rank, world_size=8)) for rank in range(8)]
    assert joined(ranks) == expected([[b"a", b"b", b"c"]], 4)
    assert [len(records) for records in ranks] == [0, 0, 1, 0, 0, 1, 0, 1]
    last = ShuffledReader(path, seed=4, rank=2**32 - 2, world_size=2**32 - 1)
    assert len(list(last)) == 1


@pytest.mark.parametrize("plan", [*PLANS, None])
def test_the_file_that_a_shuffle_writes(
    source: Path, disk: Path, scratch: Path, plan: str | None
) -> None:
    shuffle_files([source, source], disk / "out", seed=2**77)
    written = split_records((disk / "out").read_bytes())
    tuning = None if plan is None else PLANS[plan]
    with open_reader([source, source], tuning, seed=2**77, scratch=scratch) as reader:
        assert list(reader) == written


def test_real_sizes(disk: Path, scratch: Path) -> None:
    path = disk / "large"
    data = b"".join(b"%d\n" % number for number in range(500_000))
    path.write_bytes(data)
    order = expected([split_records(data)], 3)
    for rank, size in [(0, 100_000), (2, 777)]:
        reader = ShuffledReader(
            path, seed=3, rank=rank, world_size=3, memory_limit="32MiB", scratch=scratch
        )
        with reader:
            assert joined(reader.iter_batches(size)) == share(order, rank, 3)


def test_epochs(source: Path) -> None:
    reader = open_reader(source, PLANS["memory"])
    assert list(islice(reader, 10)) == text_order()[:10]
    for epoch in (0, 1, np.int64(7), 2**32 - 1):
        reader.set_epoch(int(epoch))
        assert reader.position == 0
        assert list(reader) == text_order(epoch=int(epoch))
    # One that is being iterated over goes to the new beginning.
    reader.set_epoch(1)
    iterator = iter(reader)
    next(iterator)
    reader.set_epoch(2)
    assert next(iterator) == text_order(epoch=2)[0]
    with pytest.raises(InvalidArgumentError):
        reader.set_epoch(2**32)
    with pytest.raises(ArgumentTypeError):
        reader.set_epoch(1.0)  # type: ignore[arg-type]
    assert next(iterator) == text_order(epoch=2)[1]


def test_the_end_is_the_end(source: Path) -> None:
    reader = open_reader(source, PLANS["scratch"])
    iterator = iter(reader)
    n = len(list(iterator))
    assert reader.position == n == reader.records
    for more in (iterator, reader, reader.iter_batches(3)):
        assert list(more) == []
    reader.close()
    assert list(reader) == []
    assert reader.position == n


def test_sizes_of_batches(source: Path) -> None:
    with open_reader(source, PLANS["memory"]) as reader:
        assert [len(batch) for batch in reader.iter_batches(400)] == [400] * 7 + [200]
        reader.set_epoch(0)
        next(iter(reader))  # has fetched more than a batch, or than several
        assert [len(batch) for batch in reader.iter_batches(999)] == [999] * 3 + [2]
    for wrong in (0, -1, 2**48):
        with pytest.raises(InvalidArgumentError):
            open_reader(source).iter_batches(wrong)  # refused at once, not when iterated over
    with pytest.raises(ArgumentTypeError):
        open_reader(source).iter_batches("2")  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [2**31, 2**47])
def test_a_batch_of_everything(source: Path, size: int) -> None:
    # In a process of its own: what is reserved for so many records may be refused.
    program = (
        "import sys; from corekit.shuffle import ShuffledReader\n"
        "reader = ShuffledReader(sys.argv[1], seed=1)\n"
        "print([len(batch) for batch in reader.iter_batches(int(sys.argv[2]))])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, source, str(size)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[3000]\n", "")


@pytest.mark.parametrize(
    "wrong",
    [
        {"rank": 1},
        {"rank": -1},
        {"rank": 2, "world_size": 2},
        {"world_size": 0},
        {"epoch": -1},
        {"epoch": 2**32},
        {"seed": 2**128},
        {"seed": -1},
        {"threads": 0},
        {"memory_limit": "x"},
        {"delimiter": b""},
        {"record_bytes": 0},
    ],
)
def test_wrong_arguments_are_refused_at_once(source: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        ShuffledReader(source, **{"seed": 1, **wrong})
    with pytest.raises(TypeError):
        ShuffledReader(source)  # type: ignore[call-arg]  # a seed for each process is none


@pytest.fixture
def batch(source: Path) -> RecordBatch:
    """The first hundred records; their reader is closed."""
    with open_reader(source, PLANS["memory"]) as reader:
        return next(reader.iter_batches(100))


def test_a_batch_is_a_sequence(batch: RecordBatch) -> None:
    records = text_order()[:100]
    assert len(batch) == 100
    assert batch.tolist() == list(batch) == records
    assert [batch[i] for i in range(100)] == records
    assert [batch[i] for i in range(-100, 0)] == records
    assert batch[np.int64(3)] == records[3]  # type: ignore[index]
    for wrong in (100, -101, 2**40):
        with pytest.raises(IndexError):
            batch[wrong]
    with pytest.raises(ArgumentTypeError):
        batch["1"]  # type: ignore[index]
    assert repr(batch) == f"RecordBatch(100 records, {sum(map(len, records))} bytes)"


def test_the_arrays_of_a_batch(batch: RecordBatch) -> None:
    records = text_order()[:100]
    assert batch.data.dtype == np.dtype("u1")
    assert batch.offsets.dtype == np.dtype("i8")
    assert batch.data.ndim == batch.offsets.ndim == 1
    assert batch.data.tobytes() == b"".join(records)
    assert np.diff(batch.offsets).tolist() == [len(record) for record in records]
    assert batch.offsets[0] == 0
    assert batch.data.flags.c_contiguous


def test_batches_are_alike_however_they_came(source: Path) -> None:
    # The first record fetches more, and a batch has those and others behind them.
    with open_reader(source, PLANS["memory"]) as reader:
        plain = next(reader.iter_batches(10))
        next(iter(reader))
        mixed, crossing = islice(reader.iter_batches(800), 2)
        assert mixed.tolist() + crossing.tolist() == text_order()[11:1611]
    for array in ("data", "offsets"):
        one, *others = [getattr(found, array) for found in (plain, mixed, crossing)]
        for other in others:
            assert other.dtype == one.dtype
            assert other.flags.writeable == one.flags.writeable


def test_a_batch_is_its_owner_s(source: Path) -> None:
    with open_reader(source, PLANS["scratch"]) as reader:
        batches = list(reader.iter_batches(7))
        batches[0].data[:] = 0
    del reader
    assert joined(batches[1:]) == text_order()[7:]


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_batch_can_be_sent(batch: RecordBatch, protocol: int) -> None:
    assert pickle.loads(pickle.dumps(batch, protocol)).tolist() == batch.tolist()


def test_rows_without_a_copy(disk: Path) -> None:
    rows = np.arange(900, dtype="<i4").reshape(-1, 3)
    np.save(disk / "rows.npy", rows)
    with open_reader(disk / "rows.npy", PLANS["memory"], seed=5) as reader:
        found = []
        for batch in reader.iter_batches(64):
            view = batch.data.view("<i4").reshape(len(batch), -1)
            assert np.shares_memory(view, batch.data)
            assert view.flags.aligned
            found.append(view)
    records = [row.tobytes() for row in rows]
    assert np.concatenate(found).tobytes() == b"".join(expected([records], 5))


@pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed here"
)
def test_arrow(batch: RecordBatch) -> None:
    array = batch.to_arrow()
    assert array.to_pylist() == batch.tolist()
    assert str(array.type) == "large_binary"
    array.validate(full=True)
    _, offsets, data = array.buffers()
    assert data.address == batch.data.ctypes.data
    assert offsets.address == batch.offsets.ctypes.data
