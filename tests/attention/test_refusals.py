"""The promise: what cannot be used is refused, by name, before anything is written.

Every message begins with the argument, says what is needed, and ends with what was given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from attention.calls import each
from attention.reference import Array
from corekit.attention import (
    ExponentialLimit,
    Favor,
    Grads,
    State,
    Taylor,
    features,
    linear_attention,
    linear_attention_step,
    linear_attention_vjp,
    softmax_attention,
)
from corekit.errors import ArgumentTypeError, InvalidArgumentError

B, T, H, G, D, V = 2, 9, 2, 2, 5, 3


def refused(error: type[Exception], name: str, call: Callable[[], object]) -> None:
    """Make the call, which must end in this error, about this argument."""
    with pytest.raises((InvalidArgumentError, ArgumentTypeError)) as caught:
        call()
    message = str(caught.value)
    assert isinstance(caught.value, error), message
    assert message.startswith(f"{name} must "), message
    assert ", got " in message


def arrays(dtype: Any = np.float32) -> dict[str, Array]:
    return {
        "q": np.ones((B, T, H * G, D), dtype),
        "k": np.ones((B, T, H, D), dtype),
        "v": np.ones((B, T, H, V), dtype),
    }


def out_shape() -> tuple[int, ...]:
    return (B, T, H * G, V)


def whole(**changes: Any) -> Any:
    """A call of `linear_attention` with some arguments changed."""
    given: dict[str, Any] = {**arrays(), **changes}
    return linear_attention(**given)


def softmax(**changes: Any) -> Any:
    given: dict[str, Any] = {**arrays(), **changes}
    return softmax_attention(**given)


def vjp(**changes: Any) -> Any:
    given: dict[str, Any] = {**arrays(), "dout": np.ones(out_shape(), np.float32), **changes}
    return linear_attention_vjp(**given)


def step(**changes: Any) -> Any:
    """A step, the short way and the long one: both must say the same."""
    tokens = {name: x[:, 0] for name, x in arrays().items()}
    given: dict[str, Any] = {"state": State.zeros(B, H, D, V), **tokens, **changes}
    return linear_attention_step(**given)


SEQUENCES = [whole, softmax, vjp]
EVERY = [*SEQUENCES, step]


def poisoned(function: Any) -> Array:
    return np.full(out_shape() if function is not step else (B, H * G, V), 7, np.float32)


def poisoned_gradients() -> Grads:
    q, k, v = (np.full(x.shape, 7, np.float32) for x in arrays().values())
    return Grads(q, k, v)


def refused_everywhere(
    functions: list[Any], error: type[Exception], name: str, **changes: Any
) -> None:
    """Refused by each function, with an output that stays as it was and without one."""
    for function in functions:
        refused(error, name, lambda: function(**changes))  # noqa: B023
        if "out" not in changes:
            out: Any = poisoned_gradients() if function is vjp else poisoned(function)
            refused(error, name, lambda: function(**changes, out=out))  # noqa: B023
            parts = (out.q, out.k, out.v) if function is vjp else (out,)
            assert all((part == 7).all() for part in parts)


WRONG_TYPES: list[Any] = [
    np.complex64,
    np.int32,
    np.int64,
    np.bool_,
    np.longdouble,
    object,
    "M8[s]",
    ">f4",
    np.dtype(ml_dtypes.bfloat16).newbyteorder(">"),
]


@pytest.mark.parametrize("dtype", WRONG_TYPES, ids=str)
@pytest.mark.parametrize("name", ["q", "k", "v"])
def test_types_of_arrays(name: str, dtype: Any) -> None:
    shape = arrays()[name].shape
    refused_everywhere(SEQUENCES, TypeError, name, **{name: np.zeros(shape, dtype)})
    token = np.zeros((shape[0], *shape[2:]), dtype)
    refused_everywhere([step], TypeError, name, **{name: token})


@pytest.mark.parametrize("name", ["q", "k", "v"])
@pytest.mark.parametrize("wrong", [None, "text", b"bytes", {"a": 1}, object()])
def test_what_is_no_array(name: str, wrong: Any) -> None:
    refused_everywhere(EVERY, TypeError, name, **{name: wrong})


def test_masked_arrays() -> None:
    for name, x in arrays().items():
        refused_everywhere(SEQUENCES, TypeError, name, **{name: np.ma.masked_array(x)})


@pytest.mark.parametrize("name", ["k", "v", "dout"])
@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16], ids=str)
def test_types_that_differ(name: str, dtype: Any) -> None:
    if name == "dout":
        refused(TypeError, "dout", lambda: vjp(dout=np.ones(out_shape(), dtype)))
        return
    refused_everywhere(SEQUENCES, TypeError, name, **{name: arrays(dtype)[name]})
    refused_everywhere([step], TypeError, name, **{name: arrays(dtype)[name][:, 0]})


def test_shapes() -> None:
    for name, shape in [
        ("q", (T, H * G, D)),
        ("q", (1, B, T, H * G, D)),
        ("q", (D,)),
        ("q", ()),
        ("q", (B, T, H + 1, D)),
        ("q", (B, T, 1, D)),
        ("k", (B + 1, T, H, D)),
        ("k", (B, T + 1, H, D)),
        ("k", (B, T, H, D + 1)),
        ("k", (T, H, D)),
        ("v", (B + 1, T, H, V)),
        ("v", (B, T - 1, H, V)),
        ("v", (B, T, H + 1, V)),
        ("v", (B, T, 1, V)),
        ("v", (B, T, V)),
    ]:
        refused_everywhere(SEQUENCES, ValueError, name, **{name: np.ones(shape, np.float32)})


def test_both_sides_are_named() -> None:
    for name, wrong, parts in [
        ("k", np.ones((B, T + 4, H, D), np.float32), ["13", "9", "k", "q"]),
        ("v", np.ones((B, T, H + 5, V), np.float32), ["7", "2", "v", "k"]),
        ("k", np.ones((B, T, H, D), np.float64), ["float64", "float32", "k", "q"]),
    ]:
        for function in SEQUENCES:
            with pytest.raises((ValueError, TypeError)) as caught:
                function(**{name: wrong})
            assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_heads_of_none() -> None:
    none = np.ones((B, T, 0, D), np.float32)
    refused_everywhere(SEQUENCES, ValueError, "q", k=none, v=np.ones((B, T, 0, V), np.float32))


def test_shapes_of_a_step() -> None:
    for name, shape in [
        ("q", (B, 1, H * G, D)),
        ("q", (H * G, D)),
        ("q", (B, H + 1, D)),
        ("k", (B + 1, H, D)),
        ("k", (B, H, D + 1)),
        ("k", (B, H * D)),
        ("v", (B, H + 1, V)),
        ("v", (B + 1, H, V)),
    ]:
        refused_everywhere([step], ValueError, name, **{name: np.ones(shape, np.float32)})


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("causal", 1, TypeError),
        ("causal", None, TypeError),
        ("causal", "yes", TypeError),
        ("scale", "1", TypeError),
        ("scale", 1j, TypeError),
        ("scale", np.nan, ValueError),
        ("scale", np.inf, ValueError),
        ("scale", [1.0], TypeError),
        ("layout", "BTHD", ValueError),
        ("layout", "bdth", ValueError),
        ("layout", None, TypeError),
        ("threads", 0, ValueError),
        ("threads", -1, ValueError),
        ("threads", 100_000, ValueError),
        ("threads", 1.0, TypeError),
        ("threads", True, TypeError),
    ],
)
def test_options_of_sequences(name: str, value: Any, error: type[Exception]) -> None:
    refused_everywhere(SEQUENCES, error, name, **{name: value})


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("feature_map", "elu", ValueError),
        ("feature_map", "Identity", ValueError),
        ("feature_map", "", ValueError),
        ("feature_map", 1, TypeError),
        ("feature_map", Favor, TypeError),
        ("feature_map", np.exp, TypeError),
        ("normalize", 1, TypeError),
        ("normalize", None, TypeError),
        ("eps", 0.0, ValueError),
        ("eps", -1e-6, ValueError),
        ("eps", np.nan, ValueError),
        ("eps", np.inf, ValueError),
        ("eps", "1e-6", TypeError),
        ("eps", None, TypeError),
    ],
)
def test_options_of_maps(name: str, value: Any, error: type[Exception]) -> None:
    refused_everywhere([whole, vjp, step], error, name, **{name: value})


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("scale", np.nan, ValueError),
        ("scale", "1", TypeError),
        ("threads", 0, ValueError),
        ("threads", True, TypeError),
        ("threads", 2.0, TypeError),
    ],
)
def test_options_of_steps(name: str, value: Any, error: type[Exception]) -> None:
    refused_everywhere([step], error, name, **{name: value})


@pytest.mark.parametrize(
    ("value", "error"),
    [(0, ValueError), (-5, ValueError), (2**40, ValueError), (16.0, TypeError), (True, TypeError)],
)
def test_chunk_sizes(value: Any, error: type[Exception]) -> None:
    refused_everywhere([whole, vjp], error, "chunk_size", chunk_size=value)


@pytest.mark.parametrize("value", [1, None, "yes"])
def test_return_state(value: Any) -> None:
    refused_everywhere([whole], TypeError, "return_state", return_state=value)


@pytest.mark.parametrize("scale", [0.0, -1.0, -0.0])
@pytest.mark.parametrize("where", [Favor(4, seed=1), Taylor(2), ExponentialLimit(2)], ids=str)
def test_scales_of_exponents(where: Any, scale: float) -> None:
    refused_everywhere([whole, vjp], ValueError, "scale", scale=scale, feature_map=where)
    refused(ValueError, "scale", lambda: features(arrays()["q"], where, scale=scale))
    state = State.zeros(B, H, D, V, feature_map=where)
    refused_everywhere([step], ValueError, "scale", scale=scale, feature_map=where, state=state)


@pytest.mark.parametrize(
    ("make", "name", "error"),
    [
        (lambda: Favor(0, seed=1), "n_features", ValueError),
        (lambda: Favor(-1, seed=1), "n_features", ValueError),
        (lambda: Favor(2**60, seed=1), "n_features", ValueError),
        (lambda: Favor(4.0, seed=1), "n_features", TypeError),  # type: ignore[arg-type]
        (lambda: Favor(True, seed=1), "n_features", TypeError),
        (lambda: Favor(4, seed=-1), "seed", ValueError),
        (lambda: Favor(4, seed=2**128), "seed", ValueError),
        (lambda: Favor(4, seed=1.0), "seed", TypeError),  # type: ignore[arg-type]
        (lambda: Favor(4, seed="1"), "seed", TypeError),  # type: ignore[arg-type]
        (lambda: Favor(4, orthogonal=1, seed=1), "orthogonal", TypeError),  # type: ignore[arg-type]
        (lambda: Favor(4, seed=1).projection(-1), "key_dim", ValueError),
        (lambda: Favor(4, seed=1).projection(2.0), "key_dim", TypeError),  # type: ignore[arg-type]
        (lambda: Taylor(0), "order", ValueError),
        (lambda: Taylor(-2), "order", ValueError),
        (lambda: Taylor(2.0), "order", TypeError),  # type: ignore[arg-type]
        (lambda: Taylor(True), "order", TypeError),
        (lambda: Taylor(2**70), "order", ValueError),
        (lambda: ExponentialLimit(0), "n", ValueError),
        (lambda: ExponentialLimit("2"), "n", TypeError),  # type: ignore[arg-type]
        (lambda: ExponentialLimit(2**70), "n", ValueError),
        (lambda: Taylor(2).n_features_for(-1), "key_dim", ValueError),
    ],
)
def test_maps(make: Callable[[], object], name: str, error: type[Exception]) -> None:
    refused(error, name, make)


def offsets(*values: Any, dtype: Any = np.int64) -> Array:
    return np.array(values, dtype)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (offsets(), ValueError),
        (offsets(0), ValueError),
        (offsets(1, T), ValueError),
        (offsets(0, T - 1), ValueError),
        (offsets(0, T + 1), ValueError),
        (offsets(0, 5, 4, T), ValueError),
        (offsets(0, -1, T), ValueError),
        (offsets(0, 2**62, T), ValueError),
        (offsets(0, -(2**63), T), ValueError),
        (np.zeros((1, 2), np.int64), ValueError),
        (offsets(0, T, dtype=np.float64), TypeError),
        (offsets(0, T, dtype=np.int16), TypeError),
        (offsets(0, T, dtype=np.uint64), TypeError),
        (offsets(0, T, dtype=">i8"), TypeError),
        ("0", TypeError),
    ],
)
def test_offsets(value: Any, error: type[Exception]) -> None:
    one = {name: x[:1] for name, x in arrays().items()}
    for function in (whole, softmax):
        out = np.full((1, *out_shape()[1:]), 7, np.float32)
        refused(error, "cu_seqlens", lambda: function(**one, cu_seqlens=value, out=out))  # noqa: B023
        assert (out == 7).all()
    dout = np.ones((1, *out_shape()[1:]), np.float32)
    refused(error, "cu_seqlens", lambda: vjp(**one, dout=dout, cu_seqlens=value))


def test_offsets_are_of_one_row() -> None:
    refused_everywhere(SEQUENCES, ValueError, "q", cu_seqlens=offsets(0, T))


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (np.ones((B, T + 1), bool), ValueError),
        (np.ones((T,), bool), ValueError),
        (np.ones((B, T, H), bool), ValueError),
        (np.ones((T, B), bool), ValueError),
        (np.ones((B, T), np.int64), TypeError),
        (np.ones((B, T), np.float32), TypeError),
        ("mask", TypeError),
    ],
)
def test_key_masks(value: Any, error: type[Exception]) -> None:
    refused_everywhere(SEQUENCES, error, "key_mask", key_mask=value)


def decay(*shape: int, value: float = -0.5, dtype: Any = np.float32) -> Array:
    return np.full(shape, value, dtype)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (decay(), ValueError),
        (decay(H * G), ValueError),
        (decay(T), ValueError),
        (decay(B, H), ValueError),
        (decay(B, T, H * G), ValueError),
        (decay(B, H, T), ValueError),
        (decay(B, T, H, D + 1), ValueError),
        (decay(B, T, H, 1, D), ValueError),
        (decay(H, dtype=np.int32), TypeError),
        (decay(H, dtype=np.complex64), TypeError),
        ("0", TypeError),
        (-0.5, ValueError),
    ],
)
def test_shapes_of_decays(value: Any, error: type[Exception]) -> None:
    refused_everywhere([whole, vjp], error, "decay", decay=value)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("bad", [1e-3, 1.0, np.inf, np.nan])
def test_decays_that_grow(bad: float, dtype: str) -> None:
    for shape in [(H,), (B, T, H), (B, T, H, D)]:
        for place in {0, int(np.prod(shape)) // 2, int(np.prod(shape)) - 1}:
            value = decay(*shape, dtype=np.dtype(dtype))
            value.reshape(-1)[place] = bad
            refused_everywhere([whole, vjp], ValueError, "decay", decay=value)
    for shape in [(H,), (B, H), (B, H, D)]:
        for place in {0, int(np.prod(shape)) - 1}:
            value = decay(*shape, dtype=np.dtype(dtype))
            value.reshape(-1)[place] = bad
            refused_everywhere([step], ValueError, "decay", decay=value)


def test_decays_that_grow_below_a_mask() -> None:
    # Only what a mask hides may be anything; of one value a head nothing is hidden.
    mask = np.ones((B, T), bool)
    mask[1, 3] = False
    for shape in [(B, T, H), (B, T, H, D)]:
        value = decay(*shape)
        value[1, 3] = np.nan
        whole(decay=value, key_mask=mask)
        value[1, 4] = np.nan
        refused_everywhere([whole, vjp], ValueError, "decay", decay=value, key_mask=mask)
    refused_everywhere([whole], ValueError, "decay", decay=decay(H, value=np.nan), key_mask=mask)


def test_decays_without_causality() -> None:
    for shape in [(H,), (B, T, H), (B, T, H, D)]:
        refused_everywhere([whole, vjp], ValueError, "decay", decay=decay(*shape), causal=False)


@pytest.mark.parametrize(
    "where", [Favor(D, seed=1), Favor(4, seed=1), Taylor(1), ExponentialLimit(2)], ids=str
)
def test_vectors_of_decays(where: Any) -> None:
    vector = decay(B, T, H, D)
    refused_everywhere([whole, vjp], ValueError, "decay", decay=vector, feature_map=where)
    m = where.n_features_for(D)
    refused_everywhere(
        [whole, vjp], ValueError, "decay", decay=decay(B, T, H, m), feature_map=where
    ) if m != D else None
    refused_everywhere(
        [step],
        ValueError,
        "decay",
        decay=decay(B, H, D),
        feature_map=where,
        state=State.zeros(B, H, D, V, feature_map=where),
    )


def state_parts(**changes: Any) -> State:
    parts: dict[str, Any] = {"s": np.zeros((B, H, D, V), np.float32), "z": None, "log_scale": None}
    return State(**{**parts, **changes})


@pytest.mark.parametrize(
    ("changes", "part", "error"),
    [
        ({"s": np.zeros((B, H, V, D), np.float32)}, "s", ValueError),
        ({"s": np.zeros((B, H * G, D, V), np.float32)}, "s", ValueError),
        ({"s": np.zeros((1, H, D, V), np.float32)}, "s", ValueError),
        ({"s": np.zeros((H, D, V), np.float32)}, "s", ValueError),
        ({"s": np.zeros((B, H, D, V), np.float64)}, "s", TypeError),
        ({"s": np.zeros((B, H, D, V), np.float16)}, "s", TypeError),
        ({"s": None}, "s", TypeError),
        ({"s": [[0.0]]}, "s", TypeError),
        ({"z": np.zeros((B, H, D), np.float32)}, "z", ValueError),
        ({"log_scale": np.zeros((B, H), np.float32)}, "log_scale", ValueError),
    ],
)
def test_states(changes: dict[str, Any], part: str, error: type[Exception]) -> None:
    state = state_parts(**changes)
    refused_everywhere([whole, vjp], error, f"initial_state.{part}", initial_state=state)
    refused(error, f"dstate.{part}", lambda: vjp(dstate=state))
    refused_everywhere([step], error, f"state.{part}", state=state)


def test_parts_of_a_state_that_are_missing() -> None:
    state = state_parts()
    refused_everywhere(
        [whole, vjp], ValueError, "initial_state.z", initial_state=state, normalize=True
    )
    refused(ValueError, "dstate.z", lambda: vjp(dstate=state, normalize=True))
    refused_everywhere([step], ValueError, "state.z", state=state, normalize=True)
    favor: dict[str, Any] = {"feature_map": Favor(D, seed=1)}
    refused_everywhere(
        [whole, vjp], ValueError, "initial_state.log_scale", initial_state=state, **favor
    )
    refused_everywhere([step], ValueError, "state.log_scale", state=state, **favor)
    # Where there is a Favor map, it is not what is missing.
    with pytest.raises(InvalidArgumentError, match=r"^dstate.log_scale must be None in a gradient"):
        vjp(dstate=State.zeros(B, H, D, V, **favor), **favor)
    short = state_parts(z=np.zeros((B, H, D - 1), np.float32))
    refused_everywhere([step], ValueError, "state.z", state=short, normalize=True)


@pytest.mark.parametrize(
    "wrong", [None, 0, "state", np.zeros((B, H, D, V)), (1, None, None)], ids=repr
)
def test_what_is_no_state(wrong: Any) -> None:
    if wrong is not None:
        refused_everywhere([whole, vjp], TypeError, "initial_state", initial_state=wrong)
        refused(TypeError, "dstate", lambda: vjp(dstate=wrong))
    refused_everywhere([step], TypeError, "state", state=wrong)


def test_states_of_a_step_that_cannot_be_changed() -> None:
    read_only = np.zeros((B, H, D, V), np.float32)
    read_only.flags.writeable = False
    refused_everywhere([step], ValueError, "state.s", state=state_parts(s=read_only))
    turned = np.asfortranarray(np.zeros((B, H, D, V), np.float32))
    refused_everywhere([step], ValueError, "state.s", state=state_parts(s=turned))
    same = np.broadcast_to(np.zeros((1, H, D, V), np.float32), (B, H, D, V))
    refused_everywhere([step], ValueError, "state.s", state=state_parts(s=same))
    odd = np.zeros(4 * B * H * D * V + 1, np.uint8)[1:].view(np.float32).reshape(B, H, D, V)
    refused_everywhere([step], ValueError, "state.s", state=state_parts(s=odd))
    both = np.zeros(B * H * D * (V + 1), np.float32)
    shared = state_parts(
        s=both[: B * H * D * V].reshape(B, H, D, V),
        z=both[B * H * D * (V - 1) : B * H * D * V].reshape(B, H, D),
    )
    refused_everywhere([step], ValueError, "state.z", state=shared, normalize=True)


@pytest.mark.parametrize("sizes", [(-1, 1, 1, 1), (1, -1, 1, 1), (1, 1, -1, 1), (1, 1, 1, -1)])
def test_sizes_of_zeros(sizes: tuple[int, int, int, int]) -> None:
    name = ["batch", "heads", "key_dim", "value_dim"][sizes.index(-1)]
    refused(ValueError, name, lambda: State.zeros(*sizes))


@pytest.mark.parametrize(("dtype", "error"), [("float16", ValueError), ("text", TypeError)])
def test_types_of_zeros(dtype: str, error: type[Exception]) -> None:
    refused(error, "dtype", lambda: State.zeros(1, 1, 1, 1, dtype=dtype))


def test_sizes_that_no_memory_holds() -> None:
    with pytest.raises((InvalidArgumentError, MemoryError)):
        State.zeros(2**30, 2**30, 2**30, 2**30)
    with pytest.raises((InvalidArgumentError, MemoryError)):
        State.zeros(2**20, 2**20, 2**10, 2**10)
    # Arrays of no memory at all, and a result that would take 2^62 bytes and more.
    small = np.broadcast_to(np.float32(1), (2**20, 2**20, 1, 1))
    wide = np.broadcast_to(np.float32(1), (2**20, 2**20, 1, 2**20))
    for function in (linear_attention, softmax_attention):
        with pytest.raises((InvalidArgumentError, MemoryError)):
            function(small, small, wide)
    with pytest.raises((InvalidArgumentError, MemoryError)):
        features(np.broadcast_to(np.float32(1), (2**40, 8)), Favor(2**20, seed=1))


def test_outputs() -> None:
    for function in (whole, softmax, step):
        shape = poisoned(function).shape
        for error, out in [
            (TypeError, np.zeros(shape).tolist()),
            (TypeError, "out"),
            (TypeError, np.full(shape, 7, np.float64)),
            (TypeError, np.full(shape, 7, np.float16)),
            (TypeError, np.full(shape, 7, np.int32)),
            (TypeError, np.full(shape, 7, ">f4")),
            (ValueError, np.full((*shape[:-1], V + 1), 7, np.float32)),
            (ValueError, np.full((shape[0] + 1, *shape[1:]), 7, np.float32)),
            (ValueError, np.full(shape[1:], 7, np.float32)),
            (ValueError, np.full((1, *shape), 7, np.float32)),
        ]:
            refused(error, "out", lambda: function(out=out))  # noqa: B023
            assert not isinstance(out, np.ndarray) or (out == 7).all()


def test_outputs_in_the_other_layout() -> None:
    turned = {name: x.swapaxes(1, 2) for name, x in arrays().items()}
    for function in (whole, softmax):
        out = np.full(out_shape(), 7, np.float32)
        refused(ValueError, "out", lambda: function(**turned, layout="bhtd", out=out))  # noqa: B023
        assert (out == 7).all()
        function(**turned, layout="bhtd", out=out.swapaxes(1, 2))


def test_outputs_that_cannot_be_written() -> None:
    for function in (whole, softmax, step):
        out = poisoned(function)
        out.flags.writeable = False
        refused(ValueError, "out", lambda: function(out=out))  # noqa: B023
        assert (out == 7).all()
        many = np.broadcast_to(np.float32(7), out.shape)
        refused(ValueError, "out", lambda: function(out=many))  # noqa: B023
        raw = np.full(out.size, 7, np.float32)
        strides = (4,) * out.ndim
        meeting = np.lib.stride_tricks.as_strided(raw, out.shape, strides)
        refused(ValueError, "out", lambda: function(out=meeting))  # noqa: B023
        assert (raw == 7).all()


def test_outputs_that_overlap_an_input() -> None:
    square = {name: np.ones((B, T, H, D), np.float32) for name in ("q", "k", "v")}
    for function in (whole, softmax):
        for name, x in square.items():
            refused(ValueError, "out", lambda: function(**square, out=x))  # noqa: B023
            refused(ValueError, "out", lambda: function(**square, out=x[::-1]))  # noqa: B023
            assert (x == 1).all(), name
    token = {name: x[:, 0].copy() for name, x in square.items()}
    state = State.zeros(B, H, D, D)
    for x in token.values():
        refused(ValueError, "out", lambda: step(state=state, **token, out=x))  # noqa: B023
    inside = state.s[..., 0]
    refused(ValueError, "out", lambda: step(state=state, **token, out=inside))
    assert not state.s.any()
    part = state.s[..., 1]
    for name in token:
        refused(ValueError, "state.s", lambda: step(state=state, **{**token, name: part}))  # noqa: B023
    # Of a sequence: the decay and the state that it starts from.
    g = -np.ones((B, T, H, D), np.float32)
    refused(ValueError, "out", lambda: whole(**square, decay=g, out=g))
    large = State(np.zeros((B, H, D, T * D), np.float32), None, None)
    v = np.ones((B, T, H, T * D), np.float32)
    out = (
        np.lib.stride_tricks.as_strided(
            large.s, (B, T, H, T * D), (H * D * T * D * 4, 4 * T * D, D * T * D * 4, 4)
        )
        if T <= D
        else None
    )
    if out is not None:
        refused(
            ValueError, "out", lambda: whole(**{**square, "v": v}, initial_state=large, out=out)
        )


def test_gradients_that_cannot_be_written() -> None:
    given = {**arrays(), "dout": np.ones(out_shape(), np.float32)}
    for wrong in (given["q"], [*poisoned_gradients()], "q", 3):
        refused(TypeError, "out", lambda: vjp(out=wrong))  # noqa: B023
    for name in ("q", "k", "v"):
        whole_shape = given[name].shape
        wrong_parts: list[tuple[type[Exception], Any]] = [
            (TypeError, None),
            (TypeError, [[7.0]]),
            (TypeError, np.full(whole_shape, 7, np.float64)),
            (ValueError, np.full(whole_shape[1:], 7, np.float32)),
            (ValueError, np.broadcast_to(np.float32(7), whole_shape)),
            (ValueError, given[name]),
        ]
        for error, part in wrong_parts:
            parts: dict[str, Any] = {**poisoned_gradients()._asdict(), name: part}
            refused(error, f"out.{name}", lambda: vjp(**given, out=Grads(**parts)))  # noqa: B023
            assert all((parts[other] == 7).all() for other in ("q", "k", "v") if other != name)
    # Not of an input's memory, nor of one another's.
    dout = given["dout"]
    out = poisoned_gradients()._replace(v=dout[:, :, : given["v"].shape[2]])
    refused(ValueError, "out.v", lambda: vjp(**given, out=out))
    out = poisoned_gradients()
    refused(ValueError, "out.v", lambda: vjp(**given, out=out._replace(v=out.k[..., :V])))
    state = State(np.ones((B, H, D, V), np.float32), None, None)
    inside = np.lib.stride_tricks.as_strided(state.s, given["v"].shape, (0, 0, 4 * V, 4))
    refused(
        ValueError, "out.v", lambda: vjp(dstate=state, out=poisoned_gradients()._replace(v=inside))
    )


def test_nothing_is_changed_by_a_step_that_is_refused() -> None:
    state = State(np.full((B, H, D, V), 3, np.float32), None, None)
    for changes in each(
        {"q": np.ones((B, H * G, D + 1), np.float32)},
        {"decay": np.full((H,), 0.1)},
        {"threads": 0},
        {"out": np.ones((B, H * G, V + 1), np.float32)},
        {"eps": -1.0},
        {"feature_map": "nothing"},
    ):
        with pytest.raises((ValueError, TypeError)):
            step(state=state, **changes)
        assert (state.s == 3).all()


def test_features() -> None:
    x = arrays()["q"]
    refused(ValueError, "x", lambda: features(np.float32(1), "exp"))
    refused(TypeError, "x", lambda: features(x.astype(np.int32), "exp"))
    refused(TypeError, "x", lambda: features(None, "exp"))
    refused(ValueError, "feature_map", lambda: features(x, "sine"))  # type: ignore[arg-type]
    refused(TypeError, "feature_map", lambda: features(x, 3))  # type: ignore[arg-type]
    refused(ValueError, "threads", lambda: features(x, "exp", threads=0))
    refused(ValueError, "scale", lambda: features(x, "exp", scale=np.nan))


def test_gradients_of_outputs() -> None:
    for shape in [(B, T, H, V), (B, T, H * G, V + 1), (B, H * G, T, V), (T, H * G, V)]:
        refused(ValueError, "dout", lambda: vjp(dout=np.ones(shape, np.float32)))  # noqa: B023
    refused(TypeError, "dout", lambda: vjp(dout=None))
