"""The order by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corekit import _checks, _core, _threads

# Half of the command's start would be spent on NumPy, which few calls need.
if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def permutation(
    n: int, *, seed: int, stream: int = 0, epoch: int = 0, threads: int | None = None
) -> npt.NDArray[np.uint64]:
    """Return the order itself: a uniformly random permutation of ``range(n)``.

    It is the order in which `shuffle_files` writes the n records of a file, so
    ``records[permutation(n, seed=seed)]`` is that output, for arrays as for lists.

    Parameters
    ----------
    n
        How many.
    seed
        ``0 <= seed < 2**128``, the key of the Philox generator.
    stream
        ``0 <= stream < 2**32``: independent permutations under one seed. It is the
        word of the counter that numbers the inputs of `shuffle_files`.
    epoch
        ``0 <= epoch < 2**32``: again independent permutations; those that
        `shuffle_files` takes for its `epochs`.
    threads
        As in `corekit.shuffle.shuffle_files`.

    Returns
    -------
    numpy.ndarray
        n unsigned 64-bit integers, the same as
        ``np.argsort(np.random.Philox(key=seed, counter=[0, 0, stream, epoch]).random_raw(n),
        kind="stable")``.

    Examples
    --------
    >>> permutation(4, seed=7).tolist()
    [1, 3, 2, 0]
    """
    # The core asks for NumPy's C interface and could only die without it; an import that
    # fails has the better message.
    import numpy as np  # noqa: F401

    return _core.permutation(
        _checks.integer("n", n, low=0, high=1 << 63),
        seed=_checks.integer("seed", seed, low=0, high=1 << 128),
        stream=_checks.integer("stream", stream, low=0, high=1 << 32),
        epoch=_checks.integer("epoch", epoch, low=0, high=1 << 32),
        threads=_threads.count(threads),
    )
