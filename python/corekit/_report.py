"""What a shuffle did."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from corekit import _size
from corekit._plan import ShufflePlan


@dataclass(frozen=True, slots=True, kw_only=True)
class ShuffleReport:
    r"""What was read and written, how, and the proof that nothing was lost.

    The digest of a set of records is the sum, modulo 2**128, of the XXH3-128
    of each record without its delimiter, so it does not depend on their order.
    With the `xxhash` package it is one line of Python, for a file whose records
    are lines::

        sum(xxh3_128_intdigest(line.removesuffix(b"\n")) for line in file) % 2**128

    A run that ends without an error has `digest` equal to `input_digest` and
    `records` equal to `input_records`, unless a sample was asked for.

    Attributes
    ----------
    records, bytes : int
        Records written, and bytes written including the delimiters.
    digest : int
        Digest of the records written, taken from the destination's buffers.
    input_records, input_bytes : int
        Records and bytes read (once, however often the input was scanned).
    input_digest : int
        Digest of the records read.
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
    seed: int
    algorithm: int
    plan: ShufflePlan
    passes: int
    seconds: Mapping[str, float] = field(hash=False)  # a dict, which has no hash
    peak_memory: int
    scratch_bytes: int

    @classmethod
    def _from_core(cls, raw: dict[str, Any]) -> ShuffleReport:
        return cls(**{**raw, "plan": ShufflePlan(**raw["plan"])})

    @property
    def elapsed(self) -> float:
        """Seconds of the whole run."""
        return self.seconds.get("total", sum(self.seconds.values()))

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a dictionary that JSON can hold.

        The seed and the digests are strings (decimal, and 32 hexadecimal
        digits), because most readers of JSON keep 53 bits of a number.
        """
        result = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        result["seed"] = str(self.seed)
        result["digest"] = f"{self.digest:032x}"
        result["input_digest"] = f"{self.input_digest:032x}"
        result["seconds"] = dict(self.seconds)
        result["plan"] = self.plan.to_dict()
        return result

    def to_json(self) -> str:
        """Return the report as one line of JSON."""
        return json.dumps(self.to_dict())

    def __str__(self) -> str:
        elapsed = self.elapsed
        rate = f" ({_size.human(int(self.input_bytes / elapsed))}/s)" if elapsed > 0 else ""
        chosen = "" if self.records == self.input_records else f" of {self.input_records:,}"
        return (
            f"{self.records:,}{chosen} records, {_size.human(self.bytes)} "
            f"in {elapsed:.2f} s{rate}, "
            f"peak memory {_size.human(self.peak_memory)}, digest {self.digest:032x} verified"
        )
