"""The compiled core. Private: the public functions check and complete the arguments."""

from collections.abc import Callable
from typing import Any, Final, TypedDict, final

import numpy as np
import numpy.typing as npt

from corekit._how import Array, AttentionGradients, AttentionOptions, How, State
from corekit.shuffle._job import Job

__all__ = [
    "LEAST_EPS",
    "MOST_THREADS",
    "FeatureMap",
    "Projection",
    "RecordIterator",
    "RecordReader",
    "are_plain",
    "build_info",
    "chi_square_log_tails",
    "default_threads",
    "linear_attention",
    "linear_attention_step",
    "linear_attention_step_fast",
    "linear_attention_vjp",
    "may_overlap",
    "permutation",
    "shuffle_plan",
    "shuffle_run",
    "simd_level",
    "softmax_attention",
    "split_records",
]

LEAST_EPS: Final[float]
MOST_THREADS: Final[int]

class _BuildInfo(TypedDict):
    version: str
    profile: str
    target: str
    simd_level: str
    simd_levels: list[str]
    available_threads: int

@final
class Projection:
    def __new__(
        cls,
        n_features: int,
        n_components: int,
        *,
        law: str,
        seed: int,
        column_nnz: int,
        width: int | None,
        density: float,
    ) -> Projection: ...
    def project(self, x: Array, y: Array, how: How) -> None: ...
    def project_sparse(
        self,
        indptr: npt.NDArray[Any],
        indices: npt.NDArray[Any],
        values: Array,
        shape: tuple[int, int],
        by_columns: bool,
        y: Array,
        how: How,
    ) -> None: ...
    def columns(
        self, features: npt.NDArray[np.uint64], how: How
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], npt.NDArray[np.float64]]: ...
    def adjoint(self, y: Array, x: Array, how: How) -> None: ...
    def room(self, float64: bool) -> list[int]: ...

@final
class FeatureMap:
    def __new__(
        cls,
        name: str,
        *,
        n_features: int = 0,
        order: int = 0,
        orthogonal: bool = True,
        seed: int = 0,
    ) -> FeatureMap: ...
    def features_for(self, key_dim: int) -> int: ...
    def apply(self, x: Array, out: Array, scale: float, threads: int | None) -> None: ...
    def projection(self, key_dim: int) -> npt.NDArray[np.float64]: ...

def linear_attention(
    q: Array,
    k: Array,
    v: Array,
    out: Array,
    final: State | None,
    options: AttentionOptions,
) -> None: ...
def linear_attention_step(
    q: Array,
    k: Array,
    v: Array,
    out: Array,
    *,
    state: State,
    feature_map: FeatureMap,
    normalize: bool,
    eps: float,
    scale: float,
    decay: Array | None,
    threads: int | None,
) -> None: ...
def linear_attention_step_fast(
    state: object,
    q: object,
    k: object,
    v: object,
    out: object,
    decay: object,
    feature_map: object,
    normalize: object,
    eps: object,
    scale: object,
    threads: object,
) -> bool: ...
def linear_attention_vjp(
    q: Array,
    k: Array,
    v: Array,
    dout: Array,
    dfinal: State | None,
    to: AttentionGradients,
    options: AttentionOptions,
) -> None: ...
def softmax_attention(
    q: Array,
    k: Array,
    v: Array,
    out: Array,
    *,
    causal: bool,
    scale: float,
    cu_seqlens: npt.NDArray[np.int64] | None,
    key_mask: Array | None,
    threads: int | None,
) -> None: ...
def build_info() -> _BuildInfo: ...
def default_threads() -> int: ...
def simd_level() -> str: ...
def are_plain(read: tuple[object, ...], written: tuple[object, ...]) -> bool: ...
def may_overlap(array: npt.NDArray[Any], *others: npt.NDArray[Any]) -> bool: ...
def chi_square_log_tails(n_components: int, eps: float) -> tuple[float, float]: ...
def permutation(
    n: int, *, seed: int, stream: int, epoch: int, threads: int
) -> npt.NDArray[np.uint64]: ...
def shuffle_plan(job: Job) -> dict[str, Any]: ...
def shuffle_run(
    jobs: list[Job], progress: Callable[[int, int | None, str], object] | None
) -> list[dict[str, Any]]: ...
def split_records(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> list[bytes]: ...

@final
class RecordReader:
    def __new__(cls, job: Job) -> RecordReader: ...
    def is_usable(self) -> bool: ...
    def position(self) -> int: ...
    def records(self) -> int | None: ...
    def close(self) -> None: ...

@final
class RecordIterator:
    def __new__(
        cls,
        running: Callable[[], RecordReader],
        batches: tuple[int, Callable[..., object]] | None = None,
    ) -> RecordIterator: ...
    def __iter__(self) -> RecordIterator: ...
    def __next__(self) -> Any: ...
