"""`linear_attention_step`: one more token, updating the state in place."""

from __future__ import annotations

from typing import Any

import numpy as np

from corekit import _arrays as arrays
from corekit import _checks, _core, _threads
from corekit.attention import _decay, _maps, _options, _state, _tokens
from corekit.attention._maps import FeatureMap
from corekit.attention._state import State


def linear_attention_step(
    state: State,
    q: Any,
    k: Any,
    v: Any,
    *,
    feature_map: FeatureMap = None,
    normalize: bool = False,
    eps: float = 1e-6,
    scale: float | None = None,
    decay: Any = None,
    out: Any = None,
    threads: int | None = None,
) -> Any:
    """Process one more token of each sequence, updating the state in place.

    What `linear_attention` does, for decoding: each token costs the same, however many came
    before.

    Parameters
    ----------
    state : State
        The state so far, from `linear_attention` or `State.zeros`; contiguous, aligned and
        writable. It is updated.
    q : array of shape (B, H, D)
        Queries, as in `linear_attention`.
    k : array of shape (B, H_kv, D)
        Keys, of the dtype of q.
    v : array of shape (B, H_kv, V)
        Values, of the dtype of q.
    feature_map, normalize, eps, scale
        As in `linear_attention`.
    decay : array of shape (H_kv,), (B, H_kv) or (B, H_kv, D)
        Natural logarithms, applied before the token is added.
    out : array of shape (B, H, V)
        Where to write, of the dtype of q; must not share memory with an input.
    threads
        The most threads to use; COREKIT_NUM_THREADS or all CPUs unless given. Small states
        are updated by the calling thread.

    Returns
    -------
    array of shape (B, H, V)
        `out`, or an array of the library and the dtype of q.

    Raises
    ------
    InvalidArgumentError
        Shapes that do not fit; a decay above 0 or NaN; a state or an `out` that cannot be
        written or shares memory; an option out of its range.
    ArgumentTypeError
        A dtype, or an object, that is not taken.
    OutOfMemoryError
        The map has no state of this size; or the system refused memory.

    Notes
    -----
    O(m V) time a head of k, and as much for each of q: the state is read and written once.
    A call with contiguous NumPy arrays of float32 or float64, a map by its name, and `out`
    has hardly any overhead.

    Examples
    --------
    >>> import numpy as np
    >>> from corekit.attention import State, linear_attention, linear_attention_step
    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 1, 50, 4, 16))
    >>> state = State.zeros(1, 4, 16, 16, dtype=np.float64)
    >>> outputs = [
    ...     linear_attention_step(state, q[:, t], k[:, t], v[:, t]) for t in range(50)
    ... ]
    >>> np.allclose(np.stack(outputs, axis=1), linear_attention(q, k, v))
    True
    """
    # The core takes plain arguments as they are, checks them, and says no to all others, which
    # have a better message coming.
    if type(q) is np.ndarray and _core.linear_attention_step_fast(
        state, q, k, v, out, decay, feature_map, normalize, eps, scale, threads
    ):
        return out
    return _checked(
        state, q, k, v, feature_map, normalize, eps, scale, decay, out, _threads.given(threads)
    )


def _checked(
    state: object,
    q: Any,
    k: Any,
    v: Any,
    feature_map: object,
    normalize: object,
    eps: object,
    scale: object,
    decay: Any,
    out: Any,
    threads: int | None,
) -> Any:
    tokens = _tokens.read_step(q, k, v)
    applied = _maps.check(feature_map)
    normalized = _checks.switch("normalize", normalize)
    least = _options.eps(eps)
    factor = _maps.scale_of(scale, tokens.key_dim, applied)
    decays = None if decay is None else _decay.read(decay, tokens, applied)
    _maps.refuse_large_state(
        applied,
        tokens.key_dim,
        tokens.value_dim,
        tokens.state_dtype,
        "linear_attention_step",
    )
    m = _maps.n_features(applied, tokens.key_dim)
    held = _state.read(
        "state",
        state,
        _state.Shape(tokens.batch, tokens.heads, m, tokens.value_dim),
        tokens.state_dtype,
        with_z=normalized,
        with_log_scale=_maps.keeps_log_scale(applied),
    )
    _state.refuse_unwritable("state", held)
    to, given = arrays.output("out", out, tokens.out_shape(), tokens.q.dtype, tokens.q.wrap)
    written = [(f"state.{field}", part) for field, part in held.parts()]
    if given is not None:
        arrays.refuse_overlap("out", to, held.named("state"))
        written.append(("out", to))
    read = tokens.named()
    if decays is not None:
        read["decay"] = decays.given.values
    for name, part in written:
        arrays.refuse_overlap(name, part, read)
    _core.linear_attention_step(
        tokens.q,
        tokens.k,
        tokens.v,
        to,
        state=held,
        feature_map=_maps.core_of(applied),
        normalize=normalized,
        eps=least,
        scale=factor,
        decay=None if decays is None else decays.handle,
        threads=threads,
    )
    return to.wrap(to.values, to.dtype) if given is None else given
