"""What a shuffle will do, before it does it."""

# Without `annotations` of the future: as strings they would be looked up in the public module,
# which does not have these names.
import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal

from corekit import _size

_STRATEGIES: dict[str, str] = {
    "memory": "in memory; every record is held until it is written",
    "scratch": "with scratch; what is not held in memory is parked there and read back",
    "rescan": "in several passes; each reads the input again and holds one range of keys",
}

_UNKNOWN = "unknown"
_UNREAD = "of unknown size (a pipe or a device); nothing of it has been read"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShufflePlan:
    """How a shuffle is going to be done: a forecast, never visible in the output.

    What cannot be known before the input has been read (a pipe's size and all
    that follows from it) is None. ``str(plan)`` is the text of ``--explain``.

    Attributes
    ----------
    strategy : {"memory", "scratch", "rescan"} or None
        Where records are between being read and being written.
    passes : int or None
        How often the inputs are read.
    buckets : int or None
        Ranges of keys that the first pass distributes the records to.
    workers : int
        Threads that work at the same time.
    block_bytes, chunk_bytes : int
        Size of a block of the pool, and of one read of the input.
    memory_limit : int
        The limit of the call, in bytes.
    memory_bytes : int or None
        Memory that the run will use, everything counted.
    resident_bytes : int or None
        Bytes of records that stay in memory between the passes.
    scratch_bytes : int or None
        Bytes that go to scratch.
    input_bytes : int or None
        Size of all inputs.
    bytes_read, bytes_written : int or None
        Bytes moved in all, scratch included.
    seconds : float or None
        Expected time.
    reason : str
        Why this plan was chosen, in one sentence.
    estimated : bool
        Whether the sizes are extrapolated from samples, because inputs are compressed.
    """

    strategy: Literal["memory", "scratch", "rescan"] | None
    passes: int | None
    buckets: int | None
    workers: int
    block_bytes: int
    chunk_bytes: int
    memory_limit: int
    memory_bytes: int | None
    resident_bytes: int | None
    scratch_bytes: int | None
    input_bytes: int | None
    bytes_read: int | None
    bytes_written: int | None
    seconds: float | None
    reason: str
    estimated: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as a dictionary that JSON can hold."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """Return the plan as one line of JSON."""
        return json.dumps(self.to_dict())

    def __str__(self) -> str:
        rows = [
            ("plan", _STRATEGIES[self.strategy] if self.strategy else _UNKNOWN),
            ("why", self.reason),
            ("input", _UNREAD if self.input_bytes is None else self._input(self.input_bytes)),
            ("passes", _number(self.passes)),
            ("buckets", _number(self.buckets)),
            ("read", self._moved(self.bytes_read)),
            ("written", self._moved(self.bytes_written)),
            ("memory", f"{_bytes(self.memory_bytes)}, limit {_bytes(self.memory_limit)}"),
            ("held", self._moved(self.resident_bytes)),
            ("scratch", self._moved(self.scratch_bytes)),
            (
                "workers",
                f"{self.workers}, reading {_size.human(self.chunk_bytes)} at a time "
                f"into blocks of {_size.human(self.block_bytes)}",
            ),
            ("time", _time(self.seconds)),
        ]
        return "\n".join(f"{label:<9}{text}" for label, text in rows)

    def _input(self, size: int) -> str:
        text = _bytes(size)
        return f"{text} as stored; the rest is reckoned from samples" if self.estimated else text

    def _moved(self, size: int | None) -> str:
        """Write a size that follows from the input's, without the digits that are not known."""
        if size is not None and self.estimated:
            return f"about {_size.human(size)}"
        return _bytes(size)


def _bytes(size: int | None) -> str:
    if size is None:
        return _UNKNOWN
    return _size.human(size) if size < 1024 else f"{_size.human(size)} ({size:,} bytes)"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return _UNKNOWN
    if seconds < 0.1:
        return "less than 0.1 s"
    return f"about {seconds:.1f} s" if seconds < 120 else f"about {seconds / 60:.1f} min"


def _number(number: int | None) -> str:
    return _UNKNOWN if number is None else f"{number:,}"
