"""α-CL as a method: the three functions' contract, evaluation mode, types, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

import alphacl_jax as acl
from alphacl_jax.errors import ArgumentError
from alphacl_jax.methods.contrastive import contrastive_method
from alphacl_jax.models.heads import Projector
from alphacl_jax.models.resnet import small_resnet

BATCH, SHAPE, FEATURES, DIM = 6, (5, 5, 3), 4, 3
VIEWS = jax.random.normal(jax.random.key(1), (BATCH, 2, *SHAPE))
BATCH_OF_TWO = {"views": VIEWS, "labels": jnp.arange(BATCH), "recorded": jnp.array(True)}
KEY = jax.random.key(0)
MESH = jax.make_mesh((1,), ("data",), (AxisType.Auto,), devices=jax.devices()[:1])


def _method(projector, rule_or_family=None, dtype=jnp.float32, **options):
    rule_or_family = rule_or_family or acl.rules.entropy(0.5)
    encoder = small_resnet((FEATURES,), dtype=dtype)
    return contrastive_method(encoder, projector, rule_or_family, MESH, **options)


PROJECTOR = Projector(8, 2, DIM, "affine")


@pytest.fixture(scope="module")
def affine():
    method = _method(PROJECTOR)
    params, state = jax.jit(method.init)(KEY, BATCH_OF_TWO)
    compiled = {"features": jax.jit(method.features), "embed": jax.jit(method.embed)}
    return method._replace(**compiled), params, state


def test_init_has_encoder_and_projector(affine):
    _, params, state = affine
    assert set(params) == set(state) == {"encoder", "projector"}
    assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(params))
    assert len(jax.tree.leaves(state["projector"])) == 2


def test_the_loss_is_that_of_the_embeddings(affine):
    """The whole path once more, by the library's public functions."""
    method, params, state = affine
    value, (new_state, metrics) = jax.jit(method.loss)(params, state, BATCH_OF_TWO, KEY)
    x = VIEWS.reshape(-1, *SHAPE)
    stats = {}
    for name, module in (("encoder", small_resnet((FEATURES,))), ("projector", PROJECTOR)):
        x, updates = module.apply(
            {"params": params[name], "batch_stats": state[name]},
            x,
            train=True,
            mutable=["batch_stats"],
        )
        stats[name] = updates["batch_stats"]
    z = acl.l2_normalize(x).reshape(BATCH, 2, DIM)
    rule = acl.rules.entropy(0.5)
    np.testing.assert_allclose(value, acl.alpha_cl_loss(z[:, 0], z[:, 1], rule), atol=1e-5)
    expected = acl.statistics(z[:, 0], z[:, 1], rule)
    assert set(metrics) == set(expected)
    for name, metric in metrics.items():
        np.testing.assert_allclose(metric, expected[name], rtol=1e-3, atol=1e-4, err_msg=name)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), new_state, stats
    )


def test_the_gradient_reaches_every_parameter(affine):
    method, params, state = affine
    gradients, _ = jax.jit(jax.grad(method.loss, has_aux=True))(params, state, BATCH_OF_TWO, KEY)
    # What normalisation takes away cannot have a gradient: nothing else may lack one.
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert float(optax.tree.norm(gradient)) > 1e-6, jax.tree_util.keystr(path)


def test_features_are_those_of_evaluation(affine):
    method, params, state = affine
    features, images = method.features, VIEWS[:, 0]
    h = features(params, state, images)
    assert h.shape == (BATCH, FEATURES)
    assert h.dtype == jnp.float32
    # Running statistics: an image's features do not depend on its company.
    np.testing.assert_allclose(h[:2], features(params, state, images[:2]), rtol=1e-4, atol=1e-5)
    shifted = jax.tree.map(lambda s: 2 * s + 1, state)
    assert not np.allclose(h, features(params, shifted, images), atol=1e-3)


def test_embeddings_are_what_the_projector_makes_of_the_features(affine):
    method, params, state = affine
    z = method.embed(params, state, VIEWS[:, 0])
    assert z.shape == (BATCH, DIM)
    np.testing.assert_allclose(jnp.sum(z**2, axis=1), np.ones(BATCH), rtol=1e-5)
    variables = {"params": params["projector"], "batch_stats": state["projector"]}
    h = method.features(params, state, VIEWS[:, 0])
    expected = acl.l2_normalize(PROJECTOR.apply(variables, h, train=False))
    np.testing.assert_allclose(z, expected, rtol=1e-4, atol=1e-5)
    # Running statistics here too.
    np.testing.assert_allclose(z[:2], method.embed(params, state, VIEWS[:2, 0]), rtol=1e-4)


def test_the_method_says_what_is_counted_and_shown(affine):
    assert (affine[0].unit, affine[0].shown) == ("images", ("energy",))


@pytest.mark.parametrize("views", [1, 3])
def test_other_than_two_views_are_an_error(affine, views):
    method, params, state = affine
    batch = BATCH_OF_TWO | {"views": jnp.ones((BATCH, views, *SHAPE))}
    message = f"^views={views} of each sample were made, and contrastive learning reads 2$"
    with pytest.raises(ArgumentError, match=message):
        method.init(KEY, batch)
    with pytest.raises(ArgumentError, match=message):
        method.loss(params, state, batch, KEY)


def test_without_recording_the_loss_is_the_same_and_the_measures_are_nought(affine):
    method, params, state = affine
    loss = jax.jit(method.loss)
    value, (new_state, metrics) = loss(params, state, BATCH_OF_TWO, KEY)
    quiet = BATCH_OF_TWO | {"recorded": jnp.array(False)}
    again, (same_state, nothing) = loss(params, state, quiet, KEY)
    assert value == again
    jax.tree.map(np.testing.assert_array_equal, new_state, same_state)
    assert nothing.keys() == metrics.keys()
    assert not any(nothing.values())
    assert all(metrics.values())


def test_without_a_projector_the_features_are_compared():
    projector = Projector(1, 0)
    method = contrastive_method(_Flat(), projector, acl.rules.entropy(0.5), MESH)
    params, state = method.init(KEY, BATCH_OF_TWO)
    assert params == state == {"encoder": {}, "projector": {}}
    z = jax.random.normal(KEY, (BATCH, 2, 4))
    value, (new_state, _) = jax.jit(method.loss)(params, state, _recorded(z), KEY)
    first, second = acl.l2_normalize(z[:, 0]), acl.l2_normalize(z[:, 1])
    expected = jax.jit(acl.alpha_cl_loss, static_argnums=2)(first, second, acl.rules.entropy(0.5))
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    assert new_state == state
    np.testing.assert_allclose(method.embed(params, state, z[:, 0]), first, rtol=1e-6)


def test_bfloat16_computes_near_float32_and_keeps_float32_parameters(affine):
    method, params, state = affine
    half = _method(Projector(8, 2, DIM, "affine", dtype=jnp.bfloat16), dtype=jnp.bfloat16)
    value_and_grad = jax.jit(jax.value_and_grad(half.loss, has_aux=True))
    (value, (new_state, _)), gradients = value_and_grad(params, state, BATCH_OF_TWO, KEY)
    for leaf in jax.tree.leaves((value, new_state, gradients)):
        assert leaf.dtype == jnp.float32
    exact = method.features(params, state, VIEWS[:, 0])
    near = jax.jit(half.features)(params, state, VIEWS[:, 0])
    assert near.dtype == jnp.float32
    np.testing.assert_allclose(near, exact, rtol=0.05, atol=0.05)
    assert not np.array_equal(near, exact)


def _recorded(views):
    return {"views": views, "recorded": jnp.array(True)}


class _Flat:
    """An encoder without parameters: what it is given is what is compared."""

    def init_with_output(self, key, inputs, train):
        return inputs.reshape(len(inputs), -1), {"params": {}}

    def apply(self, variables, inputs, train, mutable=None):
        return (inputs, {}) if mutable else inputs


def test_the_options_reach_the_loss():
    rule, family = acl.rules.direct(0.4, 3), acl.families.info_nce(0.3)
    layouts = ("both_views", "same_view", "cross_view")

    @jax.jit
    def both(z):
        def value(rule_or_family, **options):
            method = contrastive_method(_Flat(), Projector(1, 0), rule_or_family, MESH, **options)
            return method.loss(*_flat_variables(), _recorded(z), KEY)[0]

        first, second = acl.l2_normalize(z[:, 0]), acl.l2_normalize(z[:, 1])
        found = [value(rule, negatives=name) for name in layouts]
        wanted = [acl.alpha_cl_loss(first, second, rule, negatives=name) for name in layouts]
        found.append(value(family, block_size=2))
        wanted.append(acl.contrastive_loss(first, second, family))
        return jnp.stack(found), jnp.stack(wanted)

    found, wanted = both(jax.random.normal(KEY, (BATCH, 2, 4)))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert len(set(found.tolist())) == 4


def test_stop_gradient_is_read():
    z = jax.random.normal(KEY, (BATCH, 2, 4))
    gradients = []
    for stop in (True, False):
        method = contrastive_method(
            _Flat(), Projector(1, 0), acl.rules.entropy(0.2), MESH, stop_gradient=stop
        )

        def loss(z, method=method):
            return method.loss(*_flat_variables(), _recorded(z), KEY)[0]

        gradients.append(jax.jit(jax.grad(loss))(z))
    assert not np.allclose(*gradients, rtol=1e-2)


def _flat_variables():
    empty = {"encoder": {}, "projector": {}}
    return empty, empty
