"""Outputs that are a set of files: when a path is a pattern, and into how many it is cut.

The core checks the fields of a pattern, ``{index}``, ``{split}`` and ``{epoch}``, and
fills them in. Here it is only decided whether a path is one.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from corekit import _checks, _size
from corekit.errors import InvalidArgumentError

_FIELD = re.compile(rb"\{(?:index|split|epoch)[^{}]*\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shards:
    """How each output is cut, at most one of them given."""

    shards: int | None
    shard_records: int | None
    shard_bytes: int | None

    @property
    def option(self) -> str | None:
        """The name of the one that is given."""
        return next((name for name in self.__slots__ if getattr(self, name) is not None), None)


def check(*, shards: object, shard_records: object, shard_bytes: object) -> Shards:
    """Check into what pieces the outputs are to be cut."""
    checked = Shards(
        shards=None if shards is None else count("shards", shards),
        shard_records=None if shard_records is None else count("shard_records", shard_records),
        shard_bytes=None if shard_bytes is None else size(shard_bytes),
    )
    _checks.exclusive(shards=shards, shard_records=shard_records, shard_bytes=shard_bytes)
    return checked


def count(name: str, value: object) -> int:
    """Check a number of files, or of records in a file."""
    return _checks.integer(name, value, low=1, high=1 << 63)


def size(shard_bytes: object) -> int:
    """Check the size of a file, which may be text."""
    if isinstance(shard_bytes, str):
        shard_bytes = _size.parse("shard_bytes", shard_bytes)
    elif isinstance(shard_bytes, bool) or not hasattr(shard_bytes, "__index__"):
        raise _checks.wrong_type("shard_bytes", 'an int or a str such as "256MiB"', shard_bytes)
    return count("shard_bytes", shard_bytes)


def is_pattern(
    name: str, output: bytes | int, *, shards: Shards, has_splits: bool, has_epochs: bool
) -> bool:
    """Whether an output is a pattern of many names.

    Without an option that makes many files a brace is a character as any other.
    Epochs alone may also follow each other in one file, so there the name decides.
    """
    if shards.option is not None:
        option, field = shards.option, "{index}"
    elif has_splits:
        option, field = "splits", "{split}"
    else:
        return has_epochs and isinstance(output, bytes) and b"{epoch" in output
    if isinstance(output, int):
        raise InvalidArgumentError(
            f"{name} must be a path with {field} in it when {option} is given, got a stream"
        )
    return True


def folder(pattern: bytes) -> bytes:
    """Return the directory that all files of a set lie in, or below."""
    directory = os.path.dirname(pattern)
    while _FIELD.search(directory):
        directory = os.path.dirname(directory)
    return directory
