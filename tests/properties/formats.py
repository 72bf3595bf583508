"""Inputs and outputs of every kind, as few lines as they take, and runs that are held to them.

A `Source` is what goes in: the inputs as they are stored, and the records in them. A
`Shape` is what comes out: files by the hundred or one. `check` runs one into the other
and compares every byte, the report, and the manifest with the formula.
"""

from __future__ import annotations

import gzip
import io
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy
from xxhash import xxh64_intdigest

from corekit.shuffle import ShuffleReport, _call, permutation, shuffle_files
from properties.engine import TINY, Way, _sink, _source, disk
from reference import (
    ALL_BITS,
    reference_digest,
    reference_parts,
    reference_shards,
    split_records,
)

# What makes about 50 KB go each of the three ways.
PLANS: Mapping[str, Mapping[str, int]] = {
    "memory": {**TINY, "blocks": 200},
    "scratch": {**TINY, "blocks": 20, "spill": 1},
    "rescan": {**TINY, "blocks": 20, "spill": 0},
}

ENDINGS = {"none": "", "gzip": ".gz", "zstd": ".zst"}

Array = npt.NDArray[Any]


def zstd_frame(data: bytes, *, block: int = 1000, checksum: bool = True) -> bytes:
    """Return a frame of one segment, of blocks that are stored as they are (RFC 8878)."""
    if len(data) < 256:
        size = bytes([0x20, len(data)])
    elif len(data) < 256 + (1 << 16):
        size = bytes([0x60]) + (len(data) - 256).to_bytes(2, "little")
    else:
        size = bytes([0xA0]) + len(data).to_bytes(4, "little")
    frame = bytearray(b"\x28\xb5\x2f\xfd" + bytes([size[0] | checksum << 2]) + size[1:])
    pieces = [data[at : at + block] for at in range(0, len(data), block)] or [b""]
    for number, piece in enumerate(pieces):
        is_last = number == len(pieces) - 1
        frame += (len(piece) << 3 | is_last).to_bytes(3, "little") + piece
    if checksum:
        frame += (xxh64_intdigest(data) & 0xFFFFFFFF).to_bytes(4, "little")
    return bytes(frame)


def zstd_run(byte: bytes, blocks: int) -> bytes:
    """Return a frame of so many blocks of 128 KiB, each of them one byte over and over."""
    header = b"\x28\xb5\x2f\xfd\xa0" + (blocks << 17).to_bytes(4, "little")
    middle = (1 << 17 << 3 | 1 << 1).to_bytes(3, "little") + byte
    last = (1 << 17 << 3 | 1 << 1 | 1).to_bytes(3, "little") + byte
    return header + middle * (blocks - 1) + last


def gzip_member(data: bytes) -> bytes:
    return gzip.compress(data, 6, mtime=0)


def stored(data: bytes, encoding: str, cuts: Sequence[int] = ()) -> bytes:
    """Return bytes as one input has them: in several members or frames when cut."""
    if encoding == "raw":
        return data
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(edges)]
    return b"".join(map(gzip_member if encoding == "gzip" else zstd_frame, pieces))


def decoded(data: bytes, codec: str) -> bytes:
    """Return what was compressed, by Python, by the ``zstd`` command or by corekit itself."""
    if codec == "none":
        return data
    if codec == "gzip":
        return gzip.decompress(data)
    assert data.startswith(b"\x28\xb5\x2f\xfd")
    if shutil.which("zstd"):
        done = subprocess.run(["zstd", "-dcq"], input=data, capture_output=True, check=True)
        return done.stdout
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in"), Path(folder, "out")
        source.write_bytes(data)
        shuffle_files(source, target, seed=0, record_bytes=1)
        shuffled = np.frombuffer(target.read_bytes(), dtype=np.uint8)
    original = np.empty_like(shuffled)
    original[permutation(len(shuffled), seed=0)] = shuffled
    return original.tobytes()


def encoded(array: Array) -> bytes:
    """Return an array as the file that NumPy makes of it."""
    file = io.BytesIO()
    npy.write_array(file, array)
    return file.getvalue()


@dataclass(frozen=True, kw_only=True)
class Source:
    """What goes in."""

    inputs: list[bytes]
    records: list[list[bytes]]
    options: dict[str, Any] = field(default_factory=dict)
    delimiter: bytes = b"\n"
    # What stands on top of an output of n records.
    top: Callable[[int], bytes] = lambda n: b""

    def content(self, records: Sequence[bytes]) -> bytes:
        return self.top(len(records)) + b"".join(record + self.delimiter for record in records)


def delimited(
    texts: Sequence[bytes],
    *,
    delimiter: bytes = b"\n",
    encoding: str = "raw",
    cuts: Sequence[int] = (),
    head: Sequence[bytes] = (),
) -> Source:
    """Return texts, under the same lines on top of each of them."""
    top = b"".join(line + delimiter for line in head)
    options: dict[str, Any] = {"header": len(head)} if head else {}
    if delimiter != b"\n":
        options["delimiter"] = delimiter
    return Source(
        inputs=[stored(top + text, encoding, cuts) for text in texts],
        records=[split_records(text, delimiter) for text in texts],
        options=options,
        delimiter=delimiter,
        top=lambda n: top,
    )


def fixed(
    texts: Sequence[bytes],
    size: int,
    *,
    encoding: str = "raw",
    cuts: Sequence[int] = (),
    head: bytes = b"",
) -> Source:
    """Return records of one size; what is too much of a text is cut off."""
    options: dict[str, Any] = {"record_bytes": size}
    if head:
        options["header"] = len(head) // size
    texts = [text[: len(text) // size * size] for text in texts]
    return Source(
        inputs=[stored(head + text, encoding, cuts) for text in texts],
        records=[[text[at : at + size] for at in range(0, len(text), size)] for text in texts],
        options=options,
        delimiter=b"",
        top=lambda n: head,
    )


def arrays(given: Sequence[Array]) -> Source:
    """Return arrays, of which the rows are the records."""
    first = given[0]
    empty = np.empty((0, *first.shape[1:]), dtype=first.dtype)

    def top(n: int) -> bytes:
        rows = np.zeros((n, *first.shape[1:]), dtype=first.dtype)
        return encoded(rows)[: -rows.nbytes or None]

    size = first.dtype.itemsize * int(np.prod(empty.shape[1:]))
    data = [array.tobytes() for array in given]
    return Source(
        inputs=list(map(encoded, given)),
        records=[[raw[at : at + size] for at in range(0, len(raw), size)] for raw in data],
        delimiter=b"",
        top=top,
    )


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What comes out."""

    sample: int | None = None
    fraction: str | None = None
    splits: Mapping[str, str] | None = None
    epochs: int | None = None
    apart: bool = False  # a file, or files, for each epoch
    shards: int | None = None
    shard_records: int | None = None
    shard_bytes: int | None = None

    @property
    def pieces(self) -> dict[str, int | None]:
        return {
            "shards": self.shards,
            "shard_records": self.shard_records,
            "shard_bytes": self.shard_bytes,
        }

    @property
    def is_sharded(self) -> bool:
        return any(value is not None for value in self.pieces.values())

    @property
    def is_set(self) -> bool:
        return self.is_sharded or self.splits is not None or self.apart

    @property
    def options(self) -> dict[str, Any]:
        chosen = {name: getattr(self, name) for name in ("sample", "fraction", "splits", "epochs")}
        given = {**chosen, **self.pieces}
        return {name: value for name, value in given.items() if value is not None}

    def name(self, codec: str) -> str:
        """Return the name of the output, or the pattern of the names."""
        if not self.is_set:
            return f"out{ENDINGS[codec]}"
        fields = ["{split}"] * (self.splits is not None)
        fields += ["{epoch:02d}"] * self.apart + ["{index}"] * self.is_sharded
        return f"out-{'-'.join(fields)}.txt{ENDINGS[codec]}"

    def files(self, source: Source, seed: int, key_mask: int = ALL_BITS) -> list[Expected]:
        """Return all files with their records, in order: epochs, splits, shards."""
        cuts, names = [1 << 64], [None if self.splits is None else ""]
        if self.fraction is not None:
            cuts = [int(Fraction(self.fraction) * 2**64)]
        if self.splits is not None:
            sums = itertools.accumulate(map(Fraction, self.splits.values()))
            cuts, names = [int(part * 2**64) for part in sums], list(self.splits)
        groups: list[tuple[int | None, str | None, list[bytes]]] = []
        for epoch in range(self.epochs or 1):
            parts = reference_parts(source.records, seed, cuts=cuts, epoch=epoch, key_mask=key_mask)
            for split, records in zip(names, parts, strict=True):
                groups.append((epoch, split, records[: self.sample]))
        if not self.apart:
            one = [record for *_, records in groups for record in records]
            if self.splits is None:
                groups = [(None, None, one)]
            else:
                groups = [(None, split, records) for _, split, records in groups]
        return [
            Expected(epoch, split, index if self.is_sharded else None, records)
            for epoch, split, group in groups
            for index, records in enumerate(
                reference_shards(group, delimiter=source.delimiter, **self.pieces)
            )
        ]


@dataclass(frozen=True)
class Expected:
    """One file of the output."""

    epoch: int | None
    split: str | None
    index: int | None
    records: list[bytes]

    def name(self, pattern: str) -> str:
        return pattern.format(epoch=self.epoch, split=self.split, index=self.index)


# One of each, for what 50 KB of records become.
SHAPES: Mapping[str, Shape] = {
    "one file": Shape(),
    "a sample": Shape(sample=333),
    "a fraction": Shape(fraction="1/3"),
    "epochs": Shape(epochs=2),
    "shards": Shape(shards=3),
    "shards of records": Shape(shard_records=700),
    "shards of bytes": Shape(shard_bytes=10_000),
    "splits": Shape(splits={"train": "0.7", "none": "0", "test": "0.3"}),
    "epochs apart": Shape(epochs=2, apart=True),
    "a sample of each epoch, in shards": Shape(sample=500, epochs=2, shards=2),
    "splits, epochs and shards": Shape(
        splits={"a": "1/3", "b": "2/3"}, epochs=2, apart=True, shard_bytes=20_000
    ),
}


def check(
    source: Source,
    shape: Shape,
    seed: int = 1,
    *,
    codec: str = "none",
    level: str = "",
    tuning: Mapping[str, int] | None = None,
    threads: int = 2,
    ways: Sequence[Way] | None = None,
    to: Way = "file",
    scratch: bool = True,
) -> ShuffleReport:
    """Run the source into the shape; fail unless every byte and number is the formula's."""
    ways = ways or ["file"] * len(source.inputs)
    assert to == "file" or not shape.is_set
    with tempfile.TemporaryDirectory(dir=disk()) as folder, ExitStack() as stack:
        given = [
            stack.enter_context(_source(Path(folder, f"in{number}"), data, way))
            for number, (data, way) in enumerate(zip(source.inputs, ways, strict=True))
        ]
        place = Path(folder, "place")
        place.mkdir()
        pattern = shape.name(codec)
        if shape.is_set:
            output: Any = place / pattern
        else:
            output, collect = stack.enter_context(_sink(place / pattern, to))
        # Names tell how an output is compressed, unless it is said.
        told: dict[str, Any] = {"compress": codec + level} if level or to != "file" else {}
        report = _call.run(
            given,
            output,
            seed=seed,
            threads=threads,
            memory_limit="64MiB",
            scratch=place if scratch else "none",
            tuning=tuning,
            **source.options,
            **shape.options,
            **told,
        )
        mask = (tuning or {}).get("key_mask", ALL_BITS)
        expected = shape.files(source, seed, mask)
        if shape.is_set:
            _check_set(place, pattern, codec, source, expected, report)
            raw = b""
        else:
            raw = collect()
            _check_bytes(raw, codec, source, expected[0])
            assert report.files == ()
            assert report.output_size == len(raw)
            assert os.listdir(place) == ([pattern] if to == "file" else os.listdir(place))

    every = [record for part in source.records for record in part]
    chosen = [record for file in expected for record in file.records]
    assert (report.input_records, report.records) == (len(every), len(chosen))
    assert report.input_digest == reference_digest(every)
    assert report.digest == reference_digest(chosen)
    assert report.bytes == sum(len(source.content(file.records)) for file in expected)
    assert report.seed == seed
    return report


def _check_bytes(raw: bytes, codec: str, source: Source, expected: Expected) -> None:
    found, wanted = decoded(raw, codec), source.content(expected.records)
    # Not the comparison alone: a diff of many bytes takes pytest long to draw.
    assert len(found) == len(wanted)
    assert found == wanted, "the order is not the formula's"


def _check_set(
    place: Path,
    pattern: str,
    codec: str,
    source: Source,
    expected: Sequence[Expected],
    report: ShuffleReport,
) -> None:
    names = [file.name(pattern) for file in expected]
    assert set(os.listdir(place)) == {*names, "out.manifest.json"}
    assert [file.path for file in report.files] == [str(place / name) for name in names]
    for file, wanted in zip(report.files, expected, strict=True):
        raw = Path(file.path).read_bytes()
        _check_bytes(raw, codec, source, wanted)
        assert (file.epoch, file.split, file.index) == (wanted.epoch, wanted.split, wanted.index)
        assert (file.records, file.size) == (len(wanted.records), len(raw))
        assert file.bytes == len(source.content(wanted.records))
        assert file.digest == reference_digest(wanted.records)
    assert report.output_size == sum(file.size for file in report.files)
    manifest = json.loads((place / "out.manifest.json").read_bytes())
    assert manifest["seed"] == str(report.seed)
    assert manifest["algorithm"] == report.algorithm
    assert (manifest["records"], manifest["bytes"]) == (report.records, report.bytes)
    assert manifest["digest"] == f"{report.digest:032x}"
    assert manifest["compression"] == (None if codec == "none" else codec)
    files = []
    for name, file in zip(names, report.files, strict=True):
        item = {"name": name, **file.to_dict()}
        del item["path"]
        files.append({key: value for key, value in item.items() if value is not None})
    assert manifest["files"] == files
