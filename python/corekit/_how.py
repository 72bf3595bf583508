"""What the core takes with every call on arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypedDict

# An ndarray, and its dtype: "bfloat16" is stored as uint16.
Array: TypeAlias = tuple[Any, str]


class How(TypedDict):
    """How a call runs: its most threads, its instruction set, and who hears of its progress."""

    threads: int
    level: str | None
    progress: Callable[[int, int | None, str], object] | None
