"""The promise: our classes are used as scikit-learn's are, and are none of them."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pytest

from peers.samples import BOTH, dense, normal, scattered

sparse = pytest.importorskip("scipy.sparse")

import sklearn  # noqa: E402
import sklearn.random_projection as theirs  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.compose import make_column_transformer  # noqa: E402
from sklearn.exceptions import DataDimensionalityWarning, NotFittedError  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.model_selection import GridSearchCV  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

import corekit.sklearn as ours  # noqa: E402
from corekit.errors import ArgumentTypeError, InvalidArgumentError  # noqa: E402
from corekit.projection import SparseProjection  # noqa: E402
from corekit.sklearn import SparseRandomProjection, _sparse  # noqa: E402

NAMES = ["GaussianRandomProjection", "SparseRandomProjection"]


@pytest.mark.parametrize("name", NAMES)
def test_the_parameters_are_theirs_and_ours_at_the_end(name: str) -> None:
    their, our = getattr(theirs, name)().get_params(), getattr(ours, name)().get_params()
    assert our == {**their, "threads": None}


@pytest.mark.parametrize("name", NAMES)
def test_fitted_attributes_are_theirs_and_ours(name: str) -> None:
    def attributes(kind: Any) -> set[str]:
        frame = pytest.importorskip("pandas").DataFrame(normal(5, 9), columns=list("abcdefghi"))
        fitted = kind(3, compute_inverse_components=True).fit(frame)
        assert fitted.components_.shape == (3, 9)
        return {name for name in dir(fitted) if name.endswith("_") and not name.startswith("_")}

    assert attributes(getattr(ours, name)) == {*attributes(getattr(theirs, name)), "projection_"}


@BOTH
def test_the_ancestry(kind: Any) -> None:
    ancestors = [ancestor for ancestor in kind.__mro__ if ancestor is not kind]
    assert not any(ancestor.__module__ == theirs.__name__ for ancestor in ancestors)
    assert {ancestor.__module__.split(".")[0] for ancestor in ancestors} <= {
        "abc",
        "builtins",
        "corekit",
        "sklearn",
    }


@BOTH
def test_the_seed_is_drawn_from_the_random_state(kind: Any) -> None:
    fitted = kind(3, random_state=5).fit(normal(4, 9))
    drawn = int.from_bytes(np.random.RandomState(5).bytes(16), "little")
    assert fitted.projection_.seed == drawn
    assert isinstance(fitted.projection_, SparseProjection)

    state = np.random.RandomState(5)
    first = kind(3, random_state=state).fit(normal(4, 9))
    second = kind(3, random_state=state).fit(normal(4, 9))
    assert first.projection_ == fitted.projection_
    assert second.projection_ != first.projection_


@BOTH
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_transform_is_the_product_with_the_components(kind: Any, dtype: Any) -> None:
    X = normal(20, 50, dtype)
    fitted = kind(12, random_state=0).fit(X)
    Y = fitted.transform(X)
    assert Y.dtype == fitted.components_.dtype == dtype
    tolerance = 16 * np.finfo(dtype).eps
    np.testing.assert_allclose(Y, X @ dense(fitted.components_).T, rtol=0, atol=20 * tolerance)
    assert np.array_equal(Y, fitted.projection_.project(X))
    assert np.array_equal(Y, kind(12, random_state=0, threads=1).fit_transform(X))


@BOTH
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", ["csr_array", "csr_matrix", "csc_array", "csc_matrix"])
def test_sparse_data(kind: Any, dtype: Any, form: str) -> None:
    X = getattr(sparse, form)(scattered(40, 300, dtype))
    Y = kind(20, random_state=0).fit(X).transform(X)
    assert Y.dtype == dtype
    assert np.array_equal(dense(Y), kind(20, random_state=0).fit_transform(X.toarray()))


def test_a_sparse_output_does_not_depend_on_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    X = sparse.csc_array(scattered(40, 300))
    fitted = SparseRandomProjection(20, random_state=0).fit(X)
    whole = fitted.transform(X)
    monkeypatch.setattr(_sparse, "_BLOCK_BYTES", 7 * 20 * 8)
    blocks = fitted.transform(X)
    assert blocks.format == "csr"
    assert blocks.shape == (40, 20)
    assert np.array_equal(whole.toarray(), blocks.toarray())
    dense_output = SparseRandomProjection(20, random_state=0, dense_output=True).fit(X)
    assert np.array_equal(whole.toarray(), dense_output.transform(X))


def test_sparse_containers_are_those_that_scikit_learn_is_set_to() -> None:
    X = sparse.csr_array(np.eye(30))
    fitted = SparseRandomProjection(5, random_state=0).fit(X)
    assert isinstance(fitted.components_, sparse.csr_matrix)
    assert isinstance(fitted.transform(X), sparse.csr_matrix)
    if "sparse_interface" not in sklearn.get_config():
        return
    with sklearn.config_context(sparse_interface="sparray"):
        fitted = clone(fitted).fit(X)
        assert isinstance(fitted.components_, sparse.csr_array)
        assert isinstance(fitted.transform(X), sparse.csr_array)


@BOTH
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_in_and_out(kind: Any, library: str) -> None:
    frames = pytest.importorskip(library)
    names = [f"column {number}" for number in range(9)]
    frame = frames.DataFrame({name: normal(6, 9)[:, i] for i, name in enumerate(names)})
    projection = kind(4, random_state=0).set_output(transform=library)
    out = projection.fit_transform(frame)
    assert isinstance(out, frames.DataFrame)
    assert list(out.columns) == [f"{kind.__name__.lower()}{number}" for number in range(4)]
    assert list(out.columns) == list(projection.get_feature_names_out())
    assert list(projection.feature_names_in_) == names
    assert projection.n_features_in_ == 9
    plain = kind(4, random_state=0).fit_transform(normal(6, 9))
    assert np.array_equal(out.to_numpy(), plain)
    with pytest.raises(ValueError, match="feature names"):
        projection.transform(
            frame.rename(columns={names[0]: "another"})
            if library == "pandas"
            else frame.rename({names[0]: "another"})
        )


@BOTH
def test_clones_and_pickles(kind: Any) -> None:
    X = normal(6, 30)
    fitted = kind(4, random_state=7).fit(X)
    assert not hasattr(clone(fitted), "projection_")
    assert np.array_equal(clone(fitted).fit_transform(X), fitted.transform(X))
    revived = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(revived.transform(X), fitted.transform(X))
    assert np.array_equal(dense(revived.components_), dense(fitted.components_))
    np.testing.assert_allclose(
        revived.inverse_transform(fitted.transform(X)),
        fitted.inverse_transform(fitted.transform(X)),
    )


@BOTH
def test_a_pickle_holds_no_matrix(kind: Any) -> None:
    def size(n_features: int) -> int:
        fitted = kind(16, random_state=0).fit(normal(2, n_features))
        assert fitted.components_.shape == (16, n_features)
        assert fitted.inverse_transform(normal(2, 16)).shape == (2, n_features)
        return len(pickle.dumps(fitted))

    small, large = size(100), size(20_000)
    assert abs(small - large) < 16
    assert large < 2000


@BOTH
def test_the_matrix_is_made_when_it_is_asked_for(kind: Any) -> None:
    fitted = kind(4, random_state=0).fit(normal(6, 30))
    fitted.transform(normal(6, 30))
    fitted.inverse_transform(normal(6, 4))
    # What a notebook lists and shows.
    assert "components_" not in dir(fitted)
    assert kind.__name__ in fitted._repr_html_()
    assert "components_" not in vars(fitted)
    first = fitted.components_
    assert "components_" in dir(fitted)
    assert fitted.components_ is first
    assert fitted.fit(normal(6, 31)).components_.shape == (4, 31)


@BOTH
def test_nothing_of_an_earlier_fit_remains(kind: Any) -> None:
    fitted = kind(4, compute_inverse_components=True, random_state=0).fit(normal(6, 30))
    assert fitted.inverse_components_.shape == (30, 4)
    fitted.set_params(compute_inverse_components=False).fit(normal(6, 20))
    assert not hasattr(fitted, "inverse_components_")
    assert fitted.inverse_transform(normal(2, 4)).shape == (2, 20)


@BOTH
def test_in_pipelines_and_searches(kind: Any) -> None:
    X = np.concatenate([normal(60, 200), normal(60, 200) + 1])
    y = np.repeat([0, 1], 60)
    pipeline = make_pipeline(StandardScaler(), kind(20, random_state=0), LogisticRegression())
    assert pipeline.fit(X, y).score(X, y) > 0.9
    step = pipeline[1]
    assert list(pipeline[:-1].get_feature_names_out()) == list(step.get_feature_names_out())

    search = GridSearchCV(pipeline, {f"{kind.__name__.lower()}__n_components": np.array([5, 40])})
    assert search.fit(X, y).best_score_ > 0.8
    columns = make_column_transformer((kind(3, random_state=0), slice(0, 100)), remainder="drop")
    assert columns.fit_transform(X).shape == (120, 3)


@BOTH
def test_before_fitting(kind: Any) -> None:
    projection = kind(2)
    assert not hasattr(projection, "components_")
    with pytest.raises(NotFittedError):
        projection.transform(normal(2, 3))
    with pytest.raises(NotFittedError):
        projection.inverse_transform(normal(2, 2))
    with pytest.raises(NotFittedError):
        projection.get_feature_names_out()


@BOTH
def test_the_number_of_components(kind: Any) -> None:
    X = normal(10, 200)
    assert kind(eps=0.5).fit(X).n_components_ == ours.johnson_lindenstrauss_min_dim(10, eps=0.5)
    assert type(kind(eps=0.5).fit(X).n_components_) is int
    with pytest.raises(
        InvalidArgumentError,
        match=r"eps=0.100000 and n_samples=10 lead to a "
        r"target dimension of 1973 which is larger than the original space "
        r"with n_features=200",
    ):
        kind().fit(X)
    with pytest.raises(InvalidArgumentError, match="target dimension of 0 which is invalid"):
        kind().fit(X[:1])
    with pytest.warns(DataDimensionalityWarning, match=r"n_features < n_components \(200 < 201\)"):
        kind(201).fit(X)


@BOTH
@pytest.mark.parametrize("way", ["fit", "fit_transform", "pipeline"])
def test_warnings_are_of_the_callers_line(kind: Any, way: str) -> None:
    X = normal(4, 9)
    options = {"density": 0.01} if kind is SparseRandomProjection else {}
    projection = kind(10, **options)
    call = make_pipeline(projection).fit if way == "pipeline" else getattr(projection, way)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(X)
    assert len(caught) == (2 if options else 1)
    assert {warning.filename for warning in caught} == {__file__}


@BOTH
@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"n_components": 0}, InvalidArgumentError),
        ({"n_components": -3}, InvalidArgumentError),
        ({"n_components": 2.5}, ArgumentTypeError),
        ({"n_components": True}, ArgumentTypeError),
        ({"n_components": "many"}, InvalidArgumentError),
        ({"eps": 0}, InvalidArgumentError),
        ({"eps": float("nan")}, InvalidArgumentError),
        ({"eps": "auto"}, ArgumentTypeError),
        ({"n_components": "auto", "eps": 1.0}, InvalidArgumentError),
        ({"compute_inverse_components": 1}, ArgumentTypeError),
        ({"random_state": "seven"}, ValueError),
        ({"threads": 0}, InvalidArgumentError),
    ],
)
def test_bad_parameters_are_refused_by_fit(
    kind: Any, parameters: dict[str, Any], error: type[Exception]
) -> None:
    projection = kind(**{"n_components": 2, **parameters})
    with pytest.raises(error):
        projection.fit(normal(4, 9))
    assert not hasattr(projection, "projection_")


@BOTH
def test_numpys_scalars_are_taken(kind: Any) -> None:
    projection = kind(
        np.int64(3), eps=np.float32(0.5), compute_inverse_components=np.bool_(True)
    ).fit(normal(4, 9))
    assert type(projection.n_components_) is int
    assert projection.inverse_components_.shape == (9, 3)


@BOTH
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(kind: Any, value: float) -> None:
    X = normal(4, 9)
    fitted = kind(2).fit(X)
    X[2, 3] = value
    for method in (fitted.fit, fitted.transform):
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            method(X)
