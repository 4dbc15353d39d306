"""The network on tokens: table form against dense form, losses and quality against loops."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.theory.tokens.network import (
    Params,
    Variant,
    embed_views,
    feature_quality,
    info_nce_loss,
    init_params,
    quadratic_loss,
    token_cosines,
)

LOCATIONS, FILTERS, TOKENS, DIM, OUTPUTS, BATCH = 3, 4, 5, 6, 7, 9
VARIANTS = [
    (linear, normalised, gradient)
    for linear in (False, True)
    for normalised, gradient in ((False, False), (True, False), (True, True))
]


def variant(*switches):
    return Variant(*map(jnp.asarray, switches))


def problem():
    rng = np.random.default_rng(0)
    params = Params(
        rng.normal(size=(LOCATIONS, FILTERS, DIM)), rng.normal(size=(LOCATIONS, FILTERS, OUTPUTS))
    )
    embeddings = rng.normal(size=(TOKENS, DIM))
    views = rng.integers(0, TOKENS, (2, BATCH, LOCATIONS))
    return params, embeddings, views


def dense(params, embeddings, views, linear, normalised, gradient):
    """As one would write it: inputs looked up, every sample through both layers."""
    outputs = []
    for ids in views:
        x = embeddings[ids]  # [batch, locations, dim]
        hidden = jnp.einsum("bkd,kmd->bkm", x, params.filters)
        hidden = hidden if linear else jax.nn.relu(hidden)
        if normalised:
            mean, variance = jnp.mean(hidden, axis=0), jnp.var(hidden, axis=0)
            variance = variance if gradient else jax.lax.stop_gradient(variance)
            hidden = (hidden - mean[None]) / jnp.sqrt(variance + 1e-5)[None]
        f = jnp.einsum("bkm,kmo->bo", hidden, params.top)
        outputs.append(f / jnp.sqrt(jnp.sum(f * f, axis=1, keepdims=True)))
    return jnp.stack(outputs)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("linear", "normalised", "gradient"), VARIANTS)
def test_the_table_form_is_the_dense_form(linear, normalised, gradient):
    params, embeddings, views = problem()
    weights = np.random.default_rng(1).normal(size=(2, BATCH, OUTPUTS))
    of_variant = variant(linear, normalised, gradient)

    def ours(params):
        z = embed_views(params, jnp.asarray(embeddings), jnp.asarray(views), of_variant)
        return jnp.sum(weights * z), z

    def theirs(params):
        z = dense(params, jnp.asarray(embeddings), views, linear, normalised, gradient)
        return jnp.sum(weights * z), z

    grad, z = jax.jit(jax.grad(ours, has_aux=True))(params)
    want_grad, want = jax.jit(jax.grad(theirs, has_aux=True))(params)
    np.testing.assert_allclose(z, want, atol=1e-12)
    chex.assert_trees_all_close(grad, want_grad, atol=1e-10)


def units(seed):
    z = np.random.default_rng(seed).normal(size=(2, 6, 4))
    return z / np.linalg.norm(z, axis=-1, keepdims=True)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_info_nce_is_the_recipes_cross_entropy(temperature):
    z, z_pos = units(0)
    losses = []
    for i in range(6):
        logits = [z[i] @ (z_pos[i] if j == i else z[j]) / temperature for j in range(6)]
        losses.append(np.log(np.exp(logits).sum()) - logits[i])
    found = info_nce_loss(jnp.asarray(z), jnp.asarray(z_pos), temperature)
    np.testing.assert_allclose(found, np.mean(losses), rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_quadratic_loss_is_the_recipes(temperature):
    z, z_pos = units(1)
    positives = np.sum(z * z_pos, axis=1)
    matrix = z @ z.T
    matrix[np.arange(6), np.arange(6)] = positives
    want = (-(1 + 1 / 6) * positives.mean() + matrix.mean()) / temperature
    found = quadratic_loss(jnp.asarray(z), jnp.asarray(z_pos), temperature)
    np.testing.assert_allclose(found, want, rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("linear", [False, True])
def test_quality_is_the_slides_mean_of_best_cosines(linear):
    rng = np.random.default_rng(3)
    filters, embeddings = rng.normal(size=(3, 2, 4)), 10 * rng.normal(size=(5, 4))
    relevant = np.array([[1, 0, 1, 0, 1], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]], bool)
    by_location = []
    for k in range(2):  # the last location has no token to find
        best = []
        for a in np.flatnonzero(relevant[k]):
            u = embeddings[a]
            cosines = [w @ u / np.linalg.norm(w) / np.linalg.norm(u) for w in filters[k]]
            best.append(max(map(abs, cosines)) if linear else max(cosines))
        by_location.append(np.mean(best))
    cosines = token_cosines(jnp.asarray(filters), jnp.asarray(embeddings))
    found = feature_quality(cosines, jnp.asarray(relevant), jnp.asarray(linear))
    np.testing.assert_allclose(found, np.mean(by_location), rtol=1e-12)


def test_quality_is_1_where_every_token_has_its_filter_and_finite_where_filters_are_0():
    relevant = jnp.eye(3, dtype=bool)
    cosines = token_cosines(5.0 * jnp.eye(3)[None].repeat(3, 0), jnp.eye(3))
    np.testing.assert_allclose(feature_quality(cosines, relevant, jnp.asarray(False)), 1.0)
    nothing = token_cosines(jnp.zeros((3, 2, 3)), jnp.eye(3))
    assert feature_quality(nothing, relevant, jnp.asarray(False)) == 0.0


def test_initial_weights_fill_their_ranges():
    params = init_params(jax.random.key(0), 4, 100, 16, 50)
    assert params.filters.shape == (4, 100, 16)
    assert params.top.shape == (4, 100, 50)
    for weights, limit in ((params.filters, 16**-0.5), (params.top, 400**-0.5)):
        assert 0.99 * limit < jnp.max(weights) <= limit
        assert -limit <= jnp.min(weights) < -0.99 * limit
        np.testing.assert_allclose(jnp.std(weights), limit / 3**0.5, rtol=0.03)


def test_a_dead_network_has_zero_finite_gradients():
    params = Params(jnp.zeros((LOCATIONS, FILTERS, DIM)), jnp.zeros((LOCATIONS, FILTERS, OUTPUTS)))
    _, embeddings, views = problem()

    def loss(params):
        z, z_pos = embed_views(
            params, jnp.asarray(embeddings), jnp.asarray(views), variant(False, True, True)
        )
        return info_nce_loss(z, z_pos, 0.1)

    for gradient in jax.jit(jax.grad(loss))(params):
        np.testing.assert_array_equal(gradient, 0.0)


def test_refusals():
    for sizes, message in (((0, 1, 1, 1), "locations=0"), ((1, 0, 1, 1), "filters=0 leaves no")):
        with pytest.raises(ValueError, match=message):
            init_params(jax.random.key(0), *sizes)
    params, embeddings, views = problem()
    with pytest.raises(AssertionError):
        embed_views(params, jnp.asarray(embeddings[:, 1:]), jnp.asarray(views), variant(0, 0, 0))


def test_embeddings_of_another_size_are_refused():
    params, embeddings, views = problem()
    with pytest.raises(AssertionError, match=f"dimension equal to '{DIM}' on axis '1'"):
        embed_views(params, jnp.asarray(embeddings[:, :-1]), views, variant(False, True, False))
