"""Training on token data: the optimiser's rule, runs side by side, what is learned."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.theory.tokens.network import Variant, embed_views, info_nce_loss, quadratic_loss
from alphacl_jax.theory.tokens.sequences import TokenSetting, draw_patterns, sample_views
from alphacl_jax.theory.tokens.training import (
    Recipe,
    Run,
    init_state,
    train_runs,
    train_step,
)

SETTING = TokenSetting(locations=4, tokens=6, patterns=8, fixed=2, redrawn=2)
RECIPE = Recipe(batch_size=16, outputs=5)
FILTERS = 2


@functools.cache
def stacked():
    """A linear run, and a ReLU run with other data, scale, BatchNorm and learning rate."""
    keys = jax.random.split(jax.random.key(1), 2)
    return Run(
        key=keys,
        patterns=jax.vmap(lambda key: draw_patterns(key, SETTING, 1))(keys),
        embeddings=jnp.stack([jnp.eye(6), 2 * jnp.eye(6)]),
        variant=Variant(
            jnp.array([True, False]), jnp.array([True, False]), jnp.array([False, True])
        ),
        learning_rate=jnp.array([0.02, 0.01]),
    )


def records(runs, recipe, record_at):
    return list(train_runs(runs, SETTING, recipe, filters=FILTERS, record_at=record_at))


def test_steps_are_sgd_with_momentum_and_weight_decay():
    run = jax.tree.map(lambda leaf: leaf[0], stacked())
    recipe = Recipe(batch_size=16, outputs=5, loss=quadratic_loss, momentum=0.5, weight_decay=0.1)
    states = [init_state(run, SETTING, recipe, FILTERS)]
    step = jax.jit(train_step, static_argnums=(2, 3))
    for _ in range(2):
        states.append(step(states[-1], run, SETTING, recipe))

    @jax.jit
    def gradient(params, step):
        views = sample_views(jax.random.fold_in(run.key, step), run.patterns, 16, SETTING)

        def loss(params):
            z, z_pos = embed_views(params, run.embeddings, jnp.stack(views), run.variant)
            return quadratic_loss(z, z_pos, 0.1)

        return jax.grad(loss)(params)

    params, velocity = (
        states[0].descent.params,
        jax.tree.map(jnp.zeros_like, states[0].descent.params),
    )
    for number in (1, 2):
        decayed = jax.tree.map(lambda g, w: g + 0.1 * w, gradient(params, number), params)
        velocity = jax.tree.map(lambda v, g: 0.5 * v + g, velocity, decayed)
        params = jax.tree.map(lambda w, v: w - 0.02 * v, params, velocity)
        chex.assert_trees_all_close(states[number].descent.params, params, atol=1e-6)
    assert int(states[2].step) == 2


@pytest.mark.slow
def test_runs_side_by_side_are_runs_alone_whenever_recorded():
    together = records(stacked(), RECIPE, [0, 3, 7])
    assert [record.step for record in together] == [0, 3, 7]
    assert together[0].cosines.shape == (2, SETTING.locations, FILTERS, SETTING.tokens)
    for i in range(2):
        twice = jax.tree.map(lambda leaf, i=i: leaf[jnp.array([i, i])], stacked())
        alone = records(twice, RECIPE, [7])  # the same program: as many runs
        np.testing.assert_allclose(alone[-1].cosines[0], together[-1].cosines[i], atol=1e-4)
        np.testing.assert_allclose(alone[-1].quality[0], together[-1].quality[i], atol=1e-4)


def test_a_linear_network_finds_the_only_token_of_each_location():
    before, after = records(stacked(), RECIPE, [0, 200])
    assert before.quality[0] < 0.6
    assert after.quality[0] > 0.75


def test_a_step_on_a_fresh_batch_each_time():
    run = jax.tree.map(lambda leaf: leaf[0], stacked())
    views = [
        sample_views(jax.random.fold_in(run.key, step), run.patterns, 16, SETTING)[0]
        for step in (1, 2)
    ]
    assert (views[0] != views[1]).any()


def test_refusals():
    with pytest.raises(ValueError, match="batch_size=1 has no negatives"):
        Recipe(batch_size=1)
    with pytest.raises(ValueError, match="temperature=0 must be above 0"):
        Recipe(temperature=0.0)
    for steps in ([5, 5], [3, 2], [-1]):
        with pytest.raises(ValueError, match=r"record_at=.* rising order"):
            records(stacked(), RECIPE, steps)
    with pytest.raises(ValueError, match="filters=0"):
        list(train_runs(stacked(), SETTING, RECIPE, filters=0, record_at=[1]))
    assert RECIPE.loss is info_nce_loss
