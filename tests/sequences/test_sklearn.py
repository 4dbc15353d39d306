"""scikit-learn's own checks of estimators, its pipelines and searches, and tables."""

import importlib.util
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from alphacl_jax.sequences import CEBRA
from tests.sequences.tiny import CONTEXT, LABELS, X, tiny

# Of one moment the embedding does not depend on others; of windows it does.
MOMENTS = tiny(receptive_field=1, time_offset=1, max_iterations=2, batch_size=8)
WINDOWS = tiny(time_offset=1, max_iterations=2, batch_size=8, positives="time")
NEIGHBOURS = "the rows are moments in time: an embedding is of those around it as well"
NOT_FOR_WINDOWS = {
    "check_methods_sample_order_invariance": NEIGHBOURS,
    "check_methods_subset_invariance": NEIGHBOURS,
}
# Those that train nothing, or share what they compile.
QUICK = {
    "check_complex_data",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_sparse_array",
    "check_estimator_sparse_matrix",
    "check_estimator_sparse_tag",
    "check_estimator_tags_renamed",
    "check_estimators_empty_data_messages",
    "check_estimators_unfitted",
    "check_fit1d",
    "check_fit2d_1sample",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
    # These fit the same 20 samples.
    "check_dict_unchanged",
    "check_fit2d_predict1d",
    "check_methods_sample_order_invariance",
    "check_n_features_in",
}


def _name(check):
    return getattr(check, "func", check).__name__


def _expected_failures(estimator):
    return NOT_FOR_WINDOWS if estimator.receptive_field > 1 else {}


@pytest.mark.slow
@parametrize_with_checks([MOMENTS, WINDOWS], expected_failed_checks=_expected_failures)
def test_every_check(estimator, check):
    check(estimator)


def _quick():
    found = {_name(check): check for _, check in estimator_checks_generator(MOMENTS)}
    return [pytest.param(found[name], id=name) for name in sorted(QUICK)]


@pytest.mark.parametrize("check", _quick())
def test_quick_checks(check):
    check(clone(MOMENTS))


TABLES = [
    "check_dataframe_column_names_consistency",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_global_output_transform_pandas",
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")  # as some want
@pytest.mark.parametrize("name", TABLES)
def test_tables(name):
    """Checks that scikit-learn has for transformers of its own."""
    pytest.importorskip("pandas")
    getattr(estimator_checks, name)("CEBRA", clone(MOMENTS))


def test_a_model_is_pickled_whole():
    found = tiny().fit(X, CONTEXT)
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.transform(X), found.transform(X))
    again.partial_fit(X, CONTEXT)
    assert again.n_iter_ == 24


def test_a_clone_is_not_fitted():
    found = tiny().fit(X, CONTEXT)
    copy = clone(found)
    assert copy.get_params() == found.get_params()
    assert not hasattr(copy, "model_")


def test_the_columns_of_the_embedding_have_names():
    found = tiny().fit(X, CONTEXT)
    assert list(found.get_feature_names_out()) == ["cebra0", "cebra1", "cebra2"]
    if importlib.util.find_spec("pandas"):
        table = found.set_output(transform="pandas").transform(X)
        assert list(table.columns) == ["cebra0", "cebra1", "cebra2"]


def test_a_pipeline_hands_the_labels_on():
    scaled = StandardScaler().fit_transform(X)
    pipeline = make_pipeline(StandardScaler(), tiny(), LogisticRegression()).fit(X, LABELS)
    alone = tiny().fit(scaled, LABELS)
    np.testing.assert_array_equal(pipeline[:-1].transform(X), alone.transform(scaled))
    assert pipeline.named_steps["cebra"].model_.problem.positives.rule == "label"
    # Without a target at all.
    last = make_pipeline(StandardScaler(), tiny()).fit(X)
    assert last[-1].model_.problem.positives.rule == "time"


@pytest.mark.slow
def test_a_search_by_the_goodness_of_fit():
    """In blocks of time, of which two of three are fitted."""
    rates = [1e-5, 1e-2]
    search = GridSearchCV(
        tiny(max_iterations=200), {"learning_rate": rates}, cv=KFold(3), error_score="raise"
    )
    search.fit(X, CONTEXT)
    assert search.best_params_ == {"learning_rate": 1e-2}
    assert isinstance(search.best_estimator_, CEBRA)
