"""Shuffling files in step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from corekit._paths import Path
from corekit._progress import Progress
from corekit.shuffle import _call
from corekit.shuffle._fractions import Exact
from corekit.shuffle._report import ShuffleReport


def shuffle_aligned(
    inputs: Sequence[Path],
    outputs: Sequence[Path],
    *,
    seed: int | None = None,
    memory_limit: int | str | None = None,
    threads: int | None = None,
    scratch: Path | None = None,
    delimiter: bytes = b"\n",
    record_bytes: int | None = None,
    header: int = 0,
    input_format: Literal["auto", "raw", "gzip", "zstd", "npy"] = "auto",
    any_expansion: bool = False,
    sample: int | None = None,
    fraction: Exact | None = None,
    splits: Mapping[str, Exact] | None = None,
    epochs: int | None = None,
    shards: int | None = None,
    shard_records: int | None = None,
    shard_bytes: int | str | None = None,
    compress: str | None = None,
    progress: Progress = None,
) -> tuple[ShuffleReport, ...]:
    r"""Shuffle files of equally many records in step: records that belong together stay so.

    Each input goes into the output of the same place, all in the order that
    `shuffle_files` gives to the first one by itself: the two sides of a translation corpus,
    texts and their labels.

    Parameters
    ----------
    inputs
        Paths of files with the same number of records.
    outputs
        As many different paths as inputs, each as the output of `shuffle_files`.
    seed, memory_limit, threads, scratch
        As in `shuffle_files`, of the whole call.
    delimiter, record_bytes, header, input_format, any_expansion
        As in `shuffle_files`, of all inputs alike; arrays may differ in type and shape of row.
    sample, fraction, splits, epochs
        As in `shuffle_files`; all outputs have the same records.
    shards, shard_records
        As in `shuffle_files`; all outputs are cut at the same records.
    shard_bytes
        Not accepted: files cut by their own sizes would not stay in step.
    compress
        As in `shuffle_files`; None goes by the name of each output.
    progress
        As in `shuffle_files`.

    Returns
    -------
    tuple of ShuffleReport
        One for each output.

    Raises
    ------
    corekit.errors.CorekitError
        As in `shuffle_files`, and when the inputs have not equally many records.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "de.txt").write_bytes(b"eins\nzwei\ndrei\nvier\n")
    >>> _ = (folder / "en.txt").write_bytes(b"one\ntwo\nthree\nfour\n")
    >>> _ = shuffle_aligned(
    ...     [folder / "de.txt", folder / "en.txt"],
    ...     [folder / "de.out", folder / "en.out"],
    ...     seed=7,
    ... )
    >>> (folder / "de.out").read_bytes(), (folder / "en.out").read_bytes()
    (b'zwei\nvier\ndrei\neins\n', b'two\nfour\nthree\none\n')
    """
    return _call.run_aligned(
        inputs,
        outputs,
        seed=seed,
        memory_limit=memory_limit,
        threads=threads,
        scratch=scratch,
        delimiter=delimiter,
        record_bytes=record_bytes,
        header=header,
        input_format=input_format,
        any_expansion=any_expansion,
        sample=sample,
        fraction=fraction,
        splits=splits,
        epochs=epochs,
        shards=shards,
        shard_records=shard_records,
        shard_bytes=shard_bytes,
        compress=compress,
        progress=progress,
    )
