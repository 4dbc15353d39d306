"""The training step: the same on one device and on eight, donated, compiled once, keyed by step."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from alphacl_jax import families, rules
from alphacl_jax.methods.contrastive import contrastive_method
from alphacl_jax.methods.method import Method
from alphacl_jax.models.heads import Projector
from alphacl_jax.models.resnet import small_resnet
from alphacl_jax.training.mesh import data_mesh
from alphacl_jax.training.seeds import make_seeds_step, stack_states
from alphacl_jax.training.state import TrainState, step_key
from alphacl_jax.training.step import make_init, make_train_step
from tests.training.programs import inside_conditions, outside_conditions

STEPS, BATCH, SHAPE = 3, 16, (6, 6, 1)


class _Dense(nn.Module):
    """A layer with BatchNorm: quicker to compile than a convolution."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(4)(x.reshape(len(x), -1))
        return nn.relu(nn.BatchNorm(use_running_average=not train)(x))


OBJECTIVES = {
    "rule": (rules.direct(0.5, 4), small_resnet((4,))),
    "family": (families.info_nce(0.5), _Dense()),
}


def _mesh(devices: int) -> Mesh:
    return jax.make_mesh((devices,), ("data",), (AxisType.Auto,), devices=jax.devices()[:devices])


RAW = {
    "images": jax.ShapeDtypeStruct((BATCH, *SHAPE), jnp.uint8),
    "labels": jax.ShapeDtypeStruct((BATCH,), jnp.int32),
}
WATCHED = {"loss", "gradient_norm", "parameter_norm", "learning_rate"}


def _make_batch(key, raw):
    """Random, so that a key drawn differently on each device would show."""
    images = raw["images"]
    noise = jax.random.normal(key, (len(images), 2, *images.shape[1:]))
    return {"views": images[:, None] / 255 + 0.3 * noise, "labels": raw["labels"]}


def _rate(step):
    return 0.1 * (1 + step)


def _batches(mesh: Mesh, steps: int = STEPS) -> list[dict]:
    rng = np.random.default_rng(0)
    spread = NamedSharding(mesh, P("data"))
    return [
        jax.device_put(
            {
                "images": rng.integers(0, 256, (BATCH, *SHAPE), np.uint8),
                "labels": np.arange(BATCH, dtype=np.int32),
            },
            spread,
        )
        for _ in range(steps)
    ]


def _optimizer() -> optax.GradientTransformation:
    return optax.sgd(0.1, momentum=0.9)


@pytest.fixture(scope="module")
def runs():
    """For each objective and number of devices: the states' copies and metrics of three steps.

    The second is not recorded.
    """
    found = {}
    for name, (objective, encoder) in OBJECTIVES.items():
        for devices in (1, 8):
            mesh = _mesh(devices)
            method = contrastive_method(encoder, Projector(8, 2, 4, "affine"), objective, mesh)
            step = make_train_step(method, _optimizer(), _make_batch, _rate, mesh)
            state = make_init(method, _optimizer(), _make_batch, RAW, mesh)(0)
            # Copies: memory that NumPy looks at cannot be donated.
            history = [jax.tree.map(np.array, state)]
            for i, batch in enumerate(_batches(mesh)):
                given = state
                state, metrics = step(given, batch, i != 1)
                history.append((jax.tree.map(np.array, state), jax.device_get(metrics)))
            found[name, devices] = history, given, state, step
    return found


@pytest.mark.parametrize("name", OBJECTIVES)
def test_eight_devices_compute_what_one_computes(runs, name):
    one, eight = runs[name, 1][0], runs[name, 8][0]
    close = partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-6)
    jax.tree.map(np.testing.assert_array_equal, one[0], eight[0])
    for (state_1, metrics_1), (state_8, metrics_8) in zip(one[1:], eight[1:], strict=True):
        assert metrics_1.keys() == metrics_8.keys()
        for key in metrics_1:
            close(metrics_1[key], metrics_8[key], err_msg=key)
        jax.tree.map(close, state_1.params, state_8.params)
        jax.tree.map(close, state_1.method_state, state_8.method_state)
        jax.tree.map(close, state_1.opt_state, state_8.opt_state)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_parameter_and_every_statistic_moves(runs, name):
    first, (last, _) = runs[name, 8][0][0], runs[name, 8][0][-1]
    paths = jax.tree_util.tree_leaves_with_path((first.params, first.method_state))
    moved = jax.tree.leaves((last.params, last.method_state))
    assert len(first.method_state["encoder"]) > 0
    for (path, before), after in zip(paths, moved, strict=True):
        assert not np.array_equal(before, after), jax.tree_util.keystr(path)


def test_the_step_is_compiled_once(runs):
    for _, _, _, step in runs.values():
        assert step._cache_size() == 1


def test_the_state_is_donated_and_lies_on_each_device(runs):
    for (_, devices), (_, given, state, _) in runs.items():
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(given.params))
        for leaf in jax.tree.leaves(state):
            assert leaf.sharding.is_fully_replicated
            assert len(leaf.sharding.device_set) == devices


def test_the_step_counts_and_reports(runs):
    for history, _, state, _ in runs.values():
        assert [int(s.step) for s, _ in history[1:]] == [1, 2, 3]
        np.testing.assert_array_equal(state.key, history[0].key)
        assert set(history[1][1]) >= {*WATCHED, "energy"}
        rates = [metrics["learning_rate"] for _, metrics in history[1:]]
        np.testing.assert_allclose(rates, [0.1, 0.2, 0.3], rtol=1e-6)
        norm = optax.tree.norm(history[-1][0].params)
        np.testing.assert_allclose(history[-1][1]["parameter_norm"], norm, rtol=1e-6)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_what_is_not_recorded_is_not_measured(runs, name):
    for devices in (1, 8):
        metrics = [metrics for _, metrics in runs[name, devices][0][1:]]
        measures = set(metrics[0]) - WATCHED
        assert all(metrics[0][m] != 0 and metrics[2][m] != 0 for m in measures)
        assert not any(metrics[1][m] for m in measures)


@pytest.mark.parametrize("devices", [1, 8])
def test_the_measures_are_computed_under_a_condition_in_every_program(devices):
    """Also where seeds train as one: a condition that `vmap` made a choice of two would cost both.

    The measures alone look for a maximum over devices.
    """
    mesh = _mesh(devices)
    objective, encoder = OBJECTIVES["family"]
    method = contrastive_method(encoder, Projector(8, 2, 4, "affine"), objective, mesh)
    init = make_init(method, _optimizer(), _make_batch, RAW, mesh)
    (batch,) = _batches(mesh, 1)
    one = make_train_step(method, _optimizer(), _make_batch, _rate, mesh)
    several = make_seeds_step(method, _optimizer(), _make_batch, _rate, mesh)
    stacked = stack_states([init(0), init(1)])
    for traced in (
        one.trace(init(0), batch, True),
        several.trace(stacked, [batch, batch], True),
    ):
        jaxpr = traced.jaxpr
        assert "pmax" in inside_conditions(jaxpr.jaxpr)
        assert "pmax" not in outside_conditions(jaxpr.jaxpr)
        assert "dot_general" in outside_conditions(jaxpr.jaxpr)


def test_recording_changes_no_training_state():
    mesh = _mesh(8)
    objective, encoder = OBJECTIVES["family"]
    method = contrastive_method(encoder, Projector(8, 2, 4, "affine"), objective, mesh)
    init = make_init(method, _optimizer(), _make_batch, RAW, mesh)
    step = make_train_step(method, _optimizer(), _make_batch, _rate, mesh)
    (batch,) = _batches(mesh, 1)
    (quiet, less), (told, more) = (step(init(0), batch, recorded) for recorded in (False, True))
    jax.tree.map(np.testing.assert_array_equal, quiet, told)
    assert less["loss"] == more["loss"]
    assert step._cache_size() == 1


def test_the_mesh_has_all_devices():
    assert data_mesh().shape == {"data": 8}


def _views_of(key, raw):
    views = jnp.broadcast_to(raw["images"][:, None], (len(raw["images"]), 3, 5, 4))
    return {"views": views.astype(jnp.float32), "context": raw["labels"][:, None]}


def test_what_make_batch_makes_is_what_init_is_given():
    seen = {}

    def init(key, batch):
        seen.update({name: (array.shape, array.dtype) for name, array in batch.items()})
        return jax.random.normal(key, batch["views"].shape[2:]), {}

    method = Method(
        init=init,
        loss=lambda params, state, batch, key: (jnp.float32(0), (state, {})),
        features=lambda params, state, inputs: inputs,
        embed=lambda params, state, inputs: inputs,
    )
    found = []
    for batch_size in (16, 64):  # the parameters do not depend on it
        raw = {
            "images": jax.ShapeDtypeStruct((batch_size, 5, 4), jnp.uint8),
            "labels": jax.ShapeDtypeStruct((batch_size,), jnp.int32),
        }
        make = make_init(method, _optimizer(), _views_of, raw, _mesh(8))
        found += map(make, (0, 0, 1))
    assert seen == {
        "views": ((2, 3, 5, 4), jnp.float32),
        "context": ((2, 1), jnp.int32),
        "recorded": ((), jnp.bool_),
    }
    a, b, other, *again = found
    assert a.params.shape == (5, 4)
    for one, two in ((a, b), (a, again[0]), (other, again[2])):
        jax.tree.map(np.testing.assert_array_equal, one, two)
    assert not np.array_equal(a.params, other.params)
    assert not np.array_equal(a.key, other.key)
    assert int(a.step) == 0


def test_each_step_has_a_key_of_its_own():
    state = TrainState(jnp.int32(0), {}, {}, (), jax.random.key_data(jax.random.key(0)))
    keys = [
        tuple(np.asarray(jax.random.key_data(step_key(state._replace(step=jnp.int32(t))))))
        for t in range(5)
    ]
    assert len(set(keys)) == 5


def test_a_method_is_given_its_batch_and_two_different_keys():
    """A method of another kind: its state is a count, its loss reads the labels."""
    seen = {}

    def loss(params, state, batch, key):
        seen["shapes"] = {name: (array.shape, array.dtype) for name, array in batch.items()}
        draw = jax.random.uniform(key)
        value = jnp.sum(params * jnp.mean(batch["labels"].astype(jnp.float32)))
        return value, (state + 1, {"draw": draw, "view": batch["views"][0, 0, 0]})

    method = Method(
        lambda key, batch: (jnp.ones(2), jnp.int32(0)), loss, lambda p, s, x: x, lambda p, s, x: x
    )
    assert (method.shown, method.unit) == ((), "samples")
    mesh = _mesh(8)

    def make_batch(key, raw):
        views = jnp.broadcast_to(jax.random.uniform(key), (len(raw["images"]), 2, 1))
        return {"views": views, "labels": raw["labels"]}

    optimizer = optax.sgd(1.0)
    step = make_train_step(method, optimizer, make_batch, lambda step: 1.0, mesh)
    state = make_init(method, optimizer, make_batch, RAW, mesh)(0)
    draws = []
    for batch in _batches(mesh, 2):
        state, metrics = step(state, batch, False)
        draws += [float(metrics["draw"]), float(metrics["view"])]
    assert len(set(draws)) == 4
    assert seen["shapes"] == {
        "views": ((BATCH, 2, 1), jnp.float32),
        "labels": ((BATCH,), jnp.int32),
        "recorded": ((), jnp.bool_),
    }
    assert int(state.method_state) == 2
    np.testing.assert_allclose(state.params, 1 - 2 * 7.5)
    np.testing.assert_allclose(metrics["loss"], 2 * (1 - 7.5) * 7.5)
    np.testing.assert_allclose(metrics["gradient_norm"], 7.5 * 2**0.5, rtol=1e-6)
