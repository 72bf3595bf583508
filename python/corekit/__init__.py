"""corekit: fast, exact kernels for data and models.

Table of contents
-----------------
`corekit.shuffle`
    Shuffle the records of files larger than memory: `shuffle_files`,
    `shuffle_aligned`, `plan`, `permutation`.
`corekit.projection`
    Project the rows of matrices to fewer columns that keep their distances:
    `SparseProjection`, the bounds of the lemma, and errors measured on given data.
`corekit.attention`
    Linear attention: `linear_attention`, `linear_attention_step`, their gradient, and softmax
    attention to compare with.
`corekit.sklearn`
    scikit-learn's random projections, with corekit's kernels; imported by itself.
`corekit.errors`
    The exceptions. All are `CorekitError`, and also the matching builtin.

The command line, ``corekit`` or ``python -m corekit``, is `corekit.cli`.

What every part promises: a result is a function of the input, the parameters and
the seed, never of threads, memory, chunk sizes or the machine (of attention, up to the
rounding of sums that chunks and instruction sets order otherwise); the random numbers
are those of ``numpy.random.Philox``; ``threads`` falls back to the environment's
COREKIT_NUM_THREADS and then to the CPUs this process may use; Ctrl-C ends long
work within a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from corekit import _core, errors, shuffle
from corekit.errors import CorekitError

if TYPE_CHECKING:
    from corekit import attention, projection

__all__ = ["CorekitError", "__version__", "attention", "errors", "projection", "shuffle"]

__version__: str = _core.build_info()["version"]


def __getattr__(name: str) -> Any:
    """Import what brings NumPy when it is first asked for."""
    if name in ("attention", "projection"):
        import importlib

        return importlib.import_module(f"corekit.{name}")
    raise AttributeError(f"module 'corekit' has no attribute {name!r}")
