"""`softmax_attention`: exact, to compare linear attention with."""

from __future__ import annotations

from typing import Any

from corekit import _arrays as arrays
from corekit import _checks, _core, _threads
from corekit.attention import _maps, _options, _tokens
from corekit.attention._tokens import Layout


def softmax_attention(
    q: Any,
    k: Any,
    v: Any,
    *,
    causal: bool = True,
    scale: float | None = None,
    cu_seqlens: Any = None,
    key_mask: Any = None,
    layout: Layout = "bthd",
    out: Any = None,
    threads: int | None = None,
) -> Any:
    """Attend by softmax, in quadratic time and linear memory.

    o_t = sum over s of w_ts v_s, where w_t is the softmax of scale q_t·k_s over the tokens s
    that t attends to.

    Parameters
    ----------
    q : array of shape (B, T, H, D)
        Queries, as in `linear_attention`.
    k : array of shape (B, T, H_kv, D)
        Keys, of the dtype of q; H is a multiple of H_kv.
    v : array of shape (B, T, H_kv, V)
        Values, of the dtype of q.
    causal
        Whether token t attends only to tokens up to t.
    scale
        D**-0.5 unless given.
    cu_seqlens, key_mask, layout, out, threads
        As in `linear_attention`.

    Returns
    -------
    array of shape (B, T, H, V)
        Of the library and the dtype of q, or `out`. 0 where a token attends to nothing.

    Raises
    ------
    InvalidArgumentError
        Shapes that do not fit, wrong `cu_seqlens`, an `out` that is read-only or shares
        memory, an option out of its range.
    ArgumentTypeError
        A dtype, or an object, that is not taken.
    OutOfMemoryError
        The system refused memory.

    Notes
    -----
    O(T² (D + V)) time a head, in tiles, with softmax computed online: no T x T matrix is
    there. Sums are float32, float64 for float64.

    References
    ----------
    Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018.
    https://arxiv.org/abs/1805.02867

    Dao, Fu, Ermon, Rudra and Ré, "FlashAttention: fast and memory-efficient exact attention
    with IO-awareness", NeurIPS 2022. https://arxiv.org/abs/2205.14135

    Examples
    --------
    >>> import numpy as np
    >>> from corekit.attention import Taylor, linear_attention, softmax_attention
    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 1, 50, 2, 4))
    >>> exact = softmax_attention(q, k, v, scale=0.1)
    >>> near = linear_attention(q, k, v, feature_map=Taylor(4), normalize=True, scale=0.1)
    >>> bool(abs(near - exact).max() < 1e-3)
    True
    """
    tokens = _tokens.read(q, k, v, layout)
    is_causal = _checks.switch("causal", causal)
    factor = _maps.scale_of(scale, tokens.key_dim)
    offsets = None if cu_seqlens is None else _options.offsets(cu_seqlens, tokens)
    mask = None if key_mask is None else _options.mask(key_mask, tokens)
    count = _threads.given(threads)
    to, given = arrays.output("out", out, tokens.out_shape(), tokens.q.dtype, tokens.q.wrap)
    if given is not None:
        read = tokens.named()
        if mask is not None:
            read["key_mask"] = mask
        arrays.refuse_overlap("out", to, read)
    _core.softmax_attention(
        tokens.q,
        tokens.k,
        tokens.v,
        tokens.turned(to),
        causal=is_causal,
        scale=factor,
        cu_seqlens=offsets,
        key_mask=_options.mask_handle(mask),
        threads=count,
    )
    return to.wrap(to.values, to.dtype) if given is None else given
