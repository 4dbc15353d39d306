"""Optimisers: the schedule's values, what weight decay spares, clipping, the errors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alphacl_jax.errors import ArgumentError
from alphacl_jax.training.optim import (
    OPTIMIZERS,
    Part,
    make_optimizer,
    warmup_cosine,
    weights_only,
)

PARAMS = {"kernel": jnp.full((3, 2), 2.0), "bias": jnp.full((2,), 2.0), "scale": jnp.ones((2,))}


def _after(optimizer, gradients, params=PARAMS):
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    return optax.apply_updates(params, updates)


def test_warmup_rises_linearly_and_the_cosine_ends_at_nought():
    schedule = warmup_cosine(0.4, total_steps=100, warmup_steps=20)
    values = np.array([schedule(step) for step in (0, 5, 20, 60, 100)])
    np.testing.assert_allclose(values, [0, 0.1, 0.4, 0.2, 0], atol=1e-7)
    # The peak is the one maximum, and the last step of the run still moves.
    run = np.array([schedule(step) for step in range(100)])
    assert run.argmax() == 20
    assert 0 < run[99] < 0.001


def test_without_warmup_the_first_step_has_the_peak():
    schedule = warmup_cosine(0.4, total_steps=10, warmup_steps=0)
    values = [schedule(0), schedule(5), schedule(10)]
    np.testing.assert_allclose(values, [0.4, 0.2, 0.0], atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 10, 0), "learning_rate=0.0 must be finite and > 0"),
        ((float("nan"), 10, 0), "learning_rate=nan must be finite and > 0"),
        ((0.1, 10, 10), "warmup_steps=10 does not fit in a run of 10 steps"),
        ((0.1, 10, -1), "warmup_steps=-1 does not fit"),
    ],
)
def test_schedules_that_do_not_fit(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        warmup_cosine(*arguments)


def test_norms_and_biases_are_not_weights():
    assert weights_only(PARAMS) == {"kernel": True, "bias": False, "scale": False}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weight_decay_shrinks_weights_alone(name):
    still = jax.tree.map(jnp.zeros_like, PARAMS)
    after = _after(make_optimizer(name, lambda step: 0.1, weight_decay=0.5), still)
    assert (after["kernel"] < PARAMS["kernel"]).all()
    for spared in ("bias", "scale"):
        np.testing.assert_array_equal(after[spared], PARAMS[spared])
    unmoved = _after(make_optimizer(name, lambda step: 0.1), still)
    np.testing.assert_array_equal(unmoved["kernel"], PARAMS["kernel"])


def test_decoupled_decay_is_the_learning_rate_times_the_weight():
    still = jax.tree.map(jnp.zeros_like, PARAMS)
    for name in ("sgd", "adamw"):
        after = _after(make_optimizer(name, lambda step: 0.1, weight_decay=0.5), still)
        np.testing.assert_allclose(after["kernel"], 2.0 * (1 - 0.1 * 0.5), rtol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_descends(name):
    optimizer = make_optimizer(name, lambda step: 0.05, weight_decay=1e-4, clip_norm=1.0)

    def loss(params):
        return sum(jnp.sum(jnp.square(p)) for p in jax.tree.leaves(params))

    after = _after(optimizer, jax.grad(loss)(PARAMS))
    assert loss(after) < loss(PARAMS)
    for before, now in zip(jax.tree.leaves(PARAMS), jax.tree.leaves(after), strict=True):
        assert (before != now).all()


def test_clipping_bounds_the_gradient_and_leaves_small_ones_alone():
    optimizer = make_optimizer("sgd", lambda step: 1.0, momentum=0.0, clip_norm=0.5)
    for size, expected in ((100.0, 0.5), (0.01, 0.01)):
        gradients = jax.tree.map(jnp.zeros_like, PARAMS)
        gradients["bias"] = jnp.array([size, 0.0])
        moved = PARAMS["bias"] - _after(optimizer, gradients)["bias"]
        np.testing.assert_allclose(moved, [expected, 0.0], rtol=1e-4)


def test_momentum_is_read():
    gradients = jax.tree.map(jnp.ones_like, PARAMS)
    for momentum, second in ((0.0, 1.0), (0.5, 1.5)):
        optimizer = make_optimizer("sgd", lambda step: 1.0, momentum=momentum)
        _, state = optimizer.update(gradients, optimizer.init(PARAMS), PARAMS)
        updates, _ = optimizer.update(gradients, state, PARAMS)
        np.testing.assert_allclose(updates["bias"], -second)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "rmsprop"}, "optimizer=rmsprop is unknown; use one of sgd, adam, adamw, lars"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1 must be finite and >= 0"),
        ({"momentum": 1.0}, "momentum=1.0 must be in"),
        ({"clip_norm": 0.0}, "clip_norm=0.0 must be > 0; leave it out"),
        ({"parts": {"encoder": Part(-1.0)}}, "rate=-1.0 must be finite and >= 0"),
        ({"parts": {"a": Part(weight_decay=-1.0)}}, "weight_decay=-1.0 must be finite and >= 0"),
    ],
)
def test_values_out_of_range(options, message):
    with pytest.raises(ArgumentError, match=message):
        make_optimizer(options.pop("name", "sgd"), lambda step: 0.1, **options)


PARTS = {"encoder": PARAMS, "projector": {"kernel": jnp.full((2, 2), 3.0)}, "predictor": PARAMS}


def _updates(optimizer, steps=2):
    """The updates of each step under gradients of ones."""
    params, found = PARTS, []
    state = optimizer.init(params)
    for _ in range(steps):
        updates, state = optimizer.update(jax.tree.map(jnp.ones_like, params), state, params)
        params = optax.apply_updates(params, updates)
        found.append(updates)
    return found, params


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_rates_scale_the_learning_rate_of_their_part_and_nothing_else(name):
    def schedule(step):
        return 0.1 / (1 + step)

    options = {"weight_decay": 0.1, "clip_norm": 1.0}
    (plain, *_), _ = _updates(make_optimizer(name, schedule, **options))
    parts = {"predictor": Part(10.0), "encoder": Part(0.0)}
    optimizer = make_optimizer(name, schedule, parts=parts, **options)
    (first, _), last = _updates(optimizer)
    jax.tree.map(np.testing.assert_array_equal, first["projector"], plain["projector"])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, 10 * b, rtol=1e-6),
        first["predictor"],
        plain["predictor"],
    )
    jax.tree.map(np.testing.assert_array_equal, last["encoder"], PARTS["encoder"])


def test_a_frozen_part_stays_where_its_gradient_is_not_finite():
    optimizer = make_optimizer("sgd", lambda step: 0.1, parts={"encoder": Part(0.0)})
    gradients = jax.tree.map(jnp.ones_like, PARTS)
    gradients["encoder"] = jax.tree.map(lambda p: p * jnp.inf, gradients["encoder"])
    updates, _ = optimizer.update(gradients, optimizer.init(PARTS), PARTS)
    assert not any(np.any(u) for u in jax.tree.leaves(updates["encoder"]))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_part_may_have_a_schedule_and_a_weight_decay_of_its_own(name):
    def schedule(step):
        return 0.1 / (1 + step)

    part = Part(2.0, lambda step: 0.3, weight_decay=0.5)
    optimizer = make_optimizer(name, schedule, weight_decay=0.1, parts={"predictor": part})
    found, _ = _updates(optimizer)
    alone, _ = _updates(make_optimizer(name, lambda step: 0.6, weight_decay=0.5))
    others, _ = _updates(make_optimizer(name, schedule, weight_decay=0.1))
    for step in range(2):
        for name, want in (("predictor", alone), ("encoder", others), ("projector", others)):
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
                found[step][name],
                want[step][name],
            )


@pytest.mark.parametrize("parts", [None, {}])
def test_without_parts_the_state_is_the_plain_one(parts):
    plain = make_optimizer("sgd", lambda step: 0.1).init(PARTS)
    state = make_optimizer("sgd", lambda step: 0.1, parts=parts).init(PARTS)
    assert jax.tree.structure(state) == jax.tree.structure(plain)


def test_an_unknown_part_names_those_there_are():
    optimizer = make_optimizer("sgd", lambda step: 0.1, parts={"target": Part(0.5)})
    with pytest.raises(
        ArgumentError, match=r"target.*no part .* have encoder, predictor, projector"
    ):
        optimizer.init(PARTS)
