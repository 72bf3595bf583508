"""Shuffled records as a stream into training, without an output file."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self

from corekit import _checks, _core, _paths
from corekit._paths import Path
from corekit.errors import InvalidArgumentError
from corekit.shuffle import _job
from corekit.shuffle._batch import RecordBatch
from corekit.shuffle._job import Options

# Where the core is told that there is no output: any stream would do.
_NOWHERE = _paths.Descriptor(1)


class ShuffledReader:
    r"""Read the records of the inputs in the order of `shuffle_files`, without writing them.

    Iterating gives records as ``bytes`` without delimiter; `iter_batches` gives many at a
    time at no cost per record. The first record comes when the inputs have been read once;
    what does not fit into the memory limit waits in scratch or is read again, as in
    `shuffle_files`.

    Several readers share one order: rank r of w gets the records at positions
    ``[r * n // w, (r + 1) * n // w)`` and keeps only that share of scratch. In a worker of
    a PyTorch ``DataLoader`` (import torch before the reader is made) the share of the rank
    is divided further, among the workers.

    A reader has one position: iterating again continues there, and `state_dict` returns it.

    Parameters
    ----------
    inputs
        As in `shuffle_files`; several ranks need inputs that can be read more than once.
    seed
        ``0 <= seed < 2**128``; the same for all ranks.
    epoch
        ``0 <= epoch < 2**32``: another order of the same seed.
    memory_limit
        The most memory that the reader takes, as in `shuffle_files`. Batches that were handed
        out are the caller's and not counted.
    rank, world_size
        Which share, of how many: ``0 <= rank < world_size``.
    threads, scratch, delimiter, record_bytes, header, input_format, any_expansion
        As in `shuffle_files`. Scratch goes to the temporary directory when None.

    Raises
    ------
    corekit.errors.ArgumentTypeError, corekit.errors.InvalidArgumentError
        An argument cannot be used.
    corekit.errors.CorekitError
        As in `shuffle_files`, when records are asked for.

    Notes
    -----
    Reading needs the memory limit as long as the reader is open; `close` it, leave its
    ``with`` block or drop it, and memory and scratch are given back. It survives pickling
    and forking: the copy starts a shuffle of its own when it is first read. Ctrl-C works
    while it waits.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "in.txt"
    >>> _ = path.write_bytes(b"a\nb\nc\nd\n")
    >>> with ShuffledReader(path, seed=7) as reader:
    ...     first = next(iter(reader))
    ...     rest = [batch.tolist() for batch in reader.iter_batches(2)]
    >>> first, rest
    (b'b', [[b'd', b'c'], [b'a']])
    """

    def __init__(
        self,
        inputs: Path | Sequence[Path],
        *,
        seed: int,
        epoch: int = 0,
        memory_limit: int | str | None = None,
        rank: int = 0,
        world_size: int = 1,
        threads: int | None = None,
        scratch: Path | None = None,
        delimiter: bytes = b"\n",
        record_bytes: int | None = None,
        header: int = 0,
        input_format: Literal["auto", "raw", "gzip", "zstd", "npy"] = "auto",
        any_expansion: bool = False,
    ) -> None:
        self._seed = _checks.integer("seed", seed, low=0, high=1 << 128)
        self._epoch = _checks.integer("epoch", epoch, low=0, high=1 << 32)
        self._world_size = _checks.integer("world_size", world_size, low=1, high=1 << 32)
        self._rank = _checks.integer("rank", rank, low=0, high=self._world_size)
        # Copies in other processes start from the arguments, so they must not change.
        self._inputs = inputs if isinstance(inputs, (str, bytes, os.PathLike)) else list(inputs)
        self._options: Options = {
            "seed": self._seed,
            "memory_limit": memory_limit,
            "threads": threads,
            "scratch": scratch,
            "delimiter": delimiter,
            "record_bytes": record_bytes,
            "header": header,
            "input_format": input_format,
            "any_expansion": any_expansion,
        }
        self._tuning: dict[str, int] | None = None
        # What is wrong with the arguments is said here, not when records are wanted.
        _job.prepare(self._inputs, _NOWHERE, **self._options)
        self._start = 0
        self._worker = (0, 1)
        self._was_started = False
        self._forget()
        _register_with_torch()

    def _forget(self) -> None:
        """Have no running shuffle."""
        self._core: _core.RecordReader | None = None
        self._process = os.getpid()
        self._lock = threading.Lock()

    @property
    def position(self) -> int:
        """Records of this reader's share that were handed out."""
        core = self._core
        return self._start if core is None else core.position()

    @property
    def records(self) -> int | None:
        """Records of all inputs; None until they are counted, which the first record waits for."""
        core = self._core
        return None if core is None else core.records()

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the records from the present position on."""
        return _core.RecordIterator(self._running)

    def iter_batches(self, batch_size: int) -> Iterator[RecordBatch]:
        """Iterate over batches of `batch_size` records from the present position on.

        Parameters
        ----------
        batch_size
            Records of a batch; the last one may have fewer.

        Yields
        ------
        RecordBatch
            The records, one behind the other in one buffer.
        """
        size = _checks.integer("batch_size", batch_size, low=1, high=1 << 48)
        return _core.RecordIterator(self._running, (size, RecordBatch))

    def _running(self) -> _core.RecordReader:
        """Return the running shuffle of this process, started if need be."""
        if self._process != os.getpid():
            # A fork: the threads stayed in the parent, and a lock may be held by one of them.
            self._start = self.position
            self._forget()
        with self._lock:
            worker = _worker()
            if worker != self._worker:
                if self.position:
                    raise InvalidArgumentError(
                        f"position must be 0 to go on as worker {worker[0]} of {worker[1]}, got "
                        f"{self.position} of worker {self._worker[0]} of {self._worker[1]}"
                    )
                self._stop()
                self._worker = worker
            if self._core is None or not self._core.is_usable():
                self._stop()
                if self._was_started:
                    self._check_again()
                self._was_started = True
                tuning = self._tuning
                (job,) = _job.prepare(self._inputs, _NOWHERE, tuning=tuning, **self._options)
                job["output"] = None
                job["epoch"] = self._epoch
                job["slice"] = (self._rank, self._world_size, *worker, self._start)
                self._core = _core.RecordReader(job)
            return self._core

    def _check_again(self) -> None:
        """Refuse to start anew on what can be read only once: it would be found empty."""
        inputs = [self._inputs] if isinstance(self._inputs, (str, bytes)) else self._inputs
        for path in [inputs] if isinstance(inputs, os.PathLike) else inputs:
            if os.path.exists(path) and not os.path.isfile(path):
                raise InvalidArgumentError(
                    f"inputs must be files to be read again, got {os.fsdecode(path)!r}"
                )

    def _stop(self) -> None:
        """End the running shuffle, if there is one, and keep its position."""
        core = self._core
        if core is not None:
            core.close()
            self._start = core.position()
            self._core = None

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of another epoch's order."""
        self._epoch = _checks.integer("epoch", epoch, low=0, high=1 << 32)
        self.close()
        self._start = 0

    def state_dict(self) -> dict[str, int]:
        """Return where the reader is, in numbers that JSON can hold.

        What was fetched ahead does not count: a reader that loads the state goes on with
        the record behind the last one that was handed out.
        """
        return {
            "seed": self._seed,
            "epoch": self._epoch,
            "rank": self._rank,
            "world_size": self._world_size,
            "worker": self._worker[0],
            "workers": self._worker[1],
            "position": self.position,
        }

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go to where another reader of the same inputs was.

        Parameters
        ----------
        state
            What `state_dict` returned. Seed, rank and world size must be this reader's;
            the epoch and the position are taken over.

        Raises
        ------
        corekit.errors.InvalidArgumentError
            The state is another reader's.
        """
        own = self.state_dict()
        if not isinstance(state, Mapping):
            raise _checks.wrong_type("state", "a mapping", state)
        if set(state) != set(own):
            raise InvalidArgumentError(
                f"state must have the keys {', '.join(own)}, {_checks.given(state)}"
            )
        for name in ("seed", "rank", "world_size"):
            if state[name] != own[name]:
                raise InvalidArgumentError(
                    f"state must have {name} {own[name]} as this reader, got {state[name]}"
                )
        epoch = _checks.integer("state['epoch']", state["epoch"], low=0, high=1 << 32)
        position = _checks.integer("state['position']", state["position"], low=0, high=1 << 63)
        workers = _checks.integer("state['workers']", state["workers"], low=1, high=1 << 32)
        worker = _checks.integer("state['worker']", state["worker"], low=0, high=workers)
        self.close()
        self._epoch, self._start, self._worker = epoch, position, (worker, workers)

    def close(self) -> None:
        """Give back memory and scratch. Reading again starts anew at the present position."""
        if self._process != os.getpid():
            self._start = self.position
            self._forget()
        with self._lock:
            self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        running = ("_core", "_process", "_lock")
        state = {name: value for name, value in vars(self).items() if name not in running}
        return {**state, "_start": self.position}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()
        _register_with_torch()

    def __repr__(self) -> str:
        share = f", rank={self._rank}, world_size={self._world_size}"
        return f"ShuffledReader(seed={self._seed}, epoch={self._epoch}{share})"


def _worker() -> tuple[int, int]:
    """Return which worker of a DataLoader this process is, and of how many."""
    torch = sys.modules.get("torch.utils.data")
    info = None if torch is None else torch.get_worker_info()
    return (0, 1) if info is None else (int(info.id), int(info.num_workers))


def _register_with_torch() -> None:
    """Make a DataLoader take readers for what they are: datasets to be iterated over."""
    torch = sys.modules.get("torch.utils.data")
    if torch is not None:
        torch.IterableDataset.register(ShuffledReader)
