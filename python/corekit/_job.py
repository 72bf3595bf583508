"""The arguments of a shuffle, checked and made complete: what the core takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from corekit import _checks, _memory, _paths, _scratch, _seed, _threads
from corekit.errors import InvalidArgumentError

# A sample larger than any input could ever be is simply everything.
_EVERYTHING = (1 << 63) - 1


class Options(TypedDict, total=False):
    """What the functions of `corekit.shuffle` pass on unread."""

    seed: int | None
    memory_limit: int | str | None
    threads: int | None
    scratch: _paths.Path | None
    delimiter: bytes
    sample: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One call's arguments in the core's terms."""

    inputs: list[bytes | int]
    output: bytes | int
    seed: int
    memory_limit: int
    threads: int
    scratch: bytes | None
    delimiter: bytes
    sample: int | None
    tuning: dict[str, int] | None

    @property
    def keywords(self) -> dict[str, Any]:
        """The keyword arguments that running and planning have in common."""
        return {
            "seed": self.seed,
            "memory_limit": self.memory_limit,
            "threads": self.threads,
            "scratch": self.scratch,
            "delimiter": self.delimiter,
            "sample": self.sample,
            "tuning": self.tuning,
        }


def prepare(
    inputs: object,
    output: object,
    *,
    seed: object = None,
    memory_limit: object = None,
    threads: object = None,
    scratch: object = None,
    delimiter: object = b"\n",
    sample: object = None,
    tuning: Mapping[str, int] | None = None,
) -> Job:
    """Check every argument and fill in the defaults. Opens nothing."""
    destination = _paths.output(output)
    return Job(
        inputs=_paths.inputs(inputs),
        output=destination,
        seed=_seed.resolve(seed),
        memory_limit=_memory.limit(memory_limit),
        threads=_threads.count(threads),
        scratch=_scratch.directory(scratch, destination),
        delimiter=_delimiter(delimiter),
        sample=_sample(sample),
        tuning=None if tuning is None else dict(tuning),
    )


def _delimiter(delimiter: object) -> bytes:
    if not isinstance(delimiter, bytes):
        raise _checks.wrong_type("delimiter", "bytes", delimiter)
    if not delimiter:
        raise InvalidArgumentError("delimiter must be at least one byte, got none")
    return delimiter


def _sample(sample: object) -> int | None:
    if sample is None:
        return None
    return min(_checks.integer("sample", sample, low=0), _EVERYTHING)
