"""What a shuffle did."""

# Without `annotations` of the future: as strings they would be looked up in the public module,
# which does not have these names.
import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from corekit import _size
from corekit.shuffle._plan import ShufflePlan


@dataclass(frozen=True, slots=True, kw_only=True)
class ShuffledFile:
    """One file of an output that is a set of them.

    Attributes
    ----------
    path : str
        Where it is now, with the fields of the pattern filled in. A name that is no text
        is decoded as `os.fsdecode` does.
    records, bytes : int
        Records in it, and their bytes before compression.
    size : int
        Bytes that it takes on the disk, compressed or not.
    digest : int
        Digest of its records; those of all files add up to the report's.
    index : int or None
        Its number among the shards; None without shards.
    split : str or None
        The name of the split that it belongs to; None without splits.
    epoch : int or None
        The epoch that it holds; None when there is not a file for each epoch.
    """

    path: str
    records: int
    bytes: int
    size: int
    digest: int
    index: int | None
    split: str | None
    epoch: int | None

    @classmethod
    def _from_core(cls, raw: dict[str, Any]) -> Self:
        return cls(**{**raw, "path": os.fsdecode(raw["path"])})

    def to_dict(self) -> dict[str, Any]:
        """Return the file as a dictionary that JSON can hold, as `ShuffleReport.to_dict`."""
        return {**dataclasses.asdict(self), "digest": f"{self.digest:032x}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShuffleReport:
    r"""What was read and written, how, and the proof that nothing was lost.

    The digest of a set of records is the sum, modulo 2**128, of the XXH3-128
    of each record without its delimiter, so it does not depend on their order.
    With the `xxhash` package it is one line of Python, for a file whose records
    are lines::

        sum(xxh3_128_intdigest(line.removesuffix(b"\n")) for line in file) % 2**128

    A run that ends without an error has `digest` equal to `input_digest` and
    `records` equal to `input_records`, unless a sample, a fraction or epochs were asked
    for. A header is not among the records.

    Attributes
    ----------
    records, bytes : int
        Records written, and bytes written including the delimiters, before compression.
    digest : int
        Digest of the records written, taken from the destination's buffers.
    input_records, input_bytes : int
        Records and bytes read (once, however often the input was scanned).
    input_digest : int
        Digest of the records read.
    output_size : int
        Bytes that went to the destination, after compression.
    files : tuple of ShuffledFile
        The files of an output that is a set of them (shards, splits, one for each epoch);
        empty for one that is not.
    seed : int
        The seed of the order: the one given, or the one that was drawn.
    algorithm : int
        Version of the order's definition. The same input, seed and version give
        the same bytes, always.
    plan : ShufflePlan
        The plan that was followed.
    passes : int
        Passes over the inputs.
    seconds : mapping of str to float
        Seconds spent in each phase.
    peak_memory : int
        Most bytes of memory that the run held at one time.
    scratch_bytes : int
        Bytes that went to scratch.
    """

    records: int
    bytes: int
    digest: int
    input_records: int
    input_bytes: int
    input_digest: int
    output_size: int
    files: tuple[ShuffledFile, ...]
    seed: int
    algorithm: int
    plan: ShufflePlan
    passes: int
    seconds: Mapping[str, float] = field(hash=False)  # a dict, which has no hash
    peak_memory: int
    scratch_bytes: int

    @classmethod
    def _from_core(cls, raw: dict[str, Any]) -> Self:
        files = tuple(ShuffledFile._from_core(file) for file in raw["files"])
        return cls(**{**raw, "files": files, "plan": ShufflePlan(**raw["plan"])})

    @property
    def elapsed(self) -> float:
        """Seconds of the whole run."""
        return sum(self.seconds.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a dictionary that JSON can hold.

        The seed and the digests are strings (decimal, and 32 hexadecimal
        digits), because most readers of JSON keep 53 bits of a number.
        """
        result = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        result["seed"] = str(self.seed)
        result["digest"] = f"{self.digest:032x}"
        result["input_digest"] = f"{self.input_digest:032x}"
        result["files"] = [file.to_dict() for file in self.files]
        result["seconds"] = dict(self.seconds)
        result["plan"] = self.plan.to_dict()
        return result

    def to_json(self) -> str:
        """Return the report as one line of JSON."""
        return json.dumps(self.to_dict())

    def __str__(self) -> str:
        elapsed = self.elapsed
        rate = f" ({_size.human(int(self.input_bytes / elapsed))}/s)" if elapsed > 0 else ""
        # Epochs write more than was read, and then there is nothing to choose from.
        chosen = f" of {self.input_records:,}" if self.records < self.input_records else ""
        count = len(self.files)
        files = f" in {count:,} file{'s' * (count != 1)}" if count else ""
        return (
            f"{self.records:,}{chosen} records{files}, {_size.human(self.bytes)} "
            f"in {elapsed:.2f} s{rate}, "
            f"peak memory {_size.human(self.peak_memory)}, digest {self.digest:032x} verified"
        )
