"""Negatives from a queue: which keys are in it, and the loss against plain NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

import alphacl_jax as acl
from alphacl_jax.errors import ArgumentError
from alphacl_jax.methods.queue import queue_method
from alphacl_jax.methods.target import constant_momentum
from tests.methods.test_siamese import BATCH, DIM, KEY, SIZE, Linear, batch_of, kernel, unit

TAU, KEPT = 0.3, 4 * BATCH
MESHES = {
    n: jax.make_mesh((n,), ("data",), (AxisType.Auto,), devices=jax.devices()[:n]) for n in (1, 2)
}


def method_on(devices=1, rule_or_family=None, size=KEPT):
    return queue_method(
        Linear(),
        Linear(DIM),
        rule_or_family or acl.families.info_nce(TAU),
        MESHES[devices],
        size=size,
        momentum=constant_momentum(0.5),
    )


def x_of(seed):
    return np.random.default_rng(seed).normal(size=(BATCH, 2, SIZE)).astype(np.float32)


def info_nce(q, k, queue):
    """With d² = 1 − cos and ε = 1, τ times the usual cross-entropy."""
    positive = np.exp(np.sum(q * k, axis=1) / TAU)
    total = positive + np.exp(q @ queue.T / TAU).sum(axis=1)
    return TAU * -np.log(positive / total).mean()


@pytest.fixture(scope="module")
def started():
    method = method_on()
    params, state = method.init(KEY, batch_of(x_of(0)))
    return jax.jit(method.loss), params, state


def test_the_loss_and_the_queue_step_by_step(started):
    loss, params, state = started
    queue = np.asarray(state["queue"])
    np.testing.assert_allclose(np.linalg.norm(queue, axis=1), 1.0, rtol=1e-5)
    assert queue.shape == (KEPT, DIM)
    target = None
    for step in range(3):
        # Other weights at each step, as an optimiser makes them.
        params = jax.tree.map(lambda p: p * 1.1 + 0.01, params)
        online = [kernel(params, name) for name in ("encoder", "projector")]
        target = (
            online
            if target is None
            else [0.5 * (t + o) for t, o in zip(target, online, strict=True)]
        )
        x = x_of(step)
        z, k = (unit(x @ w[0] @ w[1]) for w in (online, target))
        value, (state, metrics) = loss(params, state, batch_of(x), KEY)
        want = 0.5 * (info_nce(z[:, 0], k[:, 1], queue) + info_nce(z[:, 1], k[:, 0], queue))
        np.testing.assert_allclose(value, want, rtol=1e-3)
        assert metrics["momentum"] == 0.5
        queue = queue.copy()
        at = (2 * BATCH * step) % KEPT
        queue[at : at + 2 * BATCH] = k.reshape(-1, DIM)
        np.testing.assert_allclose(state["queue"], queue, rtol=1e-4, atol=1e-5)
    assert state["count"] == 3


def test_no_gradient_flows_into_keys(started):
    loss, params, state = started
    _, (state, _) = loss(params, state, batch_of(x_of(0)), KEY)
    by_state = jax.grad(
        lambda target: loss(params, {**state, "target": target}, batch_of(x_of(1)), KEY)[0]
    )(state["target"])
    assert not any(np.any(g) for g in jax.tree.leaves(by_state))


@pytest.mark.parametrize("rule", [acl.families.info_nce(TAU), acl.rules.direct(TAU)])
def test_two_devices_compute_what_one_computes(rule):
    found = []
    for devices in (1, 2):
        method = method_on(devices, rule)
        params, state = method.init(KEY, batch_of(x_of(0)))
        step = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
        found.append(step(params, state, batch_of(x_of(1)), KEY))
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), found[0], found[1]
    )


def test_a_queue_that_a_batch_does_not_fill_evenly_is_refused():
    method = method_on(size=KEPT + 2)
    params, state = method.init(KEY, batch_of(x_of(0)))
    with pytest.raises(ArgumentError, match=f"queue_size={KEPT + 2} must be a multiple of 12"):
        method.loss(params, state, batch_of(x_of(0)), KEY)


def test_other_than_two_views_are_an_error():
    with pytest.raises(ArgumentError, match="views=3 of each sample were made"):
        method_on().init(KEY, batch_of(jnp.ones((BATCH, 3, SIZE))))
