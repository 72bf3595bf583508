"""The nursery: `python -m attentions.worker SOCKET`, in the peers' environment.

It draws the arrays of a case once and forks a worker for every tool (see `workers`).
"""

from __future__ import annotations

import gc
import os
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from attentions import tail
from attentions.cases import Shape
from attentions.flops import flops, moved_bytes
from attentions.inputs import Floats, Inputs, drawn
from attentions.registry import TOOLS
from attentions.tools import Job, Tool
from memory import Growth
from workers import nurse

# A turn is as many calls as fit in a time, two at least, and its median; the first of them is left
# out, for others have had the caches and the pages meanwhile.
TURN_CALLS = 200
LONG_SECONDS = 3.0  # a call that is longer is a turn by itself, and not repeated in its process

# Relative RMS error, above which an output is wrong and not only inexact.
TOLERANCES = {"bfloat16": 1e-2, "float64": 1e-12}
TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4
SAME_TOLERANCE = 1e-5  # between two calls of a peer

_INPUTS: dict[str, Inputs] = {}


class WrongError(Exception):
    """An output is not attention of its inputs."""


def main() -> None:
    """Draw the arrays and their references, then fork a worker whenever one is asked for."""
    nurse(_drawn, _Worker)


def _drawn(wanted: Mapping[str, Any]) -> dict[str, Any]:
    shape = Shape(**wanted["shape"])
    pairs = [(computes, layout) for computes, layout in wanted["pairs"] if computes != "none"]
    computed, layouts = [list(each) for each in zip(*pairs, strict=True)]
    inputs = _INPUTS["drawn"] = drawn(shape, layouts, computed)
    for computes, layout in pairs:
        if computes != "favor":
            inputs.reference(computes, layout)
    return {}


class _Worker:
    def __init__(self, request: Mapping[str, Any]) -> None:
        os.environ.update(request["environment"])
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: request["cpus"]])
        sys.path[:0] = request["import_from"]
        self._job = Job(
            _INPUTS["drawn"],
            request["computes"],
            request["layout"],
            request["threads"],
            request["chunk"],
            Path(request["folder"]),
        )
        self._turn_seconds: float = request["turn_seconds"]
        self._tool: Tool = TOOLS[request["tool"]](self._job)
        self._known: list[Floats] = []  # the sampled outputs of the first call
        self._long: float | None = None

    def facts(self) -> dict[str, Any]:
        job, tool = self._job, self._tool
        shape = job.inputs.shape
        return {
            "version": tool.version(),
            "modes": tool.modes,
            "chunk": tool.chunk,
            "flops": flops(job.computes, shape, tool.chunk),
            "bytes": moved_bytes(job.computes, shape, job.layout),
        }

    def do(self, request: Mapping[str, Any]) -> dict[str, Any]:
        step: str = request["do"]
        if step == "first":
            return self.first()
        return self.tail() if step == "tail" else self.steady(step)

    def first(self) -> dict[str, Any]:
        """Compute for the first time in this process, and judge the output."""
        gc.collect()
        growth = Growth(os.getpid())
        started = time.perf_counter()
        made = self._tool.apply(None)
        seconds = time.perf_counter() - started
        risen, anonymous = growth.bytes(), growth.anonymous_bytes()
        outputs = self._tool.outputs(made)
        if seconds > LONG_SECONDS:
            self._long = seconds
        own = sum(each.nbytes for each in outputs)
        return {
            "seconds": seconds,
            "growth_bytes": risen,
            "extra_bytes": max(0, anonymous - own),
            "error": self._judged(outputs),
        }

    def steady(self, mode: str) -> dict[str, Any]:
        """Compute again and again, and see that the output stays what it was."""
        if self._long is not None and mode == "new":
            seconds, self._long = self._long, None
            return {"seconds": seconds, "cpu_seconds": None, "calls": 1}
        tool = self._tool
        out = tool.prepare() if mode == "out" else None
        taken: list[float] = []
        cpu: list[float] = []
        made = None
        deadline = time.perf_counter() + self._turn_seconds
        while (
            not taken
            or (len(taken) == 1 and taken[0] < LONG_SECONDS)
            or (time.perf_counter() < deadline and len(taken) < TURN_CALLS)
        ):
            made = None  # given back before the next call, as in a loop over layers
            before = time.process_time()
            seconds, made = tool.timed(out)
            cpu.append((time.process_time() - before) / tool.calls)
            taken.append(seconds)
        if made is not None:
            self._check_same(tool.outputs(made))
        counted = slice(1, None) if len(taken) > 1 else slice(None)
        return {
            "seconds": statistics.median(taken[counted]),
            "cpu_seconds": statistics.fmean(cpu[counted]),
            "calls": len(taken[counted]) * tool.calls,
        }

    def tail(self) -> dict[str, Any]:
        """Time single calls beside a busy process."""
        tool: Any = self._tool
        return tail.measured(tool, tail.LONGER * self._turn_seconds)

    def _judged(self, outputs: Any) -> float:
        """Return the relative RMS error of an output, the greatest one of several."""
        job, errors = self._job, [0.0]
        references = self._tool.reference()
        if not references:
            return 0.0
        for array, wanted in zip(outputs, references, strict=True):
            found = job.inputs.sampled(job.computes, array)
            if found.shape != wanted.shape:
                raise WrongError(f"the output has shape {array.shape}")
            if not np.isfinite(np.asarray(array, dtype=np.float32)).all():
                raise WrongError("the output is not finite")
            errors.append(_relative(found, wanted))
            self._known.append(found)
        limit = GRADIENT_TOLERANCE if job.computes == "gradient" else TOLERANCE
        limit = TOLERANCES.get(job.layout, limit)
        if not max(errors) <= limit:
            raise WrongError(f"the output is off by {max(errors):.2g}, relative RMS")
        return max(errors)

    def _check_same(self, outputs: Any) -> None:
        for array, known in zip(outputs, self._known, strict=False):
            found = self._job.inputs.sampled(self._job.computes, array)
            same = np.array_equal(found, known) or (
                not self._tool.exact and _relative(found, known) < SAME_TOLERANCE
            )
            if not same:
                raise WrongError("the output is not that of the first call")


def _relative(found: Floats, wanted: Floats) -> float:
    return float(np.sqrt(np.mean((found - wanted) ** 2) / np.mean(wanted**2)))


if __name__ == "__main__":
    main()
