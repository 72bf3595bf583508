"""A stand-in for the part of PyTorch that readers look at, and what its workers do."""

from __future__ import annotations

import abc
import sys
import types
from multiprocessing.queues import SimpleQueue
from typing import Any, NamedTuple

from corekit.shuffle import ShuffledReader


class WorkerInfo(NamedTuple):
    """What a worker is told of itself."""

    id: int
    num_workers: int


class IterableDataset(metaclass=abc.ABCMeta):  # noqa: B024 -- as PyTorch's
    """What a DataLoader iterates over; any other dataset it asks for its length."""


def install(worker: WorkerInfo | None = None) -> None:
    """Be PyTorch, in the main process or in a worker."""
    module: Any = types.ModuleType("torch.utils.data")
    module.get_worker_info = lambda: worker
    module.IterableDataset = IterableDataset
    sys.modules["torch.utils.data"] = module


def work(
    reader: ShuffledReader,
    worker: WorkerInfo,
    size: int,
    stop: int | None,
    results: SimpleQueue[Any],
) -> None:
    """Read a worker's share, in batches or one by one; up to `stop` records, if that is said."""
    try:
        install(worker)
        found: list[bytes] = []
        if size:
            for batch in reader.iter_batches(size):
                found += batch
                if stop is not None and len(found) >= stop:
                    break
        else:
            found = list(reader)
        results.put((worker.id, found, reader.state_dict()))
    except BaseException as error:  # noqa: BLE001 -- the test wants to see it
        results.put((worker.id, error, None))


def is_dataset(reader: ShuffledReader, results: SimpleQueue[Any]) -> None:
    """Say whether a reader that came from another process is a dataset here."""
    results.put(isinstance(reader, IterableDataset))
