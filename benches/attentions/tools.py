"""The registry: corekit and its peers, each as a class with the same few steps.

Made with a job, a tool loads its library and prepares what a user would have anyway; that is not
timed. `apply` computes with an output that the call allocates, or, after `prepare`, into what is
there already. Libraries are imported by name, for they are only in the peers' environment, and only
in the worker that needs them. Those of torch and JAX are in files of their own.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from attentions.cases import FAVOR_FEATURES
from attentions.inputs import Inputs
from workers import MissingError

FAST_TRANSFORMERS_VARIABLE = "COREKIT_BENCH_FAST_TRANSFORMERS"
LANE_BYTES = 64 << 20  # of an array that a floor's turn goes through at least
CHUNK = 32  # of corekit, for the causal shapes that are measured
# What a machine of each level can be lowered to.
SIMD_LEVELS = {
    "scalar": ("scalar",),
    "neon": ("scalar", "neon"),
    "avx2": ("scalar", "avx2"),
    "avx512": ("scalar", "avx2", "avx512"),
}

# Whether the output is allocated by the call, or there already.
Mode = Literal["new", "out"]


@dataclass(frozen=True)
class Job:
    """What is to be computed, of what, and how."""

    inputs: Inputs
    computes: str
    layout: str
    threads: int
    chunk: int
    folder: Path  # of programs that the bench has compiled

    @property
    def arrays(self) -> tuple[Any, Any, Any]:
        """q, k and v in the job's layout."""
        return self.inputs.layouts[self.layout]


class Tool(ABC):
    """One way to compute attention."""

    modes: ClassVar[tuple[Mode, ...]] = ("new", "out")
    package = ""  # the distribution that does the work
    exact = False  # whether every output must be the first one, to the bit
    calls = 1  # that are timed at once

    def __init__(self, job: Job) -> None:
        self.job = job
        self.chunk = job.chunk

    def prepare(self) -> Any:
        """Return what `apply` may be given to write to."""
        return None

    @abstractmethod
    def apply(self, out: Any) -> Any:
        """Compute, into `out` if it is not None."""

    def timed(self, out: Any) -> tuple[float, Any]:
        """Compute, and return the seconds that a call took and what came of it."""
        started = time.perf_counter()
        made = self.apply(out)
        return time.perf_counter() - started, made

    def outputs(self, made: Any) -> Sequence[Any]:
        """Return what came of it as arrays in ``[B, T, H, D]``."""
        array = np.asarray(made)
        return [array.transpose(0, 2, 1, 3) if self.job.layout == "bhtd" else array]

    def reference(self) -> Sequence[Any]:
        """Return what the sampled outputs must be."""
        return self.job.inputs.reference(self.job.computes, self.job.layout)

    def version(self) -> str:
        """Return name and version of what does the work."""
        return f"{self.package} {importlib.metadata.version(self.package)}"


class _Corekit(Tool):
    package = "corekit"
    exact = True

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.attention = library("corekit.attention")
        core = library("corekit._core")
        self._build = core.build_info()
        self._level = os.environ.get("COREKIT_SIMD", self._build["simd_level"])
        if self._level not in SIMD_LEVELS[self._build["simd_level"]]:
            raise MissingError(f"this machine has no {self._level}")
        self.chunk = CHUNK

    def version(self) -> str:
        return f"{super().version()}, {self._build['profile']}, {self._level}"


class Corekit(_Corekit):
    """corekit's linear and softmax attention."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.q, self.k, self.v = job.arrays
        layout = "bhtd" if job.layout == "bhtd" else "bthd"
        self._settings: dict[str, Any] = {"layout": layout, "threads": job.threads}
        self._function = self.attention.linear_attention
        if job.computes == "softmax":
            self._function = self.attention.softmax_attention
            return
        self._settings |= {"feature_map": "elu1", "normalize": True}
        if job.computes == "favor":
            self._settings["feature_map"] = self.attention.Favor(FAVOR_FEATURES, seed=1)
        elif job.computes == "full":
            self._settings["causal"] = False
        elif job.computes == "scalar-decay":
            self._settings["decay"] = job.inputs.scalar_decay
        elif job.computes == "vector-decay":
            self._settings["decay"] = job.inputs.vector_decay

    def prepare(self) -> Any:
        return np.zeros(self.q.shape, dtype=self.q.dtype)

    def apply(self, out: Any) -> Any:
        return self._function(self.q, self.k, self.v, out=out, **self._settings)

    def reference(self) -> Sequence[Any]:
        if self.job.computes != "favor":
            return super().reference()
        projection = self._settings["feature_map"].projection(self.q.shape[-1])
        return self.job.inputs.favor(projection)


class CorekitGradient(_Corekit):
    """A forward pass of corekit and the gradient, which computes the forward pass again."""

    def prepare(self) -> Any:
        forward, *backward = (np.zeros_like(self.job.arrays[2]) for _ in range(4))
        return forward, self.attention.Grads(*backward)

    def apply(self, out: Any) -> Any:
        settings = {"feature_map": "elu1", "normalize": True, "threads": self.job.threads}
        forward, backward = out or (None, None)
        self.attention.linear_attention(*self.job.arrays, out=forward, **settings)
        return self.attention.linear_attention_vjp(
            *self.job.arrays, self.job.inputs.dout, out=backward, **settings
        )

    def outputs(self, made: Any) -> Sequence[Any]:
        return [made.q, made.k, made.v]


class Step(Tool):
    """One token after the other; many of them are timed at once, for a call takes microseconds."""

    modes = ("out",)
    calls = 100

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.plain = job.computes == "plain-step"
        q, k, v = job.arrays
        self.tokens = [
            tuple(np.ascontiguousarray(x[:, t]) for x in (q, k, v)) for t in range(q.shape[1])
        ]

    @abstractmethod
    def call(self, token: Any) -> Callable[[], Any]:
        """Return what computes the output of a token, and changes the state, when called."""

    @abstractmethod
    def start(self) -> None:
        """Empty the state."""

    def apply(self, out: Any) -> Any:
        """Step through all tokens, to be judged."""
        self.start()
        shape = self.job.inputs.shape
        size = (shape.heads, shape.dim)
        # Copied: the next token's output takes the place of this one's.
        outputs = [np.array(self.call(token)()).reshape(size) for token in self.tokens]
        return np.stack(outputs)[None]

    def timed(self, out: Any) -> tuple[float, Any]:
        call = self.call(self.tokens[0])
        started = time.perf_counter()
        for _ in range(self.calls):
            call()
        return (time.perf_counter() - started) / self.calls, None


class CorekitStep(_Corekit, Step):
    """corekit's step on contiguous NumPy arrays, with an output."""

    modes = ("out",)

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._settings: dict[str, Any] = {"threads": job.threads}
        if not self.plain:
            self._settings |= {"feature_map": "elu1", "normalize": True}
        self._out = np.empty_like(self.tokens[0][2])

    def start(self) -> None:
        shape = self.job.inputs.shape
        settings = {name: word for name, word in self._settings.items() if name != "threads"}
        self._state = self.attention.State.zeros(1, shape.heads, shape.dim, shape.dim, **settings)

    def call(self, token: Any) -> Callable[[], Any]:
        step, state, out, settings = (
            self.attention.linear_attention_step,
            self._state,
            self._out,
            self._settings,
        )
        q, k, v = token
        return lambda: step(state, q, k, v, out=out, **settings)

    def with_threads(self, threads: int) -> Callable[[], Any]:
        """Return a call of the first token with a number of threads."""
        step, state, out = self.attention.linear_attention_step, self._state, self._out
        q, k, v = self.tokens[0]
        return lambda: step(state, q, k, v, out=out, threads=threads)


class FastTransformers(Tool):
    """The causal product of fast-transformers: a built module, named by a variable."""

    modes = ("new",)

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        place = os.environ.get(FAST_TRANSFORMERS_VARIABLE)
        if place is None:
            raise MissingError(f"{FAST_TRANSFORMERS_VARIABLE} names no folder")
        self._torch = library("torch")
        self._torch.set_num_threads(job.threads)
        folder, revision = Path(place), "unknown"
        spec = importlib.machinery.PathFinder.find_spec("causal_product_cpu", [str(folder)])
        if spec is None or spec.loader is None:
            raise MissingError(f"{FAST_TRANSFORMERS_VARIABLE} has no causal_product_cpu")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if (folder / "revision").exists():
            revision = (folder / "revision").read_text().strip()
        self._revision = revision
        self._product = module.causal_dot_product
        self.q, self.k, self.v = map(self._torch.from_numpy, job.arrays)

    def apply(self, out: Any) -> Any:
        torch = self._torch
        elu = torch.nn.functional.elu
        q, k = elu(self.q) + 1, elu(self.k) + 1
        product = torch.zeros_like(self.v)
        self._product(q, k, self.v, product)
        sums = torch.einsum("bhtd,bhtd->bht", q, k.cumsum(2))
        return product / sums[..., None]

    def version(self) -> str:
        return f"fast-transformers {self._revision}"


class _Floor(Tool):
    """What the machine can do at all."""

    modes: ClassVar[tuple[Mode, ...]] = ("new",)

    def reference(self) -> Sequence[Any]:
        return []


class Fma(_Floor):
    """Multiply-adds in registers; the seconds are those that 10**9 operations take."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._program = job.folder / "fma_peak"
        if not self._program.exists():
            raise MissingError("there is no C compiler")
        level = os.environ.get("COREKIT_SIMD", "best")
        kind = "double" if job.layout == "float64" else "float"
        self._argv = [str(self._program), level, kind, str(job.threads), "0.1"]
        self.apply(None)

    def apply(self, out: Any) -> Any:
        return self._told()[1]

    def timed(self, out: Any) -> tuple[float, Any]:
        return 1.0 / self._told()[1], None

    def _told(self) -> tuple[str, float]:
        done = subprocess.run(self._argv, capture_output=True, text=True)
        if done.returncode != 0:
            raise MissingError(done.stderr.strip() or f"exit code {done.returncode}")
        level, rate = done.stdout.split()
        return level, float(rate)

    def version(self) -> str:
        return f"multiply-adds, {self._told()[0]}"


class _Lanes(_Floor):
    """All threads at once, each with a piece of the arrays, often enough to outweigh the start."""

    package = "numpy"

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._pool = ThreadPoolExecutor(job.threads)
        self._source = [x.reshape(-1) for x in (job.inputs.q, job.inputs.k, job.inputs.v)]
        self.calls = max(1, LANE_BYTES // self._source[0].nbytes)

    def timed(self, out: Any) -> tuple[float, Any]:
        seconds, made = super().timed(out)
        return seconds / self.calls, made

    def _together(self, action: Callable[..., object], *arrays: Any) -> None:
        """Have every thread act on a piece of each of the arrays."""
        pieces = [np.array_split(array, self.job.threads) for array in arrays]

        def lane(*piece: Any) -> None:
            for _ in range(self.calls):
                action(*piece)

        list(self._pool.map(lane, *pieces))


class Read(_Lanes):
    """Read every byte of q, k and v once."""

    def apply(self, out: Any) -> Any:
        self._together(_read, *(array.view(np.uint64) for array in self._source))


class Copy(_Lanes):
    """Copy q to where the output of a call would be."""

    modes = ("out",)

    def prepare(self) -> Any:
        return np.zeros_like(self._source[0])

    def apply(self, out: Any) -> Any:
        self._together(_move, self._source[0], out)


def _read(*arrays: Any) -> None:
    for array in arrays:
        np.bitwise_or.reduce(array)


def _move(source: Any, target: Any) -> None:
    ctypes.memmove(target.ctypes.data, source.ctypes.data, source.nbytes)


def library(name: str) -> Any:
    """Return a module of the peers' environment."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingError(f"{name} cannot be imported: {error}") from error
