"""`SparseProjection`: a random matrix that is its parameters."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn, get_args

import numpy as np
import numpy.typing as npt

from corekit import _checks, _core, _progress, _seed, _threads
from corekit._how import How
from corekit.errors import InvalidArgumentError, OutOfMemoryError
from corekit.projection import _arrays, _file

Kind = Literal["block-stack", "stack", "iid", "countsketch", "gaussian", "srht"]

DEFAULT_COLUMN_NNZ: Final = 8
DEFAULT_DENSITY: Final = 1 / 3

# Of the formulas; a change of any entry is a new one.
VERSION: Final = "1"

_MOST_COMPONENTS: Final = 2**31
_MOST_FEATURES: Final = 2**48
_MOST_FEATURES_OF_SRHT: Final = 2**32

# Of a matrix that is written out.
_ROWS_AT_ONCE: Final = 256

# Of a row: entries of the matrix that its projection takes, and outputs.
_MOST_TRIED: Final = 1 << 28

_STACKS: Final = ("block-stack", "stack", "countsketch")


class SparseProjection:
    """A random matrix A of k x d with E ‖Ax‖² = ‖x‖², drawn wherever it is needed.

    It is its parameters: equal ones are the same matrix on every machine, it pickles to
    a few bytes and can be a key of a dict. No matrix is stored; small tables of where
    features go are kept between calls, outside of pickles and comparisons.

    Parameters
    ----------
    n_features
        d, the columns of A.
    n_components
        k, the rows of A.
    kind
        The law of A, which is the distribution that it is drawn from:

        - ``"block-stack"``: `column_nnz` entries in every column, one in each of as many
          strata of outputs; blocks of up to 16 features go to one group of outputs
          together, permuted and signed. The quickest on dense data.
        - ``"stack"``: the same with every feature by itself (SparseStack).
        - ``"countsketch"``: a stack of one entry a column.
        - ``"iid"``: every entry by itself is zero, or with probability `density` one of
          ±1/sqrt(density k) (Achlioptas 2003; Li, Hastie and Church 2006). Columns may
          be empty: on sparse data it loses features.
        - ``"gaussian"``: every entry normal with variance 1/k.
        - ``"srht"``: rows of a Hadamard matrix under random signs. d is at most 2**32, k at
          most the power of two from d on, and growing d changes the matrix.
    column_nnz
        The non-zeros of a column, 1 to k; only for the stacks. The smaller of 8 and k
        unless given.
    density
        The probability of an entry to be non-zero, above 0 and at most 1, rounded to the
        nearest multiple of 2**-31; only for ``"iid"``. 1/3 unless given (Achlioptas);
        1/sqrt(d) is the very sparse law of Li.
    seed
        The key of the generator, from 0 to 2**128 - 1. With None one is drawn: read
        it from `seed`.

    Attributes
    ----------
    n_features, n_components, kind, column_nnz, density, seed
        The parameters; `column_nnz` and `density` are None where they have no meaning.
    version : str
        The version of the formulas.
    shape : tuple of int
        (k, d).

    Raises
    ------
    InvalidArgumentError
        A size, `column_nnz`, `density` or `seed` out of range, an unknown `kind`, or an
        option that has no meaning for the kind.
    ArgumentTypeError
        An argument of a type that is not taken.

    Notes
    -----
    All entries are a published formula of ``numpy.random.Philox`` with the counter
    ``[0, 0, stream, 2**32]``: the mathematics page has it, with the variance of every
    kind. Any range of features can be drawn by itself, and `n_features` can grow without
    changing earlier columns (not with ``"srht"``).

    Sums are taken over features in rising order, in float32 for input of float32,
    float16 and bfloat16, in float64 otherwise, and multiplied once by the weight of the
    output. So results never depend on threads, on how rows are divided, on the memory
    layout, on dense against sparse, or on the machine's instruction set.

    Examples
    --------
    >>> import numpy as np
    >>> from corekit.projection import SparseProjection
    >>> projection = SparseProjection(10_000, 512, seed=1)
    >>> X = np.random.default_rng(0).normal(size=(100, 10_000)).astype(np.float32)
    >>> Y = projection.project(X)
    >>> Y.shape, Y.dtype
    ((100, 512), dtype('float32'))
    """

    __slots__ = ("_core", "_parameters")
    _parameters: tuple[int, int, str, int | None, float | None, int]
    _core: _core.Projection

    def __init__(
        self,
        n_features: int,
        n_components: int,
        *,
        kind: Kind = "block-stack",
        column_nnz: int | None = None,
        density: float | None = None,
        seed: int | None,
    ) -> None:
        if hasattr(self, "_parameters"):
            raise AttributeError("SparseProjection is immutable: it cannot be made again")
        d = _checks.integer("n_features", n_features, low=1, high=_MOST_FEATURES)
        k = _checks.integer("n_components", n_components, low=1, high=_MOST_COMPONENTS)
        if not isinstance(kind, str):
            raise _checks.wrong_type("kind", "a str", kind)
        if kind not in get_args(Kind):
            kinds = ", ".join(map(repr, get_args(Kind)))
            raise InvalidArgumentError(f"kind must be one of {kinds}, got {kind!r}")
        s = _entries(kind, column_nnz, k)
        p = _density(kind, density)
        if kind == "srht":
            if d > _MOST_FEATURES_OF_SRHT:
                raise InvalidArgumentError(
                    f"n_features must be at most 2**32 for kind 'srht', got {d}"
                )
            if k > _power_of_two(d):
                raise InvalidArgumentError(
                    f"n_components must be at most {_power_of_two(d)} for kind 'srht', the power "
                    f"of two from n_features ({d}) on, got {k}"
                )
        number = _seed.resolve(seed)
        core = _core.Projection(
            d,
            k,
            law="stack" if kind in _STACKS else kind,
            seed=number,
            column_nnz=s or 1,
            width=None if kind == "block-stack" else 1,
            density=p or 1.0,
        )
        object.__setattr__(self, "_core", core)
        object.__setattr__(self, "_parameters", (d, k, kind, s, p, number))

    @property
    def n_features(self) -> int:
        """d, the columns of the matrix."""
        return self._parameters[0]

    @property
    def n_components(self) -> int:
        """k, the rows of the matrix."""
        return self._parameters[1]

    @property
    def kind(self) -> str:
        """The law of the matrix: the distribution that it is drawn from."""
        return self._parameters[2]

    @property
    def column_nnz(self) -> int | None:
        """The non-zeros of a column; None where the law does not fix them."""
        return self._parameters[3]

    @property
    def density(self) -> float | None:
        """The probability of an entry to be non-zero; None for all laws but ``"iid"``."""
        return self._parameters[4]

    @property
    def seed(self) -> int:
        """The key of the generator."""
        return self._parameters[5]

    @property
    def version(self) -> str:
        """The version of the formulas."""
        return VERSION

    @property
    def shape(self) -> tuple[int, int]:
        """(k, d)."""
        return self.n_components, self.n_features

    def project(
        self,
        X: Any,
        *,
        out: Any = None,
        threads: int | None = None,
        progress: _progress.Progress = None,
        check_finite: bool = False,
    ) -> Any:
        """Project rows: Y = X Aᵀ.

        Parameters
        ----------
        X : array of shape (n, d)
            NumPy array of any strides, memory map, torch CPU tensor, or another array with
            DLPack on the CPU, without a copy; or a matrix of SciPy's: CSR and CSC without a
            copy, but for integers that are unsorted or have duplicates, and for pointers and
            indices of two types; other formats are converted to CSR. float16, bfloat16,
            float32, float64, bool or integers.
        out : array of shape (n, k)
            Where to write, of the result's dtype and any strides; must not share memory
            with X.
        threads
            The most threads to use; COREKIT_NUM_THREADS or all CPUs unless given.
        progress
            None, True for a bar, or a callable ``(done, total, phase)`` of bytes.
        check_finite
            Refuse NaN and infinity, which else reach the outputs that their feature
            touches. Costs another reading of X.

        Returns
        -------
        array of shape (n, k)
            Of the same library as X, or `out`. The dtype is that of X, float64 for
            integers.

        Raises
        ------
        InvalidArgumentError
            A shape that does not fit, an `out` that is read-only or shares memory with X,
            a sparse matrix with wrong pointers or indices, values that are not finite.
        ArgumentTypeError
            A dtype, or an object, that is not taken.
        OutOfMemoryError
            The system refused the memory of the output, or that of a worker.

        Notes
        -----
        Time is O(n d s) for the stacks, with s non-zeros a column, and O(nnz s) for sparse
        X; O(n d k) for ``"gaussian"``, and O(nnz k); for ``"iid"`` a share of that as large as
        the density, and the drawing of all d k entries for every block of rows;
        O(n N log N) for ``"srht"``, sparse or not, with N the power of two from d on.

        Beyond the output a thread takes less than 16 MiB, whatever n, d and k; with
        ``"srht"`` it holds a row of N numbers, in float32 or float64, if that is more, and
        drawing the matrix takes 36 k bytes (20 N at most). CSR and CSC keep a table of 2 s
        bytes a feature (4 s from k = 32768 on), up to 128 MiB.
        """
        source = _arrays.matrix("X", X)
        shape = _Shape("X", self.n_features)
        return self._apply(source, out, threads, progress, check_finite, shape)

    def adjoint(
        self,
        Y: Any,
        *,
        out: Any = None,
        threads: int | None = None,
        progress: _progress.Progress = None,
        check_finite: bool = False,
    ) -> Any:
        """Apply the transposed matrix to rows: Y A, of shape (n, d).

        ⟨Ax, y⟩ = ⟨x, Aᵀy⟩ for all x and y.

        Parameters
        ----------
        Y : array of shape (n, k)
            As X of `project`; dense.
        out : array of shape (n, d)
            Where to write.
        threads, progress, check_finite
            As in `project`.

        Returns
        -------
        array of shape (n, d)
            Of the same library as Y, or `out`.

        Raises
        ------
        InvalidArgumentError, ArgumentTypeError, OutOfMemoryError
            As in `project`.

        Notes
        -----
        The time is that of `project` for dense X.
        """
        source = _arrays.dense("Y", Y)
        shape = _Shape("Y", self.n_components, adjoint=True)
        return self._apply(source, out, threads, progress, check_finite, shape)

    def left(
        self,
        X: Any,
        *,
        out: Any = None,
        threads: int | None = None,
        progress: _progress.Progress = None,
        check_finite: bool = False,
    ) -> Any:
        """Sketch columns: A X, of shape (k, n), as regression and SVD need it.

        Parameters
        ----------
        X : array of shape (d, n)
            As X of `project`.
        out : array of shape (k, n)
            Where to write.
        threads, progress, check_finite
            As in `project`.

        Returns
        -------
        array of shape (k, n)
            Of the same library as X, or `out`.

        Raises
        ------
        InvalidArgumentError, ArgumentTypeError, OutOfMemoryError
            As in `project`.

        Notes
        -----
        ``project(X.T).T``, without turning anything, and in the same time.
        """
        source = _arrays.matrix("X", X)
        shape = _Shape("X", self.n_features, turned=True)
        return self._apply(source, out, threads, progress, check_finite, shape)

    def project_file(
        self,
        src: str | os.PathLike[str],
        dst: str | os.PathLike[str],
        *,
        shape: Sequence[int] | None = None,
        dtype: npt.DTypeLike | str | None = None,
        memory_limit: int | str | None = None,
        threads: int | None = None,
        progress: _progress.Progress = None,
    ) -> None:
        """Project the rows of a file that may be larger than memory into another file.

        Parameters
        ----------
        src
            A ``.npy`` file of shape (n, d), in C or Fortran order, or a raw one of rows.
        dst
            Where the projected rows go, in C order: a ``.npy`` file for one, raw for raw. It is
            replaced in one step when everything is written; pipes and devices are written to.
        shape
            (n, d) of a raw file; None for a ``.npy`` file.
        dtype
            The dtype of a raw file, or "bfloat16". For a ``.npy`` file None, or "bfloat16"
            where `numpy.save` wrote that, which it stores as two bytes without a name (V2);
            the output is stored likewise.
        memory_limit
            The most memory to take beyond what the process has, in bytes or as "2GiB"; half of
            what is available unless given.
        threads, progress
            As in `project`.

        Raises
        ------
        InvalidArgumentError, ArgumentTypeError
            A shape or dtype that does not fit.
        MemoryLimitError
            The limit has no room for a row; the message says what has.
        InputFormatError
            The file is damaged, or has not the size that its shape demands.
        InputChangedError
            The file changed while it was read.
        FileError
            The system refuses a file, or has no room for the output. `dst` is as it was.
        OutOfMemoryError
            The system refused the memory of the blocks.

        Notes
        -----
        The values are those of `project`, and so is the time of computing them. The next block
        is read while one is projected. The files are read and written once.
        """
        source = _file.open_source(src, shape, dtype)
        if source.shape[1] != self.n_features:
            raise InvalidArgumentError(
                f"src must have {self.n_features} columns, got {source.shape[1]} "
                f"(shape {source.shape})"
            )
        destination = _file.destination_of(dst)
        _progress.check(progress)
        count = _threads.count(threads)
        work = _file.plan(source, self, memory_limit, count)
        _file.run(work, self._block_projector(work.threads), destination, progress)

    def _kernel_bytes(self, dtype: str) -> tuple[int, int]:
        """Return the most bytes of a call on dense rows: once, and for each thread."""
        once, each = self._core.room(dtype not in ("float16", "bfloat16", "float32"))
        return once, each

    def _file_seconds(self, work: _file.FilePlan, *, threads: int) -> float | None:
        """Estimate what `project_file` would take, by projecting the first rows.

        None where a single row would take seconds.
        """
        d, k = self.shape[::-1]
        entries = _power_of_two(d) if self.kind == "srht" else d * (self.column_nnz or k)
        if entries + k > _MOST_TRIED:
            return None
        return _file.seconds(work, self._block_projector(threads))

    def _block_projector(self, threads: int) -> Callable[[_arrays.Dense, _arrays.Dense], None]:
        how: How = {"threads": threads, "progress": None}
        return lambda block, out: self._core.project(block, out, how)

    def submatrix(self, columns: npt.ArrayLike, *, dtype: npt.DTypeLike = np.float64) -> Any:
        """Write some columns out, as a sparse matrix; no other column is drawn.

        Parameters
        ----------
        columns : array of int, of shape (m,)
            Features, from 0 to d - 1, in any order.
        dtype
            float32 or float64.

        Returns
        -------
        scipy.sparse.csr_array of shape (k, m)
            The entries, rounded once from float64. Needs SciPy.

        Raises
        ------
        InvalidArgumentError
            A column out of range.
        OutOfMemoryError
            The system has no memory for the entries.
        MissingPackageError
            SciPy is not installed.

        Notes
        -----
        O(m s) time for the stacks, O(m k) for the other kinds; ``"srht"`` draws a word for
        each row of its Hadamard matrix besides.
        """
        wanted = _entry_dtype(dtype)
        features = np.asarray(columns)
        if features.ndim != 1 or (features.size > 0 and features.dtype.kind not in "iu"):
            raise InvalidArgumentError(
                f"columns must be ints in one dimension, got dtype {features.dtype} and shape "
                f"{features.shape}"
            )
        if features.size > 0 and not 0 <= features.min() <= features.max() < self.n_features:
            raise InvalidArgumentError(
                f"columns must be at least 0 and below {self.n_features}, got "
                f"{features.min()} to {features.max()}"
            )
        return self._columns(features.astype(np.uint64), wanted)

    def to_csr(self, *, dtype: npt.DTypeLike = np.float64) -> Any:
        """Write the matrix out, as a sparse one.

        Parameters
        ----------
        dtype
            float32 or float64.

        Returns
        -------
        scipy.sparse.csr_array of shape (k, d)
            The entries, rounded once from float64. Needs SciPy.

        Raises
        ------
        OutOfMemoryError
            The system has no memory for the entries.
        MissingPackageError
            SciPy is not installed.

        Notes
        -----
        As `submatrix` of all columns.
        """
        return self._columns(None, _entry_dtype(dtype))

    def _columns(self, features: npt.NDArray[np.uint64] | None, dtype: np.dtype[Any]) -> Any:
        """Return these columns, or all, in CSR."""
        sparse = _arrays.scipy_sparse()
        how: How = {"threads": _threads.count(None), "progress": None}
        try:
            if features is None:
                features = np.arange(self.n_features, dtype=np.uint64)
            starts, outputs, values = self._core.columns(features, how)
            # SciPy's own choice of the type of indices.
            index = np.int64 if max(len(values), self.n_components) >= 2**31 else np.int32
            parts = (values.astype(dtype, copy=False), outputs.astype(index), starts.astype(index))
            by_columns = sparse.csc_array(parts, shape=(self.n_components, len(features)))
            return by_columns.tocsr()
        except OutOfMemoryError:
            raise
        except MemoryError as error:
            # NumPy's or SciPy's.
            raise OutOfMemoryError(str(error)) from None

    def to_dense(self, *, dtype: npt.DTypeLike = np.float64) -> npt.NDArray[Any]:
        """Write the matrix out.

        Parameters
        ----------
        dtype
            float32 or float64.

        Returns
        -------
        ndarray of shape (k, d)
            The entries, rounded once from float64.

        Raises
        ------
        OutOfMemoryError
            The system has no memory for the matrix.

        Notes
        -----
        The time is that of `adjoint` for k rows.
        """
        wanted = _entry_dtype(dtype)
        out = _arrays.empty(self.shape, wanted)
        k = self.n_components
        # The rows of A are those of the adjoint of the identity, some at a time.
        for first in range(0, k, _ROWS_AT_ONCE):
            rows = min(_ROWS_AT_ONCE, k - first)
            out[first : first + rows] = self.adjoint(np.eye(rows, k, first))
        return out

    def _apply(
        self,
        source: _arrays.Dense | _arrays.Sparse,
        out: Any,
        threads: int | None,
        progress: _progress.Progress,
        check_finite: bool,
        shape: _Shape,
    ) -> Any:
        values = source.values if isinstance(source, _arrays.Sparse) else source
        given_shape = source.shape
        rows, columns = given_shape[::-1] if shape.turned else given_shape
        if columns != shape.length:
            which = "rows" if shape.turned else "columns"
            raise InvalidArgumentError(
                f"{shape.name} must have {shape.length} {which}, got {columns} "
                f"(shape {given_shape})"
            )
        count = _threads.count(threads)
        _progress.check(progress)
        if _checks.switch("check_finite", check_finite):
            _arrays.refuse_nonfinite(shape.name, source)
        width = self.n_features if shape.adjoint else self.n_components
        dtype = _arrays.result_dtype(values.dtype)
        wanted = (width, rows) if shape.turned else (rows, width)
        to, given = _arrays.output("out", out, wanted, dtype, values.wrap)
        if given is not None:
            _arrays.refuse_overlap("out", to, shape.name, source)
        if rows > 0:
            into = (to.values.T if shape.turned else to.values), to.dtype
            with _progress.reporting(progress) as tell:
                how: How = {"threads": count, "progress": tell}
                if shape.adjoint:
                    self._core.adjoint(values, into, how)
                elif isinstance(source, _arrays.Sparse):
                    self._core.project_sparse(
                        source.indptr,
                        source.indices,
                        source.values,
                        (rows, columns),
                        source.by_columns != shape.turned,
                        into,
                        how,
                    )
                else:
                    turned = values.values.T if shape.turned else values.values
                    self._core.project((turned, values.dtype), into, how)
        return values.wrap(to.values, to.dtype) if given is None else given

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SparseProjection):
            return NotImplemented
        return self._parameters == other._parameters

    def __hash__(self) -> int:
        return hash((SparseProjection, VERSION, self._parameters))

    def __repr__(self) -> str:
        d, k, kind, s, p, seed = self._parameters
        nnz = f", column_nnz={s}" if kind in ("block-stack", "stack") else ""
        density = "" if p is None else f", density={p!r}"
        return f"SparseProjection({d}, {k}, kind={kind!r}{nnz}{density}, seed={seed})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self)._unpickled, (VERSION, self._parameters)

    @classmethod
    def _unpickled(
        cls, version: str, parameters: tuple[int, int, Any, int | None, float | None, int]
    ) -> SparseProjection:
        """Make the matrix of a pickle again."""
        d, k, kind, s, p, seed = parameters
        if version != VERSION:
            raise InvalidArgumentError(
                f"the pickle must be of version {VERSION} of the formulas, got version {version}"
            )
        column_nnz = s if kind in ("block-stack", "stack") else None
        made = cls.__new__(cls)
        # Not the constructor of a class derived from it, which may take other arguments.
        SparseProjection.__init__(
            made, d, k, kind=kind, column_nnz=column_nnz, density=p, seed=seed
        )
        return made

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"SparseProjection is immutable: {name!r} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"SparseProjection is immutable: {name!r} cannot be deleted")


@dataclass(frozen=True)
class _Shape:
    """What a call takes: the argument's name, and how long what is summed over is.

    `turned` is the product from the left, `adjoint` that with the transposed matrix.
    """

    name: str
    length: int
    turned: bool = False
    adjoint: bool = False


def _entries(kind: str, column_nnz: object, k: int) -> int | None:
    """Return the non-zeros of a column, for the kinds that fix them."""
    if kind in ("block-stack", "stack"):
        if column_nnz is None:
            return min(DEFAULT_COLUMN_NNZ, k)
        s = _checks.integer("column_nnz", column_nnz, low=1)
        if s > k:
            raise InvalidArgumentError(f"column_nnz must be at most n_components ({k}), got {s}")
        return s
    if column_nnz is not None:
        raise InvalidArgumentError(
            f"column_nnz must be left out for kind {kind!r}, got {column_nnz!r}"
        )
    return 1 if kind == "countsketch" else None


def _density(kind: str, density: object) -> float | None:
    """Return the density of an iid law as it is drawn."""
    if kind != "iid":
        if density is not None:
            raise InvalidArgumentError(
                f"density must be left out for kind {kind!r}, got {density!r}"
            )
        return None
    if density is None:
        density = DEFAULT_DENSITY
    number = _checks.real("density", density)
    drawn = round(number * 2**31) / 2**31 if 0 < number <= 1 else 0.0
    if drawn == 0.0:
        raise InvalidArgumentError(
            f"density must be at least 2**-31 and at most 1, got {density!r}"
        )
    return drawn


def _power_of_two(d: int) -> int:
    return 1 << (d - 1).bit_length()


def _entry_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    try:
        wanted = np.dtype(dtype)
    except TypeError:
        raise _checks.wrong_type("dtype", "float32 or float64", dtype) from None
    if wanted not in (np.float32, np.float64):
        raise InvalidArgumentError(f"dtype must be float32 or float64, got {wanted}")
    return wanted
