"""What the core takes with every call on arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt

from corekit import _core

# An ndarray of float32 or float64; or an ndarray, its dtype ("bfloat16" is stored as uint16), and
# what the core does not look at.
Array: TypeAlias = npt.NDArray[Any] | tuple[Any, str, *tuple[Any, ...]]

# A state: s, z and log_scale.
State: TypeAlias = tuple[Array, Array | None, Array | None]


class How(TypedDict):
    """How a call runs: its most threads, and who hears of its progress."""

    threads: int
    progress: Callable[[int, int | None, str], object] | None


class AttentionOptions(TypedDict):
    """What linear attention and its gradient take beside q, k and v."""

    feature_map: _core.FeatureMap
    causal: bool
    normalize: bool
    eps: float
    scale: float
    decay: Array | None
    initial: State | None
    cu_seqlens: npt.NDArray[np.int64] | None
    key_mask: Array | None
    chunk_size: int | None
    threads: int | None


class AttentionGradients(TypedDict):
    """Where the gradients of linear attention go."""

    q: Array
    k: Array
    v: Array
    decay: Array | None
    initial: State | None
