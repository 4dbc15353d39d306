"""The estimator: seeds, what goes on and what stays, embeddings and scores by hand, sessions."""

import doctest
import signal
import subprocess
import sys
import weakref

import jax
import numpy as np
import pytest
from scipy.special import erf
from scipy.stats import binom
from sklearn.exceptions import NotFittedError

from alphacl_jax.errors import ArgumentError
from alphacl_jax.sequences import cebra as cebra_module
from alphacl_jax.sequences import fitting
from alphacl_jax.sequences.model import HISTORIES
from tests.sequences.tiny import CONTEXT, GROUPS, LABELS, OTHER, TIME, X, tiny

LEARNED = {"learned_temperature": True, "min_temperature": 0.99}


@pytest.fixture(scope="module")
def fitted():
    return tiny().fit(X, CONTEXT)


def _fresh(**parameters):
    """As `fitted`, for a test that changes it."""
    return tiny(**parameters).fit(X, CONTEXT)


def _same(one, other):
    """Whether two fitted estimators are the same bit by bit, the optimiser's state included."""
    return all(map(np.array_equal, *map(jax.tree.leaves, (one.model_.state, other.model_.state))))


def test_the_example_is_as_printed():
    with jax.numpy_rank_promotion("allow"):
        assert doctest.testmod(cebra_module).failed == 0


def test_the_package_loads_nothing_before_it_is_asked():
    code = "import sys, alphacl_jax.sequences; print({'jax', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["set()"]


def test_a_seed_repeats_bit_by_bit_and_another_does_not(fitted):
    again, other = _fresh(), _fresh(random_state=1)
    assert _same(fitted, again)
    np.testing.assert_array_equal(fitted.loss_, again.loss_)
    assert not np.array_equal(fitted.loss_, other.loss_)


def test_histories_have_each_iteration(fitted):
    assert fitted.n_iter_ == 12
    for history in (fitted.loss_, fitted.goodness_, fitted.temperature_):
        assert history.shape == (12,)
        assert history.dtype == np.float32
    bits = np.log2(16) - fitted.loss_ / np.log(2)
    np.testing.assert_allclose(fitted.goodness_, bits, atol=1e-5)
    np.testing.assert_array_equal(fitted.temperature_, 1)


@pytest.mark.parametrize("first", [5, 8])
def test_partial_fit_goes_on_bit_by_bit(fitted, first):
    """However many iterations the device takes at a time, and wherever it stops."""
    parts = _fresh(max_iterations=first)
    parts.set_params(max_iterations=12 - first).partial_fit(X, CONTEXT)
    assert _same(parts, fitted)
    np.testing.assert_array_equal(parts.loss_, fitted.loss_)


def test_partial_fit_without_a_model_is_fit(fitted):
    assert _same(tiny().partial_fit(X, CONTEXT), fitted)


def test_partial_fit_takes_other_data_another_rule_and_rate(fitted):
    found = _fresh()
    found.set_params(learning_rate=1e-3, batch_size=8, max_iterations=3)
    found.partial_fit(X[:100], LABELS[:100])
    assert found.n_iter_ == 15
    assert found.model_.problem.positives.rule == "label"
    assert not np.array_equal(found.transform(X), fitted.transform(X))


def test_learning_rates_share_a_program_and_scale_the_first_step():
    """Adam's first step is the rate along each parameter that has a gradient."""
    start = fitting.untrained
    moved = []
    for rate in (1e-3, 2e-3):
        found = _fresh(max_iterations=1, learning_rate=rate)
        before = start(found.model_.settings, *_given(found))
        pairs = zip(*map(_parameters, (before.state, found.model_.state)), strict=True)
        moved.append(np.concatenate([(b - a).ravel() for a, b in pairs]))
    np.testing.assert_allclose(moved[1], 2 * moved[0], rtol=1e-2, atol=1e-6)
    assert np.abs(moved[0]).max() == pytest.approx(1e-3, rel=1e-2)


def _given(estimator):
    return fitting.pose(estimator.model_.settings, X, (CONTEXT,), None)[:2]


def _parameters(state):
    return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(state.params)]


def _by_hand(estimator, windows):
    """A network of receptive field 5 on windows `[n, 5, channels]`, in float64."""
    parameters = estimator.model_.state.params["encoder"]
    layers = [parameters[name] for name in sorted(parameters)]

    def layer(x, i):
        kernel, bias = (np.asarray(layers[i][of], np.float64) for of in ("kernel", "bias"))
        width = len(kernel) // x.shape[-1]
        columns = [x[:, t : t + width].reshape(len(x), -1) for t in range(x.shape[1] - width + 1)]
        return np.stack([column @ kernel + bias for column in columns], axis=1)

    def gelu(x):
        return x * (1 + erf(x / np.sqrt(2))) / 2

    x = gelu(layer(windows, 0))
    x = x[:, 1:-1] + gelu(layer(x, 1))
    z = layer(x, 2)[:, 0]
    return z / np.linalg.norm(z, axis=1, keepdims=True)


@pytest.mark.parametrize("groups", [None, GROUPS])
def test_transform_embeds_the_window_of_each_moment(fitted, groups):
    """With the first and the last moment of each trial repeated, at its borders."""
    trials = [range(TIME)] if groups is None else [range(50), range(50, 80), range(80, TIME)]
    windows = [
        np.clip(np.arange(t - 2, t + 3), trial[0], trial[-1]) for trial in trials for t in trial
    ]
    found = fitted.transform(X, groups=groups)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, _by_hand(fitted, X[np.array(windows)]), atol=1e-5)


def test_transform_of_one_moment_and_of_more_than_a_block(fitted):
    long = np.tile(X, (60, 1))  # 9,000 moments
    found = fitted.transform(long)
    # Away from the borders each repetition is the same.
    np.testing.assert_allclose(
        found[150:-150].reshape(58, 150, 3), [found[150:300]] * 58, atol=1e-6
    )
    windows = np.repeat(X[:1], 5, axis=0)[None]
    np.testing.assert_allclose(fitted.transform(X[:1]), _by_hand(fitted, windows), atol=1e-5)


def test_embeddings_have_length_one_for_cosines_alone(fitted):
    np.testing.assert_allclose(np.linalg.norm(fitted.transform(X), axis=1), 1, atol=1e-6)
    lengths = np.linalg.norm(_fresh(similarity="euclidean").transform(X), axis=1)
    assert lengths.std() > 0.01


def test_fit_transform_is_both(fitted):
    np.testing.assert_array_equal(tiny().fit_transform(X, CONTEXT), fitted.transform(X))


@pytest.mark.slow
def test_fit_transform_is_both_in_trials():
    in_trials = tiny().fit_transform(X, CONTEXT, groups=GROUPS)
    again = tiny().fit(X, CONTEXT, groups=GROUPS)
    np.testing.assert_array_equal(in_trials, again.transform(X, groups=GROUPS))


def test_a_learned_temperature_moves_down_to_its_floor():
    found = _fresh(**LEARNED, learning_rate=1e-2, max_iterations=40)
    assert found.temperature_[0] == 1
    assert found.temperature_[-1] == pytest.approx(0.99, abs=1e-6)
    assert (found.temperature_ >= 0.99 - 1e-6).all()


def test_hybrid_learns_behaviour_and_time():
    both, behaviour = _fresh(hybrid=True), _fresh()
    bits = np.log2(16) - both.loss_ / np.log(2)
    # The loss is a sum of two, and the goodness is of one.
    assert (np.abs(bits - both.goodness_) > 0.5).all()
    assert both.goodness_.shape == behaviour.goodness_.shape


def test_the_score_of_embeddings_that_are_all_alike_is_zero():
    constant = np.ones_like(X)
    found = tiny().fit(constant, CONTEXT)
    assert found.score(constant, CONTEXT) == pytest.approx(0, abs=1e-5)


def test_the_score_of_two_known_embeddings():
    """Of a signal that is one vector for each label there are two, of cosine c, and so

        goodness = log₂ m + (1 − log(m_own e + m_other e^c)) / ln 2,

    where of m negatives m_own have the reference's label.
    """
    labels = np.arange(TIME) % 2
    signal = np.eye(2)[labels] @ np.array([[1.0, 0, 2, 0, 1, 0], [0, 1, -1, 1, 0, 2]])
    found = tiny(receptive_field=1, learning_rate=1e-2).fit(signal, labels)
    z = found.transform(signal)
    c, m = float(z[0] @ z[1]), 16
    own = np.arange(m + 1)
    bits = np.log2(m) + (1 - np.log(own * np.e + (m - own) * np.exp(c))) / np.log(2)
    weight = binom.pmf(own, m, 0.5)
    mean = weight @ bits
    assert mean > 0.05  # so that the labels are told apart
    # Of a batch's references all share the negatives: at most the spread of one of them.
    deviation = np.sqrt(weight @ (bits - mean) ** 2 / 64)
    assert found.score(signal, labels) == pytest.approx(mean, abs=6 * deviation)


def test_the_score_is_of_the_data_given_and_repeats(fitted):
    score = fitted.score(X, CONTEXT)
    assert score == fitted.score(X, CONTEXT)
    shuffled = np.random.default_rng(0).permutation(X)
    trained = _fresh(max_iterations=300, learning_rate=3e-3)
    assert trained.score(X, CONTEXT) > score + 0.1
    assert trained.score(X, CONTEXT) > trained.score(shuffled, CONTEXT) + 0.1


def test_the_score_wants_context_of_the_kinds_of_the_fit(fitted):
    with pytest.raises(ArgumentError, match="by 'time', and fit had those by 'time_delta'"):
        fitted.score(X)
    with pytest.raises(ArgumentError, match="'time_delta' within labels, and fit had"):
        fitted.score(X, CONTEXT, LABELS)


BAD_FITS = [
    ({}, (X * np.nan, CONTEXT), ArgumentError),
    ({}, (X, CONTEXT[1:]), ArgumentError),
    ({}, (X[:, 0], CONTEXT), ValueError),
    ({"temperature": -1.0}, (X, CONTEXT), ArgumentError),
    ({"time_offset": 1000}, (X, CONTEXT), ArgumentError),
    ({"learning_rate": 1e38}, (X, CONTEXT), FloatingPointError),
]


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(("parameters", "given", "error"), BAD_FITS)
def test_after_a_fit_that_fails_the_model_before_goes_on(method, parameters, given, error):
    found = _fresh()
    before, z = found.model_, found.transform(X)
    found.set_params(**parameters)
    with pytest.raises(error):
        getattr(found, method)(*given)
    assert found.model_ is before
    np.testing.assert_array_equal(found.transform(X), z)
    found.set_params(**tiny().get_params())
    found.partial_fit(X, CONTEXT)
    assert found.n_iter_ == 24


def test_a_first_fit_that_fails_leaves_nothing():
    found = tiny(learning_rate=1e38)
    with pytest.raises(FloatingPointError):
        found.fit(X, CONTEXT)
    with pytest.raises(NotFittedError):
        found.transform(X)
    for name in ("loss_", "n_features_in_", "feature_names_in_", "n_iter_"):
        assert not hasattr(found, name)


def test_a_loss_that_is_not_finite_names_what_may_be_wrong():
    words = (
        r"the (loss|parameter norm) is \S+ at iteration \d+: training stopped, and what was fitted "
        rf"before is kept. Lower learning_rate=1e\+38, raise temperature=1, or scale X, whose "
        rf"largest value is {np.abs(X).max():g}$"
    )
    with pytest.raises(FloatingPointError, match=words):
        _fresh(learning_rate=1e38)
    with pytest.raises(FloatingPointError, match=r"raise min_temperature=0.99"):
        _fresh(learning_rate=1e38, **LEARNED)


def test_embeddings_that_are_not_finite_are_refused():
    found = _fresh()
    huge = jax.tree.map(lambda of: of * np.float32(1e30), found.model_.state.params)
    object.__setattr__(found.model_, "state", found.model_.state._replace(params=huge))
    with pytest.raises(ArgumentError, match="embeddings that are not finite"):
        found.transform(X * 1e10)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("receptive_field", 1),
        ("hidden_units", 8),
        ("output_dimension", 2),
        ("similarity", "euclidean"),
        ("output_dimension", np.array([3, 3])),
    ],
)
def test_a_changed_architecture_is_named_wherever_the_model_is_used(fitted, name, value):
    old = getattr(fitted, name)
    fitted.set_params(**{name: value})
    try:
        for use in ("transform", "partial_fit", "score"):
            with pytest.raises(ArgumentError, match=rf"set_params\({name}={old!r}\)") as caught:
                getattr(fitted, use)(X, *(() if use == "transform" else (CONTEXT,)))
            assert caught.value.argument == name
            assert f"that {use} needs: call fit" in str(caught.value)
    finally:
        fitted.set_params(**{name: old})
    assert fitted.transform(X).shape == (TIME, 3)


def test_other_changes_leave_transform_as_it_was(fitted):
    z = fitted.transform(X)
    changed = {"temperature": 2.0, "learned_temperature": True, "batch_size": 99, "time_offset": 9}
    fitted.set_params(**changed)
    np.testing.assert_array_equal(fitted.transform(X), z)
    with pytest.raises(ArgumentError, match=r"learned_temperature=True was False .* partial_fit"):
        fitted.partial_fit(X, CONTEXT)
    fitted.set_params(**{**tiny().get_params()})


def _interrupted(monkeypatch, after):
    """Has Ctrl-C come after so many reports of training."""
    train = fitting.train

    def train_until(*arguments):
        for number, reached in enumerate(train(*arguments)):
            if number == after:
                signal.raise_signal(signal.SIGINT)
            yield reached

    monkeypatch.setattr(fitting, "train", train_until)


def test_ctrl_c_keeps_what_was_reached(fitted, monkeypatch):
    found = tiny()
    with monkeypatch.context() as patch:
        _interrupted(patch, after=1)
        with pytest.raises(KeyboardInterrupt):
            found.fit(X, CONTEXT)
    assert found.n_iter_ == 8
    assert found.transform(X).shape == (TIME, 3)
    found.set_params(max_iterations=4).partial_fit(X, CONTEXT)
    assert _same(found, fitted)


def test_ctrl_c_before_the_first_iterations_keeps_the_model_before(monkeypatch):
    found = _fresh()
    before = found.model_
    _interrupted(monkeypatch, after=0)
    for refit in (found.fit, found.partial_fit):
        with pytest.raises(KeyboardInterrupt):
            refit(X, CONTEXT)
        assert found.model_ is before


def test_states_on_the_way_are_not_kept(fitted, monkeypatch):
    alive = []

    class State:
        pass

    def train(*_):
        seen = []
        for _ in range(4):
            state = State()
            seen.append(weakref.ref(state))
            yield state, {name: np.zeros(1, np.float32) for name in HISTORIES}
            del state
            alive.append(sum(ref() is not None for ref in seen))

    monkeypatch.setattr(fitting, "train", train)
    kept = []
    fitting.train_on(fitted.model_, [{"signal": X}], kept.append)
    assert max(alive) == 1
    assert len(kept[0].histories["loss"]) == 12 + 4


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_is_for_terminals(monkeypatch, capsys, is_terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    _fresh(verbose=True)
    shown = capsys.readouterr().err
    assert ("12/12" in shown and "bits" in shown) if is_terminal else not shown
    _fresh()
    assert not capsys.readouterr().err


@pytest.fixture(scope="module")
def sessions():
    return tiny().fit([X, OTHER], [CONTEXT, CONTEXT])


def test_sessions_have_encoders_of_their_own(sessions):
    assert sessions.n_features_in_ == (6, 9)
    one, other = sessions.transform([X, OTHER])
    assert one.shape == other.shape == (TIME, 3)
    np.testing.assert_array_equal(sessions.transform(OTHER, session=1), other)
    np.testing.assert_array_equal(sessions.transform(X, 0), one)
    in_trials = sessions.transform([X, OTHER], groups=[None, GROUPS])
    np.testing.assert_array_equal(in_trials[0], one)
    np.testing.assert_array_equal(in_trials[1], sessions.transform(OTHER, 1, groups=GROUPS))


def test_sessions_repeat_go_on_and_have_a_score(sessions):
    parts = tiny(max_iterations=5).fit([X, OTHER], [CONTEXT, CONTEXT])
    parts.set_params(max_iterations=7).partial_fit([X, OTHER], [CONTEXT, CONTEXT])
    assert _same(parts, sessions)
    assert np.isfinite(sessions.score([X, OTHER], [CONTEXT, CONTEXT]))


def test_sessions_share_a_space():
    """Of the same moments, whose signals have no channel in common, the embeddings agree."""
    found = tiny(max_iterations=400, learning_rate=1e-2).fit([X, OTHER], [CONTEXT, CONTEXT])
    one, other = found.transform([X, OTHER])
    agreement = (one * other).sum(axis=1).mean()
    shifted = (one * np.roll(other, TIME // 2, axis=0)).sum(axis=1).mean()
    assert agreement > 0.5
    assert agreement > shifted + 0.3


@pytest.mark.parametrize(
    ("use", "given", "words"),
    [
        ("transform", (X,), "session=None must be the number of a session that was fitted, 0 to 1"),
        ("transform", (X, 2), "session=2 must be"),
        ("transform", (X, 1), "has 6 channels in session 1, which was fitted with 9"),
        ("transform", ([OTHER, X],), "has 9 channels in session 0, which was fitted with 6"),
        ("transform", ([X],), "X=<list of 1> must be a list of 2 sessions"),
        ("partial_fit", (X, CONTEXT), "must be a list of 2 sessions"),
        ("score", ([X], [CONTEXT]), "must be a list of 2 sessions"),
    ],
)
def test_other_sessions_than_those_of_the_fit(sessions, use, given, words):
    with pytest.raises(ArgumentError, match=words):
        getattr(sessions, use)(*given)


def test_sessions_for_a_model_of_one_array(fitted):
    with pytest.raises(ArgumentError, match="must be one array, as it was in fit"):
        fitted.transform([X, X])
    np.testing.assert_array_equal(fitted.transform(X, 0), fitted.transform(X))


@pytest.mark.slow
def test_float64_changes_nothing_but_its_own(x64):
    """Where JAX computes in float64 elsewhere, this stays in float32."""
    found = _fresh(max_iterations=3, learned_temperature=True)
    assert found.transform(X).dtype == np.float32
    assert found.loss_.dtype == np.float32
    assert np.isfinite(found.score(X, CONTEXT))
