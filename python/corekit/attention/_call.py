"""What a call on a sequence is made of: all arguments, checked, as the core takes them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from corekit import _arrays as arrays
from corekit import _checks, _threads
from corekit.attention import _decay, _maps, _options, _state, _tokens
from corekit.errors import InvalidArgumentError


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The arguments that the forward pass and the gradient share."""

    tokens: _tokens.Tokens
    causal: bool
    feature_map: _maps.Checked
    normalize: bool
    eps: float
    scale: float
    decay: _decay.Decay | None
    initial: _state.Held | None
    cu_seqlens: npt.NDArray[np.int64] | None
    key_mask: npt.NDArray[np.bool_] | None
    chunk_size: int
    threads: int

    @property
    def state_shape(self) -> _state.Shape:
        """The shape of the states before and after."""
        tokens = self.tokens
        return _state.Shape(
            tokens.batch if self.cu_seqlens is None else len(self.cu_seqlens) - 1,
            tokens.heads,
            _maps.n_features(self.feature_map, tokens.key_dim),
            tokens.value_dim,
        )

    def refuse_overlap(self, name: str, out: arrays.Dense) -> None:
        """Refuse an output that shares memory with an input."""
        self.tokens.refuse_overlap(name, out)
        if self.decay is not None:
            arrays.refuse_overlap(name, out, "decay", self.decay.given.values)
        if self.key_mask is not None:
            arrays.refuse_overlap(name, out, "key_mask", self.key_mask)
        if self.initial is not None:
            for field, part in self.initial.parts():
                arrays.refuse_overlap(name, out, f"initial_state.{field}", part.values)


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
    call = Call(
        tokens=tokens,
        causal=is_causal,
        feature_map=applied,
        normalize=_checks.switch("normalize", normalize),
        eps=_options.eps(eps),
        scale=_maps.scale_of(scale, tokens.key_dim, applied),
        decay=None if decay is None else _decay.read(decay, tokens, applied, mask),
        initial=None,
        cu_seqlens=None if cu_seqlens is None else _options.offsets(cu_seqlens, tokens),
        key_mask=mask,
        chunk_size=_options.chunk(chunk_size),
        threads=_threads.count(threads),
    )
    if initial_state is None:
        return call
    refuse_large_state(call, "initial_state")
    held = read_state("initial_state", initial_state, call)
    return dataclasses.replace(call, initial=_state.contiguous(held))


def read_state(name: str, given: object, call: Call, *, is_gradient: bool = False) -> _state.Held:
    """Check a state that goes with a call; that of a gradient has no `log_scale`."""
    return _state.read(
        name,
        given,
        call.state_shape,
        call.tokens.state_dtype,
        with_z=call.normalize,
        with_log_scale=_maps.keeps_log_scale(call.feature_map) and not is_gradient,
        is_gradient=is_gradient,
    )


def new_state(call: Call, *, is_gradient: bool = False) -> _state.Held:
    """Return a state that the core is to fill."""
    return _state.new(
        call.state_shape,
        call.tokens.state_dtype,
        call.tokens.q.wrap,
        call.normalize,
        _maps.keeps_log_scale(call.feature_map) and not is_gradient,
    )


def refuse_large_state(call: Call, needed_for: str) -> None:
    """Refuse what needs a state where the map has none."""
    tokens = call.tokens
    itemsize = np.dtype(tokens.state_dtype).itemsize
    _maps.refuse_large_state(
        call.feature_map, tokens.key_dim, tokens.value_dim, itemsize, needed_for
    )
