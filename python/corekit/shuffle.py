"""Shuffle the records of files that do not fit in memory.

The order is a published formula: record i of input j has as its key word i of
``numpy.random.Philox(key=seed, counter=[0, 0, j, 0]).random_raw(n_j)``, and the
output is all records, sorted by key (equal keys by input, then by position). So
the order is uniformly random, and the output depends on the inputs and the seed
only: never on the memory limit, the number of threads or the machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Unpack

from corekit import _checks, _core, _job, _progress, _threads
from corekit._job import Options
from corekit._paths import Descriptor, Input, Path
from corekit._plan import ShufflePlan
from corekit._progress import Progress
from corekit._report import ShuffleReport

# Half of the command's start would be spent on NumPy, which only `permutation` needs.
if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["ShufflePlan", "ShuffleReport", "permutation", "plan", "shuffle_files"]


def shuffle_files(
    inputs: Path | Sequence[Path],
    output: Path,
    *,
    seed: int | None = None,
    memory_limit: int | str | None = None,
    threads: int | None = None,
    scratch: Path | None = None,
    delimiter: bytes = b"\n",
    sample: int | None = None,
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
        is streamed to.
    seed
        ``0 <= seed < 2**128``. The same inputs and seed give the same bytes.
        None draws one from the system; the report says which.
    memory_limit
        Most memory that the call takes above what the process had before it, in
        bytes or as text: ``"2GiB"``, ``"512M"`` (K, M, G and KiB, MiB, GiB are powers of
        1024; KB, MB, GB of 1000). None takes half of the memory that is available,
        control groups obeyed.
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
    sample
        Write only the first `sample` records of the shuffled order.
    progress
        None is silent. True shows a bar on standard error (tqdm's when it is
        installed). A callable is called as ``progress(done_bytes, total_bytes, phase)``
        some times a second, the total being None when it is not known; an exception
        that it raises cancels the run and is passed on.

    Returns
    -------
    ShuffleReport
        Counts, digests, seed, plan, times and peak memory.

    Raises
    ------
    corekit.errors.ArgumentTypeError, corekit.errors.InvalidArgumentError
        An argument cannot be used.
    corekit.errors.MemoryLimitError
        The memory limit is too small; the message says the smallest that works.
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
    larger than the limit), or the input is read again; `plan` tells which, and what it
    will cost. Ctrl-C ends a call within about a second and leaves nothing half-written.

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
    return _run(
        inputs,
        output,
        seed=seed,
        memory_limit=memory_limit,
        threads=threads,
        scratch=scratch,
        delimiter=delimiter,
        sample=sample,
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
    sample: int | None = None,
    progress: Progress = None,
) -> ShufflePlan:
    r"""Return the plan that `shuffle_files` would follow, without running it.

    Nothing is written, and nothing of a pipe is consumed: what depends on the
    size of a pipe is None in the plan.

    Parameters
    ----------
    inputs, output, memory_limit, threads, scratch, delimiter, sample
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
    return _plan(
        inputs,
        output,
        seed=seed,
        memory_limit=memory_limit,
        threads=threads,
        scratch=scratch,
        delimiter=delimiter,
        sample=sample,
        progress=progress,
    )


def permutation(
    n: int, *, seed: int, stream: int = 0, threads: int | None = None
) -> npt.NDArray[np.uint64]:
    """Return the order itself: a uniformly random permutation of ``range(n)``.

    It is the order in which `shuffle_files` writes the n records of a file, so
    ``records[permutation(n, seed=seed)]`` is that output, for arrays as for lists.

    Parameters
    ----------
    n
        How many.
    seed
        ``0 <= seed < 2**128``, the key of the Philox generator.
    stream
        ``0 <= stream < 2**32``: independent permutations under one seed. It is the
        word of the counter that numbers the inputs of `shuffle_files`.
    threads
        As in `shuffle_files`.

    Returns
    -------
    numpy.ndarray
        n unsigned 64-bit integers, the same as
        ``np.argsort(np.random.Philox(key=seed, counter=[0, 0, stream, 0]).random_raw(n),
        kind="stable")``.

    Examples
    --------
    >>> permutation(4, seed=7).tolist()
    [1, 3, 2, 0]
    """
    # The core asks for NumPy's C interface and could only die without it; an import that
    # fails has the better message.
    import numpy as np  # noqa: F401

    return _core.permutation(
        _checks.integer("n", n, low=0, high=1 << 63),
        seed=_checks.integer("seed", seed, low=0, high=1 << 128),
        stream=_checks.integer("stream", stream, low=0, high=1 << 32),
        epoch=0,
        threads=_threads.count(threads),
    )


def _run(
    inputs: Input | Sequence[Input],
    output: Path | Descriptor,
    *,
    progress: Progress = None,
    tuning: Mapping[str, int] | None = None,
    **options: Unpack[Options],
) -> ShuffleReport:
    """Run a shuffle, also to and from open descriptors.

    `tuning` sets the core's block, chunk and pool sizes. It is for tests, which
    shrink them until tiny inputs cross every boundary; the output never depends on it.
    """
    _progress.check(progress)
    job = _job.prepare(inputs, output, tuning=tuning, **options)
    with _progress.reporting(progress) as callback:
        raw = _core.shuffle_run(job.inputs, job.output, **job.keywords, progress=callback)
    return ShuffleReport._from_core(raw)


def _plan(
    inputs: Input | Sequence[Input],
    output: Path | Descriptor,
    *,
    progress: Progress = None,
    tuning: Mapping[str, int] | None = None,
    **options: Unpack[Options],
) -> ShufflePlan:
    """Plan a shuffle; the twin of `_run`."""
    _progress.check(progress)
    job = _job.prepare(inputs, output, tuning=tuning, **options)
    return ShufflePlan(**_core.shuffle_plan(job.inputs, job.output, **job.keywords))
