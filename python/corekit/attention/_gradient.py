"""`linear_attention_vjp`: gradients of all inputs from that of the output."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

from corekit import _arrays as arrays
from corekit import _checks, _core
from corekit.attention import _call, _maps, _state, _tokens
from corekit.attention._maps import FeatureMap
from corekit.attention._state import State
from corekit.attention._tokens import Layout


class Grads(NamedTuple):
    """Gradients of the inputs of `linear_attention`.

    Attributes
    ----------
    q, k, v : arrays
        Of their shapes and dtype, in their layout.
    decay : array or None
        Of the shape and dtype of the decay; None where none was given.
    initial_state : State or None
        Of the arrays `s` and `z` of the initial state; None where none was given.
    """

    q: Any
    k: Any
    v: Any
    decay: Any = None
    initial_state: State | None = None


def linear_attention_vjp(
    q: Any,
    k: Any,
    v: Any,
    dout: Any,
    *,
    dstate: State | None = None,
    causal: bool = True,
    feature_map: FeatureMap = None,
    normalize: bool = False,
    eps: float = 1e-6,
    scale: float | None = None,
    decay: Any = None,
    initial_state: State | None = None,
    cu_seqlens: Any = None,
    key_mask: Any = None,
    chunk_size: int | None = None,
    layout: Layout = "bthd",
    out: Grads | None = None,
    threads: int | None = None,
) -> Grads:
    """Take the gradient of `linear_attention` back to its inputs.

    Of L = sum(dout * out) + sum(dstate.s * state.s) + sum(dstate.z * state.z), for the out
    and state that ``linear_attention(..., return_state=True)`` returns. They need not be
    kept: what is needed of the forward pass is computed again.

    Parameters
    ----------
    q, k, v
        As in `linear_attention`.
    dout : array of shape (B, T, H, V)
        The gradient of the output, in the layout and of the dtype of q.
    dstate : State
        That of the state after the last token, `z` with ``normalize=True``; its `log_scale`
        is None. None where the state is not used.
    causal, feature_map, normalize, eps, scale, decay, initial_state, cu_seqlens, key_mask
        As they were in `linear_attention`.
    chunk_size, layout, threads
        As in `linear_attention`.
    out : Grads
        Where to write the gradients of q, k and v: arrays of their shapes and dtype with any
        strides, which must share no memory with an input or with one another. Its other
        fields are not looked at, so that a loop may give back what it got.

    Returns
    -------
    Grads
        The gradients, of the library of q; those of q, k and v are the arrays of `out`.

    Raises
    ------
    InvalidArgumentError, ArgumentTypeError
        As in `linear_attention`.
    OutOfMemoryError
        The system refused memory; or the map has no state of this size.

    Notes
    -----
    O(T m V) time, about three times that of the forward pass. The memory beyond the
    gradients is at most that of q, k and v, for which those of 16 bits count as float32
    where `decay` is a number for each coordinate.

    Masked tokens have gradients 0. A d that `eps` took the place of counts as constant, and
    so does the `log_scale` of states. Relus have gradient 0 at 0.

    Examples
    --------
    >>> import numpy as np
    >>> from corekit.attention import linear_attention, linear_attention_vjp
    >>> rng = np.random.default_rng(0)
    >>> q, k, v, dout, direction = rng.standard_normal((5, 1, 30, 2, 8))
    >>> options = {"feature_map": "elu1", "normalize": True}
    >>> grads = linear_attention_vjp(q, k, v, dout, **options)
    >>> step = 1e-5 * direction
    >>> change = linear_attention(q, k + step, v, **options)
    >>> change -= linear_attention(q, k - step, v, **options)
    >>> np.allclose((change * dout).sum() / 2e-5, (grads.k * direction).sum())
    True
    """
    has_no_more = (
        dstate is None
        and decay is None
        and initial_state is None
        and cu_seqlens is None
        and key_mask is None
        and layout == "bthd"
        and (out is None or isinstance(out, Grads))
    )
    if has_no_more and _core.are_plain((q, k, v, dout), () if out is None else out[:3]):
        # As in `linear_attention`.
        applied = _maps.check(feature_map)
        _maps.refuse_large_state(applied, q.shape[3], v.shape[3], q.dtype, "linear_attention_vjp")
        options = _call.numbers_of(
            applied, q.shape[3], causal, normalize, eps, scale, chunk_size, threads
        )
        dq, dk, dv = (arrays.empty(q.shape, q.dtype) for _ in range(3)) if out is None else out[:3]
        _core.linear_attention_vjp(
            q,
            k,
            v,
            dout,
            None,
            {"q": dq, "k": dk, "v": dv, "decay": None, "initial": None},
            options,
        )
        return Grads(dq, dk, dv)
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
    _call.refuse_large_state(call, "linear_attention_vjp")
    given = _tokens.read_like("dout", dout, tokens)
    dfinal = None if dstate is None else _call.read_state("dstate", dstate, call, is_gradient=True)
    targets = _targets(call, out)
    if out is not None:
        _refuse_overlap(call, targets, given, dfinal)
    dq, dk, dv = (tokens.turned(to) for to, _ in targets)
    ddecay = None
    if call.decay is not None:
        shape = call.decay.gradient_shape()
        ddecay = arrays.new(shape, tokens.state_dtype, tokens.q.wrap)
    dinitial = None if call.initial is None else _call.new_state(call, is_gradient=True)
    _core.linear_attention_vjp(
        tokens.q,
        tokens.k,
        tokens.v,
        given,
        None if dfinal is None else _state.contiguous(dfinal),
        {"q": dq, "k": dk, "v": dv, "decay": ddecay, "initial": dinitial},
        call.options,
    )
    wrap = tokens.q.wrap
    grads = Grads(*[wrap(to.values, to.dtype) if shown is None else shown for to, shown in targets])
    if call.decay is not None and ddecay is not None:
        grads = grads._replace(decay=call.decay.gradient(ddecay.values, wrap))
    if dinitial is not None:
        grads = grads._replace(initial_state=dinitial.wrapped())
    return grads


# An array in the caller's layout, and as the caller gave it.
_Target: TypeAlias = tuple[arrays.Dense, Any]


def _targets(call: _call.Call, out: object) -> list[_Target]:
    """Return where the gradients of q, k and v go, new arrays where no others are given."""
    if out is not None and not isinstance(out, Grads):
        raise _checks.wrong_type("out", "Grads", out)
    tokens = call.tokens
    found = []
    for name, part in (("q", tokens.q), ("k", tokens.k), ("v", tokens.v)):
        shape = tokens.turned(part).shape
        given = None if out is None else getattr(out, name)
        if given is None and out is not None:
            raise _checks.wrong_type(f"out.{name}", "an array", given)
        found.append(arrays.output(f"out.{name}", given, shape, part.dtype, part.wrap))
    return found


def _refuse_overlap(
    call: _call.Call, targets: list[_Target], dout: arrays.Dense, dstate: _state.Held | None
) -> None:
    """Refuse gradients that share memory with what is read, or with one another."""
    read = call.named() | {"dout": dout.values}
    if dstate is not None:
        read |= dstate.named("dstate")
    for name, (to, _) in zip(("out.q", "out.k", "out.v"), targets, strict=True):
        arrays.refuse_overlap(name, to, read)
        read[name] = to.values
