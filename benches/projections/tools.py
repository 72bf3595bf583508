"""The registry: corekit and its peers, each as a class with the same four steps.

Made with a job, a tool loads its library and prepares what a user would have anyway; that is not
timed. `fit` draws the matrix. `apply` projects, into `out` where the tool can do that. Libraries
are imported by name, for they are only in the peers' environment, and only in the worker that
needs them.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import os
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from projections import formula
from projections.cases import COLUMN_NNZ
from workers import MissingError

RANDBLAS_VARIABLE = "COREKIT_BENCH_RANDBLAS"
# What a machine of each level can be lowered to.
SIMD_LEVELS = {
    "scalar": ("scalar",),
    "neon": ("scalar", "neon"),
    "avx2": ("scalar", "avx2"),
    "avx512": ("scalar", "avx2", "avx512"),
}

# Whether the output is allocated by the call, or given to it.
Mode = Literal["new", "out"]


@dataclass(frozen=True)
class Job:
    """What is to be projected. The path is that of the C-ordered float32 array, as .npy."""

    x: Any
    path: Path
    n_components: int
    threads: int

    @property
    def shape(self) -> tuple[int, int]:
        """The output's."""
        return (self.x.shape[0], self.n_components)


class Tool(ABC):
    """One way to project."""

    modes: ClassVar[tuple[Mode, ...]] = ("new",)
    scale = 1.0  # what the output lacks to keep lengths
    package = ""  # the distribution that does the work

    def __init__(self, job: Job) -> None:
        self.job = job
        self.pid = os.getpid()  # of the process that does the work

    @abstractmethod
    def fit(self, seed: int) -> None:
        """Draw the matrix."""

    @abstractmethod
    def apply(self, out: Any) -> Any:
        """Project, into `out` if it is not None."""

    def timed(self, out: Any) -> tuple[float, Any]:
        """Project, and return the seconds that it took and what came of it."""
        started = time.perf_counter()
        made = self.apply(out)
        return time.perf_counter() - started, made

    def empty(self) -> Any:
        """Return an array that `apply` may be given to write to."""
        return np.empty(self.job.shape, dtype=np.float32)

    def result(self, made: Any) -> Any:
        """Return what came of projecting as a dense or sparse matrix."""
        return made if hasattr(made, "tocsr") else np.asarray(made)

    def version(self) -> str:
        """Return name and version of what does the work."""
        return f"{self.package} {importlib.metadata.version(self.package)}"


class Corekit(Tool):
    """corekit's operator; a table that it builds for sparse input is kept from call to call."""

    modes = ("new", "out")
    package = "corekit"
    kind: ClassVar[str] = "block-stack"

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._law = _library("corekit.projection").SparseProjection
        self._build = _library("corekit._core").build_info()
        self._level = os.environ.get("COREKIT_SIMD", self._build["simd_level"])
        if self._level not in SIMD_LEVELS[self._build["simd_level"]]:
            raise MissingError(f"this machine has no {self._level}")
        self.seed = 0
        self.operator: Any = None

    def fit(self, seed: int) -> None:
        self.seed = seed
        self.operator = self._made()

    def _made(self) -> Any:
        settings = {"column_nnz": COLUMN_NNZ} if self.kind == "block-stack" else {}
        features = self.job.x.shape[1]
        return self._law(
            features, self.job.n_components, kind=self.kind, seed=self.seed, **settings
        )

    def apply(self, out: Any) -> Any:
        return self.operator.project(self.job.x, out=out, threads=self.job.threads)

    def empty(self) -> Any:
        return np.empty(self.job.shape, dtype=self.job.x.dtype)

    def version(self) -> str:
        return f"{super().version()}, {self._build['profile']}, {self._level}"

    def expected(self, rows: Any) -> Any:
        """Return what some rows of the input must become."""
        if self.kind == "block-stack":
            return formula.block_stack(rows, self.job.n_components, COLUMN_NNZ, self.seed)
        if self.kind == "srht":
            return formula.srht(rows, self.job.n_components, self.seed)
        return np.asarray(rows, dtype=np.float64) @ self.operator.to_dense().T


class CorekitFresh(Corekit):
    """The same, but every call makes its operator, and so its table, anew."""

    def apply(self, out: Any) -> Any:
        return self._made().project(self.job.x, out=out, threads=self.job.threads)


class CorekitGaussian(Corekit):
    """corekit's Gaussian law, of which no matrix is stored."""

    kind = "gaussian"


class CorekitSrht(Corekit):
    """corekit's randomised Hadamard transform."""

    kind = "srht"


class SklearnSparse(Tool):
    """scikit-learn's transformer with its own density, and dense output from sparse input."""

    package = "scikit-learn"
    module: ClassVar[str] = "sklearn.random_projection"
    name: ClassVar[str] = "SparseRandomProjection"
    settings: ClassVar[Mapping[str, Any]] = {"density": "auto", "dense_output": True}

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._estimator = getattr(_library(self.module), self.name)
        self.model: Any = None

    def fit(self, seed: int) -> None:
        k = self.job.n_components
        self.model = self._estimator(n_components=k, random_state=seed, **self.settings)
        self.model.fit(self.job.x)

    def apply(self, out: Any) -> Any:
        return self.model.transform(self.job.x)


class CorekitSklearn(SklearnSparse):
    """corekit's transformer of the same name: what a changed import brings."""

    package = "corekit"
    module = "corekit.sklearn"


class SklearnGaussian(SklearnSparse):
    """scikit-learn's Gaussian transformer."""

    name = "GaussianRandomProjection"
    settings: ClassVar[Mapping[str, Any]] = {}


class NumpyMatmul(Tool):
    """A product with a Gaussian matrix that is kept."""

    modes = ("new", "out")
    package = "numpy"

    def fit(self, seed: int) -> None:
        shape = (self.job.n_components, self.job.x.shape[1])
        drawn = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
        self.matrix = drawn / np.float32(np.sqrt(self.job.n_components))

    def apply(self, out: Any) -> Any:
        return np.matmul(self.job.x, self.matrix.T, out=out)


class JaxMatmul(Tool):
    """The same product by XLA, compiled, with the input where JAX wants it."""

    package = "jax"

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._jax = _library("jax")
        self._x = self._jax.device_put(job.x)
        self._product = self._jax.jit(lambda x, matrix: x @ matrix.T)

    def fit(self, seed: int) -> None:
        shape = (self.job.n_components, self.job.x.shape[1])
        drawn = self._jax.random.normal(self._jax.random.key(seed), shape, dtype=np.float32)
        self.matrix = (drawn / np.sqrt(self.job.n_components)).block_until_ready()

    def apply(self, out: Any) -> Any:
        return self._product(self._x, self.matrix).block_until_ready()


class ScipyCwt(Tool):
    """scipy's CountSketch, which draws its matrix in every call and sketches from the left."""

    package = "scipy"

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._linalg = _library("scipy.linalg")
        self.seed = 0

    def fit(self, seed: int) -> None:
        self.seed = seed

    def apply(self, out: Any) -> Any:
        k = self.job.n_components
        return self._linalg.clarkson_woodruff_transform(self.job.x.T, k, rng=self.seed).T


class FaissRotation(Tool):
    """faiss's random rotation: orthonormal rows, so lengths shrink by a known factor."""

    modes = ("new", "out")
    package = "faiss-cpu"

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._faiss = _library("faiss")
        self._faiss.omp_set_num_threads(job.threads)
        self.scale = float(np.sqrt(job.x.shape[1] / job.n_components))

    def fit(self, seed: int) -> None:
        self.rotation = self._faiss.RandomRotationMatrix(self.job.x.shape[1], self.job.n_components)
        self.rotation.init(seed)

    def apply(self, out: Any) -> Any:
        if out is None:
            return self.rotation.apply(self.job.x)
        pointer = self._faiss.swig_ptr
        self.rotation.apply_noalloc(self.job.x.shape[0], pointer(self.job.x), pointer(out))
        return out


class RandBlas(Tool):
    """A program around RandBLAS, named by a variable; it sketches into an array of its own."""

    modes = ("out",)

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        program = os.environ.get(RANDBLAS_VARIABLE)
        if program is None:
            raise MissingError(f"{RANDBLAS_VARIABLE} names no program")
        self._file = tempfile.NamedTemporaryFile(suffix=".f32")  # noqa: SIM115
        sizes = [*job.x.shape, job.n_components, COLUMN_NNZ, job.threads]
        self._process = subprocess.Popen(
            [program, str(job.path), self._file.name, *map(str, sizes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(job.threads)},
        )
        self._version = self._told()
        self.pid = self._process.pid

    def fit(self, seed: int) -> None:
        self._ask(f"fit {seed}")

    def apply(self, out: Any) -> Any:
        """Sketch without the time that the program says."""
        self._ask("sketch")

    def timed(self, out: Any) -> tuple[float, Any]:
        return self._ask("sketch"), None

    def result(self, made: Any) -> Any:
        self._ask("write")
        return np.fromfile(self._file.name, dtype=np.float32).reshape(self.job.shape)

    def _ask(self, request: str) -> float:
        """Return the seconds that the program says a request took."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{request}\n")
        self._process.stdin.flush()
        return float(self._told())

    def _told(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise OSError(f"the program around RandBLAS ends by {self._process.wait()}")
        return line.strip()

    def version(self) -> str:
        return self._version


class _Lanes(Tool):
    """What the bound is made of: all threads at once, each with a piece."""

    package = "numpy"

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._pool = ThreadPoolExecutor(job.threads)

    def fit(self, seed: int) -> None:
        """Nothing is drawn."""

    def _together(self, action: Callable[[Any], object], array: Any) -> None:
        list(self._pool.map(action, np.array_split(array, self.job.threads)))


class ReadX(_Lanes):
    """Read every byte of the input once."""

    def apply(self, out: Any) -> Any:
        for array in arrays(self.job.x):
            flat = array.reshape(-1).view(np.uint8)
            whole = flat[: len(flat) // 8 * 8].view(np.uint64)
            self._together(np.bitwise_or.reduce, whole)


class WriteY(_Lanes):
    """Write every byte of an output once that has been written before."""

    def fit(self, seed: int) -> None:
        self.target = np.ones(self.job.shape, dtype=np.float32)

    def apply(self, out: Any) -> Any:
        self._together(_set, self.target)


def _set(array: Any) -> None:
    ctypes.memset(array.ctypes.data, 0, array.nbytes)


def arrays(x: Any) -> tuple[Any, ...]:
    """Return the arrays that an input consists of."""
    return (x.data, x.indices, x.indptr) if hasattr(x, "indptr") else (x,)


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingError(f"{name} cannot be imported: {error}") from error


TOOLS: dict[str, Callable[[Job], Tool]] = {
    "corekit": Corekit,
    "corekit-fresh": CorekitFresh,
    "corekit-gaussian": CorekitGaussian,
    "corekit-srht": CorekitSrht,
    "corekit-sklearn": CorekitSklearn,
    "sklearn-sparse": SklearnSparse,
    "sklearn-gaussian": SklearnGaussian,
    "numpy-matmul": NumpyMatmul,
    "jax-matmul": JaxMatmul,
    "scipy-cwt": ScipyCwt,
    "faiss-rotation": FaissRotation,
    "randblas": RandBlas,
    "read-x": ReadX,
    "write-y": WriteY,
}
