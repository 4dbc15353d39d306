"""CPC as a method: its loss by hand, policies, features, devices, what is warned of and refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

from alphacl_jax.errors import ArgumentError
from alphacl_jax.methods.cpc import cpc_contexts, cpc_method
from alphacl_jax.models.speech import GRUContext, StepEncoder, feature_encoder
from alphacl_jax.objectives.predictive import NEGATIVES
from tests.training.programs import inside_loops_and_conditions, outside_conditions

BATCH, TIME, CHANNELS, STEPS = 8, 9, 3, 2
ENCODER, CONTEXT = feature_encoder(5), GRUContext(4)
KEY = jax.random.key(0)
BATCH_OF_WINDOWS = {
    "windows": jax.random.normal(jax.random.key(1), (BATCH, TIME, CHANNELS)),
    "recordings": jnp.array([0, 0, 1, 2, 3, 4, 4, 5]),
    "labels": jnp.array([0, 0, 0, 1, 1, 2, 2, -1]),
    "recorded": jnp.array(True),
}


def _mesh(devices):
    return jax.make_mesh((devices,), ("data",), (AxisType.Auto,), devices=jax.devices()[:devices])


def _method(devices=1, **options):
    return cpc_method(ENCODER, CONTEXT, _mesh(devices), **{"steps": STEPS, **options})


@pytest.fixture(scope="module")
def started():
    """Parameters and state, the W_k so large that scores differ."""
    params, state = jax.jit(_method().init)(KEY, BATCH_OF_WINDOWS)
    kernel = 10 * params["predictor"]["kernel"]
    return {**params, "predictor": {"kernel": kernel}}, state


def _by_hand(params, state, negatives, temperature):
    """Loss, accuracies and log N, by loops over k and moments, in float64."""
    recordings, labels = (np.asarray(BATCH_OF_WINDOWS[n]) for n in ("recordings", "labels"))
    variables = [{"params": params[name]} for name in ("encoder", "context")]
    z = ENCODER.apply(variables[0], BATCH_OF_WINDOWS["windows"], train=False)
    c = CONTEXT.apply(variables[1], z, train=False)
    z, c = np.asarray(z, np.float64), np.asarray(c, np.float64)
    losses, accuracies, logs = [], [], []
    moments = [(b, t) for b in range(BATCH) for t in range(TIME - STEPS)]
    for k in range(1, STEPS + 1):
        w = np.asarray(params["predictor"]["kernel"][k - 1], np.float64)
        own, hits = [], []
        for b, t in moments:
            chosen = {
                "mixed": lambda a, b=b: True,
                "mixed_excluded": lambda a, b=b: recordings[a] != recordings[b],
                "same": lambda a, b=b: labels[a] == labels[b] >= 0,
                "same_excluded": lambda a, b=b: (
                    labels[a] == labels[b] >= 0 and recordings[a] != recordings[b]
                ),
                "current": lambda a, b=b: recordings[a] == recordings[b],
            }[negatives]
            others = [
                c[b, t] @ w @ z[a, s + k] for a, s in moments if (a, s) != (b, t) and chosen(a)
            ]
            if others:
                positive = c[b, t] @ w @ z[b, t + k]
                scores = np.array([positive, *others]) / temperature
                own.append(np.log(np.exp(scores - scores[0]).sum()))
                hits.append(positive > max(others))
                logs.append(np.log(len(scores)))
        losses.append(np.mean(own))
        accuracies.append(np.mean(hits))
    return np.mean(losses), accuracies, np.mean(logs)


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_the_loss_is_what_it_says_with_each_policy(started, negatives):
    params, state = started
    method = _method(negatives=negatives, temperature=0.7)
    value, (new_state, metrics) = jax.jit(method.loss)(params, state, BATCH_OF_WINDOWS, KEY)
    expected, accuracies, log_n = _by_hand(params, state, negatives, 0.7)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose([metrics[f"accuracy_{k}"] for k in (1, 2)], accuracies, atol=1e-6)
    np.testing.assert_allclose(metrics["candidates"], np.exp(log_n), rtol=1e-5)
    np.testing.assert_allclose(metrics["bound"], log_n - expected, rtol=1e-3, atol=1e-5)
    assert set(metrics) == {"accuracy_1", "accuracy_2", "candidates", "bound"}
    assert new_state == state == {"encoder": {}, "context": {}}
    assert method.warning(metrics) == ""


def test_eight_devices_and_blocks_are_one(started):
    params, state = started

    def of(devices, block_size):
        loss = _method(devices, negatives="same", block_size=block_size).loss
        both = jax.jit(jax.value_and_grad(loss, has_aux=True))
        (value, (_, metrics)), gradients = both(params, state, BATCH_OF_WINDOWS, KEY)
        return value, metrics, gradients

    one, eight = of(1, None), of(8, 3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), eight, one)
    for path, gradient in jax.tree_util.tree_leaves_with_path(one[2]):
        assert float(optax.tree.norm(gradient)) > 1e-6, jax.tree_util.keystr(path)


def test_devices_wait_for_each_other_before_and_after_the_loop_over_k_alone(started):
    params, state = started
    loss = jax.value_and_grad(_method(8, negatives="same_excluded").loss, has_aux=True)
    program = jax.make_jaxpr(loss)(params, state, BATCH_OF_WINDOWS, KEY).jaxpr
    within = inside_loops_and_conditions(program)
    assert "dot_general" in within
    spoken = {"psum", "psum_invariant", "all_gather", "all_gather_invariant", "reduce_scatter"}
    assert not within & spoken
    assert spoken & outside_conditions(program)


def test_at_the_start_all_candidates_are_about_alike():
    method = _method()
    params, state = jax.jit(method.init)(KEY, BATCH_OF_WINDOWS)
    assert set(params) == {"encoder", "context", "predictor"}
    assert params["predictor"]["kernel"].shape == (STEPS, 4, 5)
    _, (_, metrics) = jax.jit(method.loss)(params, state, BATCH_OF_WINDOWS, KEY)
    np.testing.assert_allclose(metrics["candidates"], BATCH * (TIME - STEPS), rtol=1e-5)
    assert abs(metrics["bound"]) < 0.1


def test_what_nobody_looks_at_is_not_computed(started):
    method = _method()
    quiet = BATCH_OF_WINDOWS | {"recorded": jnp.array(False)}
    loss = jax.jit(method.loss)
    value, (_, metrics) = loss(*started, quiet, KEY)
    assert value == loss(*started, BATCH_OF_WINDOWS, KEY)[0]
    assert not any(metrics.values())


def test_features_are_the_mean_of_contexts_that_know_no_future(started):
    params, state = started
    method, windows = _method(), BATCH_OF_WINDOWS["windows"]
    contexts = cpc_contexts(ENCODER, CONTEXT)
    c = contexts(params, state, windows)
    assert c.shape == (BATCH, TIME, 4)
    features = method.features(params, state, windows)
    np.testing.assert_allclose(features, np.asarray(c).mean(1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(contexts(params, state, windows[:, :4]), c[:, :4], atol=1e-5)
    assert method.embed(params, state, windows).shape == (BATCH, 5)


def test_the_method_says_what_is_counted_and_shown():
    assert (_method().unit, _method().shown) == ("windows", ("bound", "accuracy_1"))


def test_a_batch_without_negatives_is_warned_of(started):
    method = _method(negatives="same")
    batch = BATCH_OF_WINDOWS | {"labels": jnp.full(BATCH, -1)}
    value, (_, metrics) = jax.jit(method.loss)(*started, batch, KEY)
    assert value == 0
    assert method.warning(metrics).startswith("no moment of the batch has a negative")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "^steps=0 must be at least 1, the next step"),
        ({"negatives": "others"}, "^negatives='others' is unknown; it must be one of mixed,"),
    ],
)
def test_settings_that_make_no_method(options, message):
    with pytest.raises(ArgumentError, match=message):
        _method(**options)


@pytest.mark.parametrize(
    ("negatives", "missing"),
    [("same", "labels"), ("same_excluded", "recordings"), ("current", "recordings")],
)
def test_a_batch_without_what_negatives_are_told_by(started, negatives, missing):
    method = _method(negatives=negatives)
    batch = {name: of for name, of in BATCH_OF_WINDOWS.items() if name != missing}
    message = f"^negatives='{negatives}' is told by the {missing} of windows, and the batch has no"
    with pytest.raises(ArgumentError, match=message):
        method.init(KEY, batch)
    with pytest.raises(ArgumentError, match=message):
        method.loss(*started, batch, KEY)


def test_a_window_too_short_to_predict_in():
    method = cpc_method(StepEncoder((3,), (3,), 5), CONTEXT, _mesh(1), steps=3)
    params, state = method.init(KEY, BATCH_OF_WINDOWS)
    message = "^steps=3 are too many: of a window of 9 moments the encoder makes 3 steps; predict"
    with pytest.raises(ArgumentError, match=message):
        method.loss(params, state, BATCH_OF_WINDOWS, KEY)
