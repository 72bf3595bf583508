"""The nursery: `python -m projections.worker SOCKET`, in the peers' environment.

It reads the inputs of a case once and forks a worker for every tool (see `workers`).
"""

from __future__ import annotations

import gc
import importlib
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from memory import Growth
from projections.distortion import Sample, sample
from projections.tools import TOOLS, Job, Tool, arrays
from workers import nurse

# A turn of a quick tool is as many calls as fit in this time, and its median; the first of them is
# left out, for others have had the caches meanwhile. A call that is longer is a turn by itself.
TURN_SECONDS = 0.3
TURN_CALLS = 200

CHECKED_ROWS = 4  # of corekit's, against the formula
# Of a row's length: sums in float32 over some hundred terms; bfloat16 keeps 8 bits.
TOLERANCES = {"float64": 1e-12, "float32": 1e-5, "bfloat16": 2**-8}
# Bias of squared distances that one drawn matrix may have, in standard deviations of one distance.
BIAS_LIMIT = 3.0
SAME_TOLERANCE = 1e-3  # between two calls of a peer

Floats = npt.NDArray[np.float64]


class WrongError(Exception):
    """An output is not a projection of its input."""


_INPUTS: dict[str, Any] = {}


def main() -> None:
    """Read the inputs, then fork a worker whenever one is asked for."""
    nurse(_read, lambda request: _Worker(request, **_INPUTS))


def _read(wanted: Mapping[str, Any]) -> dict[str, Any]:
    path = Path(wanted["path"])
    inputs = _layouts(path, wanted["layouts"])
    base = inputs["csr" if path.suffix == ".npz" else "c"]
    _INPUTS.update(inputs=inputs, path=path, pairs=sample(base))
    return {"shape": list(base.shape), "entries": int(base.nnz if path.suffix == ".npz" else 0)}


def _layouts(path: Path, names: list[str]) -> dict[str, Any]:
    if path.suffix == ".npz":
        csr = importlib.import_module("scipy.sparse").load_npz(path)
        return {"csr": csr} | ({"csc": csr.tocsc()} if "csc" in names else {})
    c = np.load(path)
    makers: dict[str, Callable[[], Any]] = {
        "row": lambda: c[:1],
        "fortran": lambda: np.asfortranarray(c),
        "float64": lambda: c.astype(np.float64),
        "bfloat16": lambda: c.astype(importlib.import_module("ml_dtypes").bfloat16),
    }
    return {"c": c} | {name: make() for name, make in makers.items() if name in names}


class _Worker:
    def __init__(
        self, request: Mapping[str, Any], inputs: dict[str, Any], path: Path, pairs: Sample
    ) -> None:
        os.environ.update(request["environment"])
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: request["threads"]])
        sys.path[:0] = request["import_from"]
        self._role: str = request["role"]
        self._whole = request["layout"] != "row"
        self._pairs = pairs
        self._job = Job(
            inputs[request["layout"]], path, request["n_components"], request["threads"]
        )
        self._tool: Tool = TOOLS[request["tool"]](self._job)
        self._rows = pairs.rows if self._whole else np.zeros(1, dtype=np.intp)
        self._known: Floats | None = None  # the sampled rows of the output

    def facts(self) -> dict[str, Any]:
        return {
            "version": self._tool.version(),
            "modes": self._tool.modes,
            "input_bytes": sum(array.nbytes for array in arrays(self._job.x)),
            "output_bytes": self._tool.empty().nbytes,
        }

    def do(self, request: Mapping[str, Any]) -> dict[str, Any]:
        step: str = request["do"]
        if step == "fit":
            return self.fit(request["seed"])
        return self.first() if step == "first" else self.steady(step)

    def fit(self, seed: int) -> dict[str, Any]:
        started = time.perf_counter()
        self._tool.fit(seed)
        return {"seconds": time.perf_counter() - started}

    def first(self) -> dict[str, Any]:
        """Project for the first time in this process, and judge the output."""
        gc.collect()
        growth = Growth(self._tool.pid)
        seconds, made = self._tool.timed(None)
        risen = growth.bytes()
        answer: dict[str, Any] = {"seconds": seconds, "growth_bytes": risen}
        if self._role == "floor":
            return answer
        # What is not given back, as RandBLAS's array, was there before.
        own = 0 if made is None else sum(part.nbytes for part in arrays(self._tool.result(made)))
        answer["extra_bytes"] = max(0, risen - own)
        self._known = self._sampled(made)
        if not np.isfinite(self._known).all():
            raise WrongError("the output is not finite")
        self._check_formula(self._known)
        if self._whole:
            answer["distortion"] = found = self._pairs.measured(self._known * self._tool.scale)
            if abs(found["bias"]) > BIAS_LIMIT * np.sqrt(2 / self._job.n_components):
                raise WrongError(f"distances are off by {100 * found['bias']:.0f} % in the mean")
        return answer

    def steady(self, mode: str) -> dict[str, Any]:
        """Project again and again, and see that the output stays what it was."""
        out = None
        if mode == "out":
            out = self._tool.empty()
            out.fill(0)  # else the first call pays for its pages
        growth = Growth(self._tool.pid)
        seconds: list[float] = []
        cpu: list[float] = []
        made = None
        deadline = time.perf_counter() + TURN_SECONDS
        while not seconds or (time.perf_counter() < deadline and len(seconds) < TURN_CALLS):
            made = None  # given back before the next call, as in a loop over batches
            before = time.process_time()
            taken, made = self._tool.timed(out)
            cpu.append(time.process_time() - before)
            seconds.append(taken)
        if self._role != "floor":
            self._check_same(self._sampled(made))
        counted = slice(1, None) if len(seconds) > 1 else slice(None)
        return {
            "seconds": statistics.median(seconds[counted]),
            "cpu_seconds": statistics.fmean(cpu[counted]),
            "calls": len(seconds[counted]),
            "growth_bytes": growth.bytes(),
        }

    def _sampled(self, made: Any) -> Floats:
        result = self._tool.result(made)
        if result.shape != self._job.shape:
            raise WrongError(f"the output has shape {result.shape}, not {self._job.shape}")
        rows = result.tocsr()[self._rows].toarray() if hasattr(result, "tocsr") else None
        return np.asarray(result[self._rows] if rows is None else rows, dtype=np.float64)

    def _check_formula(self, sampled: Floats) -> None:
        """Compare a few rows of corekit's with what the published formula makes of them."""
        expected = getattr(self._tool, "expected", None)
        if expected is None:
            return
        x = self._job.x
        x = x.tocsr() if hasattr(x, "tocsr") else x
        some = np.linspace(0, len(self._rows) - 1, CHECKED_ROWS).astype(np.intp)
        rows = x[self._rows[some]].astype(np.float64)
        wanted = expected(rows)
        lengths = np.linalg.norm(wanted, axis=1, keepdims=True)
        error = float(np.max(np.abs(sampled[some] - wanted) / lengths))
        if not error <= TOLERANCES[x.dtype.name]:
            raise WrongError(f"rows differ from the formula by {error:.2g} of their length")

    def _check_same(self, sampled: Floats) -> None:
        if self._known is None:
            self._known = sampled
        elif hasattr(self._tool, "expected"):
            if not np.array_equal(sampled, self._known):
                raise WrongError("the output is not that of the first call")
        elif np.max(np.abs(sampled - self._known)) > SAME_TOLERANCE * np.max(np.abs(self._known)):
            raise WrongError("the output is not that of the first call")


if __name__ == "__main__":
    main()
