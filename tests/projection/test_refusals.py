"""The promise: what cannot be used is refused, by name, before anything is written.

Every message begins with the argument, says what is needed, and ends with what was given.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from corekit.errors import ArgumentTypeError, InvalidArgumentError, OutOfMemoryError
from corekit.projection import SparseProjection, distortion
from projection.formula import KINDS
from projection.operators import data, make

D, K, N = 20, 9, 5


def refused(error: type[Exception], name: str, call: Callable[[], object]) -> None:
    """Make the call, which must end in this error, about this argument."""
    with pytest.raises((InvalidArgumentError, ArgumentTypeError)) as caught:
        call()
    message = str(caught.value)
    assert isinstance(caught.value, error), message
    assert message.startswith(f"{name} must "), message
    assert ", got " in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_features", "10"),
        ("n_features", 10.0),
        ("n_features", True),
        ("n_features", None),
        ("n_components", 10.0),
        ("n_components", "9"),
        ("n_components", None),
        ("kind", None),
        ("kind", 1),
        ("kind", b"stack"),
        ("column_nnz", 2.0),
        ("column_nnz", "8"),
        ("column_nnz", True),
    ],
)
def test_parameters_of_a_wrong_type(name: str, value: object) -> None:
    given: dict[str, Any] = {"n_features": D, "n_components": K, "seed": 1, name: value}
    refused(TypeError, name, lambda: SparseProjection(**given))


@pytest.mark.parametrize("value", ["0.5", True, b"x", [0.5], 1j])
def test_densities_of_a_wrong_type(value: Any) -> None:
    refused(TypeError, "density", lambda: SparseProjection(D, K, kind="iid", density=value, seed=1))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_features", 0),
        ("n_features", -1),
        ("n_features", 2**64),
        ("n_features", 2**200),
        ("n_components", 0),
        ("n_components", -5),
        ("n_components", 2**32),
        ("n_components", 2**64),
        ("kind", "block_stack"),
        ("kind", "Stack"),
        ("kind", ""),
        ("kind", "auto"),
        ("column_nnz", 0),
        ("column_nnz", -1),
        ("column_nnz", K + 1),
        ("column_nnz", 2**64),
    ],
)
def test_parameters_of_a_wrong_value(name: str, value: object) -> None:
    given: dict[str, Any] = {"n_features": D, "n_components": K, "seed": 1, name: value}
    refused(ValueError, name, lambda: SparseProjection(**given))


@pytest.mark.parametrize("value", [0, 0.0, -0.1, 1.0001, 2, np.nan, np.inf, -np.inf, 1e-12])
def test_densities_of_a_wrong_value(value: float) -> None:
    refused(
        ValueError, "density", lambda: SparseProjection(D, K, kind="iid", density=value, seed=1)
    )


def test_an_srht_has_no_more_rows_than_its_hadamard_matrix() -> None:
    assert SparseProjection(20, 32, kind="srht", seed=1).shape == (32, 20)
    refused(ValueError, "n_components", lambda: SparseProjection(20, 33, kind="srht", seed=1))
    assert SparseProjection(1, 1, kind="srht", seed=1).to_dense().shape == (1, 1)
    refused(ValueError, "n_components", lambda: SparseProjection(1, 2, kind="srht", seed=1))


def test_an_srht_has_as_many_features_as_its_rows_have_numbers() -> None:
    assert SparseProjection(2**32, 4, kind="srht", seed=1).n_features == 2**32
    refused(ValueError, "n_features", lambda: SparseProjection(2**32 + 1, 4, kind="srht", seed=1))


def calls(kind: str) -> list[tuple[str, Callable[..., Any], tuple[int, int], tuple[int, int]]]:
    """Give each call: the name of its matrix, itself, the matrix's shape and the output's."""
    projection = make(kind, D, K)
    return [
        ("X", projection.project, (N, D), (N, K)),
        ("Y", projection.adjoint, (N, K), (N, D)),
        ("X", projection.left, (D, N), (K, N)),
    ]


WRONG_TYPES: list[Any] = [
    np.zeros((N, D), np.complex64),
    np.zeros((N, D), np.complex128),
    np.zeros((N, D), np.longdouble),
    np.zeros((N, D), object),
    np.full((N, D), "1"),
    np.full((N, D), b"1"),
    np.zeros((N, D), "M8[s]"),
    np.zeros((N, D), "m8[s]"),
    np.zeros((N, D), [("a", "f4")]),
    np.zeros((N, D), "V4"),
    None,
    "text",
    b"bytes",
    {"a": 1},
    object(),
]


@pytest.mark.parametrize("kind", KINDS)
def test_matrices_of_a_wrong_type(kind: str) -> None:
    for name, call, shape, output in calls(kind):
        for wrong in WRONG_TYPES:
            given = np.resize(wrong, shape) if isinstance(wrong, np.ndarray) else wrong
            out = np.full(output, 7, np.float32)
            refused(TypeError, name, lambda: call(given))  # noqa: B023
            refused(TypeError, name, lambda: call(given, out=out))  # noqa: B023
            assert (out == 7).all()


def test_what_is_no_array_is_shown() -> None:
    projection = make("block-stack", D, K)
    with pytest.raises(
        ArgumentTypeError, match=r"^X must be a matrix, got <generator .*\(generator"
    ):
        projection.project(row for row in data(N, D))
    with pytest.raises(ArgumentTypeError, match=r"^Y must be a matrix, got <function .*\(function"):
        distortion(data(N, D), lambda rows: rows, seed=1)
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(ArgumentTypeError, match=r"^Y must be a dense array, got csr_array$"):
        projection.adjoint(sparse.csr_array(data(N, K)))


@pytest.mark.parametrize(
    "dtype",
    [">f4", ">f8", ">i4", ">f2", ">u2", np.dtype(ml_dtypes.bfloat16).newbyteorder(">")],
    ids=str,
)
def test_bytes_in_another_order(dtype: Any) -> None:
    for name, call, shape, output in calls("block-stack"):
        out = np.full(output, 7, np.float32)
        with pytest.raises(ArgumentTypeError, match=rf"^{name} must .*byte.*, got"):
            call(np.zeros(shape, dtype), out=out)
        assert (out == 7).all()


@pytest.mark.parametrize("kind", KINDS)
def test_matrices_of_a_wrong_shape(kind: str) -> None:
    for name, call, shape, output in calls(kind):
        rows, columns = shape
        held = 0 if call.__name__ == "left" else 1  # the axis that the projection fixes
        wrong: list[tuple[int, ...]] = [(), (columns,), (1, rows, columns), (rows, columns, 1)]
        for change in (-1, 1):
            other = [rows, columns]
            other[held] += change
            wrong.append(tuple(other))
        other = [rows, columns]
        other[held] = 0
        wrong.append(tuple(other))
        for given in wrong:
            out = np.full(output, 7, np.float32)
            refused(ValueError, name, lambda: call(np.zeros(given, np.float32)))  # noqa: B023
            refused(ValueError, name, lambda: call(np.zeros(given, np.float32), out=out))  # noqa: B023
            assert (out == 7).all()


@pytest.mark.parametrize("kind", KINDS)
def test_outputs(kind: str) -> None:
    for _, call, shape, (rows, columns) in calls(kind):
        X = data(*shape)
        for error, out in [
            (TypeError, [[0.0] * columns] * rows),
            (TypeError, "out"),
            (TypeError, np.full((rows, columns), 7, np.float64)),
            (TypeError, np.full((rows, columns), 7, np.float16)),
            (TypeError, np.full((rows, columns), 7, np.int32)),
            (TypeError, np.full((rows, columns), 7, ">f4")),
            (ValueError, np.full((rows + 1, columns), 7, np.float32)),
            (ValueError, np.full((rows, columns + 1), 7, np.float32)),
            (ValueError, np.full((columns, rows), 7, np.float32)),
            (ValueError, np.full((rows * columns,), 7, np.float32)),
            (ValueError, np.full((1, rows, columns), 7, np.float32)),
        ]:
            refused(error, "out", lambda: call(X, out=out))  # noqa: B023
            assert not isinstance(out, np.ndarray) or (out == 7).all()


def test_lists_are_no_outputs() -> None:
    # What is no array would be copied, and the copy written to.
    for _, call, shape, (rows, columns) in calls("block-stack"):
        out = [[7.0] * columns for _ in range(rows)]
        refused(TypeError, "out", lambda: call(data(*shape, np.float64), out=out))  # noqa: B023
        assert out == [[7.0] * columns for _ in range(rows)]


def test_outputs_that_cannot_be_written() -> None:
    for _, call, shape, output in calls("block-stack"):
        out = np.full(output, 7, np.float32)
        out.flags.writeable = False
        refused(ValueError, "out", lambda: call(data(*shape), out=out))  # noqa: B023
        assert (out == 7).all()
        many = np.broadcast_to(np.full((1, output[1]), 7, np.float32), output)
        refused(ValueError, "out", lambda: call(data(*shape), out=many))  # noqa: B023


def test_outputs_that_overlap_themselves() -> None:
    for _, call, shape, output in calls("block-stack"):
        raw = np.full(100, 7, np.float32)
        for strides in [(4, 4), (0, 4), (8, 4)]:
            out = np.lib.stride_tricks.as_strided(raw, output, strides)
            refused(ValueError, "out", lambda: call(data(*shape), out=out))  # noqa: B023
        assert (raw == 7).all()


def test_outputs_that_overlap_the_input() -> None:
    projection = make("block-stack", D, D)
    for call in (projection.project, projection.adjoint, projection.left):
        square = data(D, D)
        before = square.copy()
        refused(ValueError, "out", lambda: call(square, out=square))  # noqa: B023
        refused(ValueError, "out", lambda: call(square, out=square.T))  # noqa: B023
        whole = data(2 * D, 2 * D)
        refused(
            ValueError,
            "out",
            lambda: call(whole[:D, :D], out=whole[D - 1 : 2 * D - 1, :D]),  # noqa: B023
        )
        assert (square == before).all()
        # Side by side in one array they touch and do not overlap.
        out = whole[:D, D:]
        expected = call(whole[:D, :D].copy())
        assert call(whole[:D, :D], out=out) is out
        assert (out == expected).all()


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("threads", 0, ValueError),
        ("threads", -1, ValueError),
        ("threads", 100_000, ValueError),
        ("threads", 1.0, TypeError),
        ("threads", True, TypeError),
        ("threads", "2", TypeError),
        ("progress", 1, TypeError),
        ("progress", "bar", TypeError),
        ("check_finite", 1, TypeError),
        ("check_finite", None, TypeError),
    ],
)
def test_options(name: str, value: Any, error: type[Exception]) -> None:
    for _, call, shape, output in calls("block-stack"):
        out = np.full(output, 7, np.float32)
        refused(error, name, lambda: call(data(*shape), out=out, **{name: value}))  # noqa: B023
        assert (out == 7).all()


@pytest.mark.parametrize("method", ["to_dense", "to_csr"])
@pytest.mark.parametrize("dtype", [np.int32, np.complex64, np.float16, "text", object])
def test_types_of_matrices(method: str, dtype: Any) -> None:
    if method == "to_csr":
        pytest.importorskip("scipy.sparse")
    # A type of numbers that is not taken is a wrong value, what is no type is a wrong type.
    error = TypeError if dtype == "text" else ValueError
    refused(error, "dtype", lambda: getattr(make("block-stack", D, K), method)(dtype=dtype))


@pytest.mark.parametrize(
    "columns", [[D], [-1], [0, 2**40], [2**70], [[0, 1]], [0.0, 1.0], ["0"], "0", None]
)
def test_columns(columns: Any) -> None:
    pytest.importorskip("scipy.sparse")
    refused(ValueError, "columns", lambda: make("block-stack", D, K).submatrix(columns))


def test_matrices_that_no_memory_holds() -> None:
    projection = SparseProjection(2**40, 2**20, seed=1)
    with pytest.raises((InvalidArgumentError, MemoryError)):
        projection.to_dense()


def test_entries_that_no_memory_holds() -> None:
    pytest.importorskip("scipy.sparse")
    with pytest.raises(OutOfMemoryError):
        SparseProjection(2**47, 32, seed=1).to_csr()


@pytest.mark.parametrize("form", ["csr", "csc"])
class TestSparse:
    """Matrices whose parts do not fit each other: scipy checks some when it makes them."""

    @pytest.fixture(autouse=True, params=[np.float32, np.int64])
    def of_a_type(self, request: pytest.FixtureRequest) -> None:
        self.dtype = request.param

    def matrix(self, form: str, **parts: Any) -> Any:
        sparse = pytest.importorskip("scipy.sparse")
        X = getattr(sparse, f"{form}_array")(np.eye(D, dtype=self.dtype))
        for name, value in parts.items():
            setattr(X, name, value)
        return X

    def refused(self, X: Any, error: type[Exception] = ValueError) -> None:
        projection = make("block-stack", D, K)
        out = np.full((D, K), 7, np.float32 if self.dtype == np.float32 else np.float64)
        both: list[dict[str, Any]] = [{}, {"out": out}]
        for options in both:
            with pytest.raises((InvalidArgumentError, ArgumentTypeError)) as caught:
                projection.project(X, **options)
            assert isinstance(caught.value, error)
            # Of a matrix of several parts the part is named.
            named = r"(X|(X\.)?(indptr|indices)|indices and data) must .*, got "
            assert re.match(named, str(caught.value))
            assert (out == 7).all()

    @pytest.mark.parametrize("wrong", [D, -1, 2**31 - 1, -(2**31)])
    @pytest.mark.parametrize("at", [0, 7, D - 1])
    def test_indices_out_of_range(self, form: str, wrong: int, at: int) -> None:
        indices = np.arange(D, dtype=np.int32)
        indices[at] = wrong
        self.refused(self.matrix(form, indices=indices))
        self.refused(self.matrix(form, indices=indices.astype(np.int64), indptr=np.arange(D + 1)))

    @pytest.mark.parametrize("wrong", [-1, D + 1, 2**31 - 1, -(2**31)])
    @pytest.mark.parametrize("at", [0, 7, D])
    def test_pointers_that_point_elsewhere(self, form: str, wrong: int, at: int) -> None:
        indptr = np.arange(D + 1, dtype=np.int32)
        indptr[at] = wrong
        self.refused(self.matrix(form, indptr=indptr))

    def test_pointers_that_go_back(self, form: str) -> None:
        indptr = np.arange(D + 1, dtype=np.int32)
        indptr[5], indptr[6] = 9, 3
        self.refused(self.matrix(form, indptr=indptr))

    @pytest.mark.parametrize("length", [0, 1, D, D + 2])
    def test_too_few_or_too_many_pointers(self, form: str, length: int) -> None:
        self.refused(self.matrix(form, indptr=np.minimum(np.arange(length), D).astype(np.int32)))

    def test_parts_of_other_lengths(self, form: str) -> None:
        self.refused(self.matrix(form, data=np.ones(D - 1, self.dtype)))
        self.refused(self.matrix(form, indices=np.arange(D - 1, dtype=np.int32)))

    @pytest.mark.parametrize("dtype", [np.complex64, object, ">f4"])
    def test_types(self, form: str, dtype: Any) -> None:
        self.refused(self.matrix(form, data=np.ones(D, dtype)), TypeError)

    def test_types_of_indices(self, form: str) -> None:
        self.refused(self.matrix(form, indices=np.arange(D, dtype=np.float64)), TypeError)

    def test_shapes(self, form: str) -> None:
        sparse = pytest.importorskip("scipy.sparse")
        for shape in [(D, D - 1), (D, D + 1)]:
            self.refused(getattr(sparse, f"{form}_array")(shape, dtype=self.dtype))


DAMAGED: dict[str, tuple[str, Callable[[Any], None]]] = {
    "coo, row": (r"X\.row", lambda X: X.coords[0].__setitem__(1, 2_000_000_000)),
    "coo, negative row": (r"X\.row", lambda X: X.coords[0].__setitem__(1, -2_000_000_000)),
    "coo, column": (r"X\.col", lambda X: X.coords[1].__setitem__(1, D)),
    "coo, lengths": ("X", lambda X: setattr(X, "data", X.data[:1])),
    "bsr, pointer": (r"X\.indptr", lambda X: X.indptr.__setitem__(1, -2_000_000_000)),
    "bsr, pointers": (r"X\.indptr", lambda X: setattr(X, "indptr", X.indptr[:1])),
    "bsr, index": (r"X\.indices", lambda X: X.indices.__setitem__(1, D // 2)),
    "bsr, values": (r"X\.indptr", lambda X: setattr(X, "data", X.data[:1])),
    "dia, offsets": (r"X\.offsets", lambda X: setattr(X, "offsets", np.arange(9))),
    "dok, key": ("X", lambda X: X._dict.__setitem__((2_000_000_000, 1), 1)),
}


@pytest.mark.parametrize("case", DAMAGED)
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_other_damaged_sparse_matrices(dtype: Any, case: str) -> None:
    # SciPy would follow them out of its memory when it converts them.
    sparse = pytest.importorskip("scipy.sparse")
    named, damage = DAMAGED[case]
    form = case[:3]
    options = {"blocksize": (2, 2)} if form == "bsr" else {}
    X = getattr(sparse, f"{form}_array")(np.eye(D, dtype=dtype), **options)
    damage(X)
    with pytest.raises(InvalidArgumentError, match=f"^{named} must .*, got "):
        make("block-stack", D, K).project(X)
    with pytest.raises(InvalidArgumentError, match=f"^{named} must .*, got "):
        distortion(X, data(D, K), seed=1)
