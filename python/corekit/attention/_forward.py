"""`linear_attention`: attention without softmax, in linear time."""

from __future__ import annotations

from typing import Any, Literal, overload

from corekit import _arrays as arrays
from corekit import _checks, _core
from corekit.attention import _call, _maps
from corekit.attention._maps import FeatureMap
from corekit.attention._state import State
from corekit.attention._tokens import Layout


@overload
def linear_attention(
    q: Any,
    k: Any,
    v: Any,
    *,
    causal: bool = True,
    feature_map: FeatureMap = None,
    normalize: bool = False,
    eps: float = 1e-6,
    scale: float | None = None,
    decay: Any = None,
    initial_state: State | None = None,
    return_state: Literal[False] = False,
    cu_seqlens: Any = None,
    key_mask: Any = None,
    chunk_size: int | None = None,
    layout: Layout = "bthd",
    out: Any = None,
    threads: int | None = None,
) -> Any: ...


@overload
def linear_attention(
    q: Any,
    k: Any,
    v: Any,
    *,
    causal: bool = True,
    feature_map: FeatureMap = None,
    normalize: bool = False,
    eps: float = 1e-6,
    scale: float | None = None,
    decay: Any = None,
    initial_state: State | None = None,
    return_state: Literal[True],
    cu_seqlens: Any = None,
    key_mask: Any = None,
    chunk_size: int | None = None,
    layout: Layout = "bthd",
    out: Any = None,
    threads: int | None = None,
) -> tuple[Any, State]: ...


def linear_attention(
    q: Any,
    k: Any,
    v: Any,
    *,
    causal: bool = True,
    feature_map: FeatureMap = None,
    normalize: bool = False,
    eps: float = 1e-6,
    scale: float | None = None,
    decay: Any = None,
    initial_state: State | None = None,
    return_state: bool = False,
    cu_seqlens: Any = None,
    key_mask: Any = None,
    chunk_size: int | None = None,
    layout: Layout = "bthd",
    out: Any = None,
    threads: int | None = None,
) -> Any:
    """Attend in linear time.

    Token by token, with a state S of m x V numbers a head, and z of m:

    - S_t = exp(g_t) S_{t-1} + phi(k_t) v_tᵀ
    - z_t = exp(g_t) z_{t-1} + phi(k_t)
    - o_t = scale S_tᵀ phi(q_t), or normalised
      o_t = S_tᵀ phi(q_t) / d, with d = phi(q_t)·z_t

    It is computed in chunks, by products of small matrices, and so is the gradient.

    Parameters
    ----------
    q : array of shape (B, T, H, D)
        Queries: NumPy array of any strides, torch CPU tensor, or another array with DLPack
        on the CPU, all without a copy. float16, bfloat16, float32 or float64.
    k : array of shape (B, T, H_kv, D)
        Keys, of the dtype of q. H is a multiple of H_kv: query head h uses key head
        h // (H / H_kv), and nothing is repeated in memory.
    v : array of shape (B, T, H_kv, V)
        Values, of the dtype of q.
    causal
        Whether token t attends only to tokens up to t. Otherwise to all of its sequence.
    feature_map
        phi: None or "identity"; "elu1" (elu + 1), "relu", "squared_relu", "exp"; "softmax"
        (over the coordinates of a head); or one that approximates softmax attention:
        `Favor`, `Taylor`, `ExponentialLimit`.
    normalize
        Whether to divide by d. Where abs(d) is below `eps`, by `eps` with the sign of d
        (+ for 0). A token that attends to nothing gets 0.
    eps
        The least magnitude of d: at least 2**-126, which suits `Favor`, whose d falls as
        exp(-(abs(q)**2 + abs(k)**2) / 2).
    scale
        D**-0.5 unless given. The maps that approximate softmax have it in the exponent,
        phi(sqrt(scale) q) and phi(sqrt(scale) k), where it must be above 0; with the
        others it multiplies the output, and is ignored when normalised.
    decay : array of shape (H_kv,), (B, T, H_kv) or (B, T, H_kv, D)
        g, natural logarithms, so at most 0, of any float dtype: one a head (RetNet), one a
        token and head, or one for each coordinate of k (GLA; not for maps that approximate
        softmax). -inf forgets all numbers before it, but not NaN and infinity. Requires
        ``causal=True``.
    initial_state : State
        The state before the first token, for each sequence: of shape (N, ...). Copied unless
        contiguous.
    return_state
        Whether to return the state after the last token, too.
    cu_seqlens : array of shape (N + 1,)
        int32 or int64. N sequences lie one after another, and B is 1: sequence n is tokens
        cu_seqlens[n] to cu_seqlens[n + 1] - 1. Starts with 0, ends with T, does not fall.
    key_mask : array of shape (B, T)
        bool. Where it is False a token is not attended to, adds nothing and does not decay,
        and its k, v and decay are not read: they may be NaN.
    chunk_size
        Tokens per chunk, 1 to 1024; chosen by shapes unless given. Results differ by
        rounding.
    layout
        "bthd", or "bhtd" where heads come before time, in all arrays but the states:
        decays are of shape (B, H_kv, T) or (B, H_kv, T, D).
    out : array of shape (B, T, H, V)
        Where to write, of the dtype of q and any strides; must not share memory with an
        input.
    threads
        The most threads to use; COREKIT_NUM_THREADS or all CPUs unless given.

    Returns
    -------
    out : array of shape (B, T, H, V)
        `out`, or an array of the library and the dtype of q.
    state : State
        With ``return_state=True``: to continue from, here or in `linear_attention_step`.

    Raises
    ------
    InvalidArgumentError
        Shapes that do not fit; a decay above 0 or NaN; wrong `cu_seqlens`; an `out` that
        is read-only or shares memory; an option out of its range, or one that needs
        another.
    ArgumentTypeError
        A dtype, or an object, that is not taken.
    OutOfMemoryError
        The system refused memory; or a state was given or asked for that is larger than 64
        MiB a head, which `Taylor` and `ExponentialLimit` do not keep.

    Notes
    -----
    O(T m V + T C (m + V)) time a head with chunks of C tokens, O(m V) memory a thread.
    `Favor` takes O(T m D) more. With a state that would pass 64 MiB, the polynomials take
    all pairs, O(T² D). C is 32, or 64 without causality and for large states and sequences.

    Sums and states are float32, float64 for float64. Results do not depend on threads. A
    sequence that is fed in pieces, each from the state of the one before, has the same
    results; to the bit where the chunk size is the same (the default is another one for more
    than 65,536 tokens) and pieces end at multiples of it. NaN and infinity
    stay in their sequence and head, and causally never reach earlier tokens.

    Contiguous NumPy arrays of float32 or float64, all of one shape, have the least overhead.

    References
    ----------
    Katharopoulos, Vyas, Pappas and Fleuret, "Transformers are RNNs: fast autoregressive
    transformers with linear attention", ICML 2020. https://arxiv.org/abs/2006.16236

    Yang, Wang, Shen, Panda and Kim, "Gated linear attention transformers with
    hardware-efficient training", ICML 2024. https://arxiv.org/abs/2312.06635

    Examples
    --------
    >>> import numpy as np
    >>> from corekit.attention import linear_attention
    >>> rng = np.random.default_rng(0)
    >>> q, k, v = rng.standard_normal((3, 1, 100, 4, 16), dtype=np.float32)
    >>> out, state = linear_attention(
    ...     q, k, v, feature_map="elu1", normalize=True, return_state=True
    ... )
    >>> out.shape, state.s.shape, state.z.shape
    ((1, 100, 4, 16), (1, 4, 16, 16), (1, 4, 16))

    In two pieces:

    >>> first, state = linear_attention(
    ...     q[:, :60], k[:, :60], v[:, :60], decay=[-0.1] * 4, return_state=True
    ... )
    >>> second = linear_attention(
    ...     q[:, 60:], k[:, 60:], v[:, 60:], decay=[-0.1] * 4, initial_state=state
    ... )
    >>> whole = linear_attention(q, k, v, decay=[-0.1] * 4)
    >>> np.allclose(np.concatenate([first, second], axis=1), whole, atol=1e-5)
    True
    """
    has_no_more = (
        decay is None
        and initial_state is None
        and return_state is False
        and cu_seqlens is None
        and key_mask is None
        and layout == "bthd"
    )
    if has_no_more and _core.are_plain((q, k, v), () if out is None else (out,)):
        # Short calls spend most of their time on checks, and these arrays need none.
        options = _call.numbers_of(
            _maps.check(feature_map), q.shape[3], causal, normalize, eps, scale, chunk_size, threads
        )
        into = arrays.empty(q.shape, q.dtype) if out is None else out
        _core.linear_attention(q, k, v, into, None, options)
        return into
    call = _call.read(
        q,
        k,
        v,
        causal=causal,
        feature_map=feature_map,
        normalize=normalize,
        eps=eps,
        scale=scale,
        decay=decay,
        initial_state=initial_state,
        cu_seqlens=cu_seqlens,
        key_mask=key_mask,
        chunk_size=chunk_size,
        layout=layout,
        threads=threads,
    )
    tokens = call.tokens
    final = None
    if _checks.switch("return_state", return_state):
        _call.refuse_large_state(call, "return_state")
        final = _call.new_state(call)
    to, given = arrays.output("out", out, tokens.out_shape(), tokens.q.dtype, tokens.q.wrap)
    if given is not None:
        arrays.refuse_overlap("out", to, call.named())
    _core.linear_attention(tokens.q, tokens.k, tokens.v, tokens.turned(to), final, call.options)
    result = to.wrap(to.values, to.dtype) if given is None else given
    return result if final is None else (result, final.wrapped())
