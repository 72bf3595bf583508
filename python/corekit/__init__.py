"""corekit: fast, exact kernels for data and models.

Table of contents
-----------------
`corekit.shuffle`
    Shuffle the records of files larger than memory: `shuffle_files`,
    `shuffle_aligned`, `plan`, `permutation`.
`corekit.errors`
    The exceptions. All are `CorekitError`, and the builtin that one would expect.

The command line, ``corekit`` or ``python -m corekit``, is `corekit.cli`.

What every part promises: a result is a function of the input, the parameters and
the seed, never of threads, memory, chunk sizes or the machine; the random numbers
are those of ``numpy.random.Philox``; ``threads`` falls back to the environment's
COREKIT_NUM_THREADS and then to the CPUs this process may use; Ctrl-C ends long
work within about a second.
"""

from corekit import _core, errors, shuffle
from corekit.errors import CorekitError

__all__ = ["CorekitError", "__version__", "errors", "shuffle"]

__version__: str = _core.build_info()["version"]
