"""Shuffling files together, and the plan of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from corekit._paths import Path
from corekit._progress import Progress
from corekit.shuffle import _call
from corekit.shuffle._fractions import Exact
from corekit.shuffle._plan import ShufflePlan
from corekit.shuffle._report import ShuffleReport


def shuffle_files(
    inputs: Path | Sequence[Path],
    output: Path,
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
) -> ShuffleReport:
    r"""Write all records of the inputs to the output, in a uniformly random order.

    Parameters
    ----------
    inputs
        A path, or a sequence of paths whose records are shuffled together. Files,
        pipes and devices are read; ``/dev/stdin`` is one of them.
    output
        Where the records go. A regular file is replaced in one step when all
        is written and proven: at any time it holds its old content or the complete new
        one, and it may be one of the inputs. A device, a FIFO or ``/dev/stdout``
        is streamed to. With `shards`, `shard_records`, `shard_bytes` or `splits` it is a
        pattern for the names of many files, with fields ``{index}``, ``{split}`` and
        ``{epoch}``; with `epochs` it is one if ``{epoch}`` is in it.
    seed
        ``0 <= seed < 2**128``. The same inputs and seed give the same bytes.
        None draws one from the system; the report says which.
    memory_limit
        The most memory that the call adds to what the process had before it, in
        bytes or as text: ``"2GiB"``, ``"512M"`` (K, M, G and KiB, MiB, GiB are powers of
        1024; KB, MB, GB of 1000). None takes half of the memory that is available,
        within the limits of control groups.
    threads
        None takes the environment's ``COREKIT_NUM_THREADS``, else the CPUs that
        this process may use.
    scratch
        Directory for what does not fit in memory; scratch files have no
        name and never outlive the process. None puts them beside the output (for streams:
        into the temporary directory, or ``/var/tmp`` when that one is kept in memory).
        ``"none"`` forbids scratch: the inputs are read several times instead.
    delimiter
        What ends a record: one byte or several, any of them. Records are those of
        ``bytes.split``, without the empty one after the last delimiter; a last
        record without a delimiter gets one.
    record_bytes
        The size of every record in bytes; there is no delimiter.
    header
        The number of records at the top of every input that are its header: the same in
        all of them, kept on top of every output, and not shuffled.
    input_format
        ``"raw"``, ``"gzip"`` or ``"zstd"`` is how all inputs are stored; ``"npy"`` says
        that they are arrays of NumPy of which the rows are the records, and the output
        is one as well. ``"auto"`` looks at the first bytes of each. Arrays must be
        regular files in C order, and of one type and shape of row.
    any_expansion
        Read compressed inputs however much they expand; otherwise those that look made to
        fill a disk are refused.
    sample
        Write only the first `sample` records of the shuffled order.
    fraction
        Write only the records whose keys lie below this fraction of all keys, from 0
        to 1: each record is drawn with this probability, independently. It is taken
        exactly: ``"0.1"``, ``"1/3"``, a Decimal or a Fraction are what they say, and a
        float is the shortest decimal that reads as it, so 0.1 is 1/10. Not with `sample`.
    splits
        Names and fractions, such as ``{"train": "0.9", "test": "0.1"}``: each record goes
        into one of these splits, with the probability given, and each split into files
        of its own. The fractions are taken as `fraction` is and must sum to exactly 1;
        write ``"1/3"`` for a third. Not with `sample` or `fraction`.
    epochs
        How often to write the records, each time in another order: epoch e has the keys
        of ``counter=[0, 0, j, e]``. They follow each other in the output, or fill a file
        each if ``{epoch}`` is in its name.
    shards, shard_records, shard_bytes
        The number of files to cut the output into, or the records of a file, or about its
        bytes before compression (a number, or text as for `memory_limit`). One of them at
        most.
    compress
        ``"gzip"`` (level 6), ``"zstd"`` (level 3), another level as in ``"gzip:9"`` (0 to 12)
        or ``"zstd:19"`` (-7 to 22), or ``"none"``. None goes by the output's name, which may
        end in ``.gz`` or ``.zst``; streams are then not compressed.
    progress
        None is silent. True shows a bar on standard error (tqdm's when it is
        installed). A callable is called as ``progress(done_bytes, total_bytes, phase)``
        several times a second, the total being None when it is not known; an exception
        that it raises cancels the run and is passed on.

    Returns
    -------
    ShuffleReport
        Counts, digests, files, seed, plan, times and peak memory.

    Raises
    ------
    corekit.errors.ArgumentTypeError, corekit.errors.InvalidArgumentError
        An argument cannot be used.
    corekit.errors.MemoryLimitError
        The memory limit is too small; the message says the smallest that works.
    corekit.errors.InputFormatError
        An input is not what its format demands: corrupt, truncated, of another kind.
    corekit.errors.FileError
        The system refused an operation on a file; the class is also the
        matching builtin, such as FileNotFoundError.
    corekit.errors.OutOfMemoryError
        The system refused memory that the limit allowed.
    corekit.errors.IntegrityError
        What was to be published is not what was read. Nothing was published.

    Notes
    -----
    Input that fits is read once and written once. Beyond the limit the rest is
    written to scratch and read back once (more often only when the input is very much
    larger than the limit), or the input is read again; `plan` says which, and what it
    will cost. Ctrl-C ends a call within a second and leaves nothing half-written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "in.txt").write_bytes(b"a\nb\nc\nd\n")
    >>> report = shuffle_files(folder / "in.txt", folder / "out.txt", seed=7)
    >>> report.records, report.digest == report.input_digest
    (4, True)
    >>> (folder / "out.txt").read_bytes()
    b'b\nd\nc\na\n'
    """
    return _call.run(
        inputs,
        output,
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


def plan(
    inputs: Path | Sequence[Path],
    output: Path,
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
) -> ShufflePlan:
    r"""Return the plan that `shuffle_files` would follow, without running it.

    Nothing is written, and nothing of a pipe is consumed: what depends on the
    size of a pipe is None in the plan.

    Parameters
    ----------
    inputs, output, memory_limit, threads, scratch, delimiter, record_bytes, header
        As in `shuffle_files`.
    input_format, any_expansion, sample, fraction, splits, epochs
        As in `shuffle_files`.
    shards, shard_records, shard_bytes, compress
        As in `shuffle_files`.
    seed, progress
        Taken so that the same arguments fit both functions; no plan depends on them.

    Returns
    -------
    ShufflePlan
        What will be read, written and held, and the expected time. Its ``str`` is the
        text of ``corekit shuffle --explain``.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "in.txt").write_bytes(b"line\n" * 1000)
    >>> plan(folder / "in.txt", folder / "out.txt", memory_limit="64MiB").strategy
    'memory'
    """
    return _call.plan(
        inputs,
        output,
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
