"""How an output is compressed: what was asked for, or what its name says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from corekit import _checks
from corekit.errors import InvalidArgumentError

Codec: TypeAlias = tuple[str, int]


@dataclass(frozen=True, slots=True)
class _Kind:
    """One codec: the ending of names that means it, and its levels."""

    ending: bytes
    default: int
    lowest: int
    highest: int
    missing: int | None = None

    def has(self, level: int) -> bool:
        return self.lowest <= level <= self.highest and level != self.missing

    @property
    def levels(self) -> str:
        gap = "" if self.missing is None else f" without {self.missing}"
        return f"{self.lowest} to {self.highest}{gap}"


# Level 0 of zstd means its default one there, and would mean no compression to a reader.
_KINDS = {
    "gzip": _Kind(b".gz", default=6, lowest=0, highest=12),
    "zstd": _Kind(b".zst", default=3, lowest=-7, highest=22, missing=0),
}

_NEEDED = '"gzip", "zstd", either with a level as in "zstd:19", or "none"'
_LEVEL = re.compile("[+-]?[0-9]{1,4}", re.ASCII)


def codecs(compress: object, outputs: Sequence[bytes | int]) -> list[Codec | None]:
    """Return the codec of each output; without a wish, descriptors have none."""
    if compress is not None:
        return [asked_for(compress)] * len(outputs)
    return [None if isinstance(output, int) else _by_name(output) for output in outputs]


def asked_for(compress: object) -> Codec | None:
    """Return the codec and the level that a text names, None for "none"."""
    if not isinstance(compress, str):
        raise _checks.wrong_type("compress", f"a str: {_NEEDED}", compress)
    name, colon, level = compress.partition(":")
    if name == "none" and not colon:
        return None
    kind = _KINDS.get(name)
    if kind is None:
        raise InvalidArgumentError(f"compress must be {_NEEDED}, got {compress!r}")
    if not colon:
        return name, kind.default
    if not (_LEVEL.fullmatch(level) and kind.has(int(level))):
        raise InvalidArgumentError(
            f"compress must be {name} with a level of {kind.levels}, got {compress!r}"
        )
    return name, int(level)


def _by_name(output: bytes) -> Codec | None:
    for name, kind in _KINDS.items():
        if output.endswith(kind.ending):
            return name, kind.default
    return None
