"""What a call on a sequence is made of: all arguments, checked, as the core takes them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from corekit import _arrays as arrays
from corekit import _checks, _threads
from corekit._how import AttentionOptions
from corekit.attention import _decay, _maps, _options, _state, _tokens
from corekit.errors import InvalidArgumentError


class Call(NamedTuple):
    """The arguments that the forward pass and the gradient share."""

    tokens: _tokens.Tokens
    feature_map: _maps.Checked
    decay: _decay.Decay | None
    initial: _state.Held | None
    key_mask: npt.NDArray[np.bool_] | None
    options: AttentionOptions

    @property
    def state_shape(self) -> _state.Shape:
        """The shape of the states before and after."""
        tokens, offsets = self.tokens, self.options["cu_seqlens"]
        return _state.Shape(
            tokens.batch if offsets is None else len(offsets) - 1,
            tokens.heads,
            _maps.n_features(self.feature_map, tokens.key_dim),
            tokens.value_dim,
        )

    def named(self) -> dict[str, arrays.Array]:
        """Return all arrays that are read by their names."""
        named = self.tokens.named()
        if self.decay is not None:
            named["decay"] = self.decay.given.values
        if self.key_mask is not None:
            named["key_mask"] = self.key_mask
        if self.initial is not None:
            named |= self.initial.named("initial_state")
        return named


def read(
    q: Any,
    k: Any,
    v: Any,
    *,
    causal: object,
    feature_map: object,
    normalize: object,
    eps: object,
    scale: object,
    decay: Any,
    initial_state: object,
    cu_seqlens: Any,
    key_mask: Any,
    chunk_size: object,
    layout: object,
    threads: object,
) -> Call:
    """Check the arguments of a call."""
    tokens = _tokens.read(q, k, v, layout)
    is_causal = _checks.switch("causal", causal)
    applied = _maps.check(feature_map)
    mask = None if key_mask is None else _options.mask(key_mask, tokens)
    if decay is not None and not is_causal:
        raise InvalidArgumentError(
            "decay must be None with causal=False, where no token comes before another, got "
            f"one of type {type(decay).__name__}"
        )
    options = numbers_of(
        applied, tokens.key_dim, is_causal, normalize, eps, scale, chunk_size, threads
    )
    read_decay = None if decay is None else _decay.read(decay, tokens, applied, mask)
    if read_decay is not None:
        options["decay"] = read_decay.handle
    if cu_seqlens is not None:
        options["cu_seqlens"] = _options.offsets(cu_seqlens, tokens)
    if mask is not None:
        options["key_mask"] = _options.mask_handle(mask)
    call = Call(tokens, applied, read_decay, None, mask, options)
    if initial_state is None:
        return call
    refuse_large_state(call, "initial_state")
    initial = _state.contiguous(read_state("initial_state", initial_state, call))
    options["initial"] = initial
    return call._replace(initial=initial)


def numbers_of(
    feature_map: _maps.Checked,
    key_dim: int,
    causal: object,
    normalize: object,
    eps: object,
    scale: object,
    chunk_size: object,
    threads: object,
) -> AttentionOptions:
    """Check the options that every call has; those with arrays are None."""
    return {
        "feature_map": _maps.core_of(feature_map),
        "causal": _checks.switch("causal", causal),
        "normalize": _checks.switch("normalize", normalize),
        "eps": _options.eps(eps),
        "scale": _maps.scale_of(scale, key_dim, feature_map),
        "decay": None,
        "initial": None,
        "cu_seqlens": None,
        "key_mask": None,
        "chunk_size": _options.chunk(chunk_size),
        "threads": _threads.given(threads),
    }


def read_state(name: str, given: object, call: Call, *, is_gradient: bool = False) -> _state.Held:
    """Check a state that goes with a call; that of a gradient has no `log_scale`."""
    return _state.read(
        name,
        given,
        call.state_shape,
        call.tokens.state_dtype,
        with_z=call.options["normalize"],
        with_log_scale=_maps.keeps_log_scale(call.feature_map) and not is_gradient,
        is_gradient=is_gradient,
    )


def new_state(call: Call, *, is_gradient: bool = False) -> _state.Held:
    """Return a state that the core is to fill."""
    return _state.new(
        call.state_shape,
        call.tokens.state_dtype,
        call.tokens.q.wrap,
        call.options["normalize"],
        _maps.keeps_log_scale(call.feature_map) and not is_gradient,
    )


def refuse_large_state(call: Call, needed_for: str) -> None:
    """Refuse what needs a state where the map has none."""
    tokens = call.tokens
    _maps.refuse_large_state(
        call.feature_map, tokens.key_dim, tokens.value_dim, tokens.state_dtype, needed_for
    )
