"""The arguments of a shuffle, checked and made complete: what the core takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypedDict

from corekit import _checks, _memory, _paths, _seed, _threads
from corekit.shuffle import _compress, _records, _rows, _scratch, _selection, _sets
from corekit.shuffle._fractions import Exact


class Options(TypedDict, total=False):
    """What the functions of `corekit.shuffle` pass on unread."""

    seed: int | None
    memory_limit: int | str | None
    threads: int | None
    scratch: _paths.Path | None
    delimiter: bytes
    record_bytes: int | None
    header: int
    input_format: Literal["auto", "raw", "gzip", "zstd", "npy"]
    any_expansion: bool
    sample: int | None
    fraction: Exact | None
    splits: Mapping[str, Exact] | None
    epochs: int | None
    shards: int | None
    shard_records: int | None
    shard_bytes: int | str | None
    compress: str | None


class Npy(TypedDict):
    """Arrays: where the rows of each input begin, and the header's text around their number."""

    starts: list[int]
    before: bytes
    after: bytes


class Job(TypedDict):
    """The arguments for one output in the core's terms."""

    inputs: list[bytes | int]
    output: bytes | int | None  # None for a reader
    slice: tuple[int, int, int, int, int] | None  # rank, world, worker, workers, start
    seed: int
    epoch: int
    epochs: int | None
    memory_limit: int
    threads: int
    scratch: bytes | None
    delimiter: bytes
    record_bytes: int | None
    input_format: Literal["auto", "raw", "gzip", "zstd"]
    npy: Npy | None
    header: int
    any_expansion: bool
    sample: int | None
    fraction: int | None
    splits: list[tuple[str, int]] | None
    shards: int | None
    shard_records: int | None
    shard_bytes: int | None
    compress: _compress.Codec | None
    tuning: dict[str, int] | None


def prepare(
    inputs: object,
    outputs: object,
    *,
    aligned: bool = False,
    seed: object = None,
    memory_limit: object = None,
    threads: object = None,
    scratch: object = None,
    delimiter: object = _records.NEWLINE,
    record_bytes: object = None,
    header: object = 0,
    input_format: object = "auto",
    any_expansion: object = False,
    sample: object = None,
    fraction: object = None,
    splits: object = None,
    epochs: object = None,
    shards: object = None,
    shard_records: object = None,
    shard_bytes: object = None,
    compress: object = None,
    tuning: Mapping[str, int] | None = None,
) -> list[Job]:
    """Check every argument and fill in the defaults: a job for each output.

    Of the inputs no more is looked at than whether they are arrays. `outputs` is one
    destination, or for aligned shuffles a sequence of them.
    """
    if aligned:
        sources, destinations = _paths.pairs(inputs, outputs)
    else:
        sources, destinations = _paths.inputs(inputs), [_paths.output("output", outputs)]
    records = _records.check(
        input_format=input_format, delimiter=delimiter, record_bytes=record_bytes, header=header
    )
    selection = _selection.check(sample=sample, fraction=fraction, splits=splits, epochs=epochs)
    pieces = _sets.check(shards=shards, shard_records=shard_records, shard_bytes=shard_bytes)
    if aligned:
        # Files that are cut by their own sizes would not stay in step.
        _checks.exclusive(shard_bytes=shard_bytes, aligned=aligned)
    codecs = _compress.codecs(compress, destinations)
    seed_number = _seed.resolve(seed)
    memory_bytes = _memory.limit(memory_limit)
    workers = _threads.count(threads)
    expands = _checks.switch("any_expansion", any_expansion)
    patterns = [
        _sets.is_pattern(
            f"outputs[{number}]" if aligned else "output",
            destination,
            shards=pieces,
            has_splits=splits is not None,
            has_epochs=epochs is not None,
        )
        for number, destination in enumerate(destinations)
    ]
    # From here on files are looked at.
    beside = next((n for n, name in enumerate(destinations) if isinstance(name, bytes)), 0)
    directory = _scratch.directory(scratch, destinations[beside], pattern=patterns[beside])
    groups = [[source] for source in sources] if aligned else [sources]
    jobs = []
    for group, destination, codec in zip(groups, destinations, codecs, strict=True):
        rows = _rows.rows(group, records)
        array = None
        if rows is not None:
            array = Npy(starts=rows.starts, before=rows.before, after=rows.after)
        jobs.append(
            Job(
                inputs=group,
                output=destination,
                slice=None,
                seed=seed_number,
                epoch=0,
                epochs=selection.epochs,
                memory_limit=memory_bytes,
                threads=workers,
                scratch=directory,
                delimiter=records.delimiter,
                record_bytes=records.record_bytes if rows is None else rows.record_bytes,
                input_format="raw"
                if rows or records.input_format == "npy"
                else records.input_format,
                npy=array,
                header=records.header,
                any_expansion=expands,
                sample=selection.sample,
                fraction=selection.fraction,
                splits=selection.splits,
                shards=pieces.shards,
                shard_records=pieces.shard_records,
                shard_bytes=pieces.shard_bytes,
                compress=codec,
                tuning=None if tuning is None else dict(tuning),
            )
        )
    return jobs
