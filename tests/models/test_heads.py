"""The projector against plain matrix products, and its arguments."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.models.heads import Projector

KEY = jax.random.key(0)
H = jax.random.normal(jax.random.key(1), (6, 5))


def init(model: Projector):
    variables = model.init(KEY, H, train=False)
    # Biases start at 0 and scales at 1: move them, so that the oracle sees them.
    params = jax.tree.map(lambda v: v + 0.1 * jnp.ones_like(v), variables["params"])
    return variables | {"params": params}


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_matches_matrix_products(depth):
    model = Projector(hidden=7, depth=depth, dim=3)
    variables = init(model)
    layers = [variables["params"][f"Dense_{i}"] for i in range(depth)]
    z = np.asarray(H, np.float64)
    for i, layer in enumerate(layers):
        z = z @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"])
        z = z if i == depth - 1 else np.maximum(z, 0)
    np.testing.assert_allclose(model.apply(variables, H, train=False), z, rtol=1e-5, atol=1e-6)
    assert layers[-1]["kernel"].shape == (5 if depth == 1 else 7, 3)
    assert "batch_stats" not in variables


@pytest.mark.parametrize("batch_norm", ["affine", "no_affine"])
def test_batch_norm_between_hidden_layers(batch_norm):
    model = Projector(hidden=4, depth=2, dim=3, batch_norm=batch_norm)
    variables = init(model)
    params = jax.tree.map(np.asarray, variables["params"])
    assert set(params["Dense_0"]) == {"kernel"}
    assert ("BatchNorm_0" in params) == (batch_norm == "affine")
    h = np.asarray(H, np.float64) @ params["Dense_0"]["kernel"]
    a = (h - h.mean(axis=0)) / np.sqrt(h.var(axis=0) + 1e-5)
    if batch_norm == "affine":
        a = a * params["BatchNorm_0"]["scale"] + params["BatchNorm_0"]["bias"]
    z = np.maximum(a, 0) @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"]
    got, state = model.apply(variables, H, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(got, z, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        state["batch_stats"]["BatchNorm_0"]["mean"],
        0.1 * h.mean(axis=0),
        rtol=1e-4,
        atol=1e-6,
    )


def test_depth_zero_is_no_projector():
    model = Projector(hidden=7, depth=0, dim=3)
    variables = model.init(KEY, H, train=False)
    assert not variables
    got = model.apply(variables, H.astype(jnp.bfloat16), train=True)
    assert got.dtype == jnp.float32
    np.testing.assert_array_equal(got, H.astype(jnp.bfloat16).astype(jnp.float32))


def test_bfloat16_keeps_parameters_and_output_in_float32():
    model = Projector(hidden=7, dim=3, batch_norm="affine", dtype=jnp.bfloat16)
    variables = jax.eval_shape(partial(model.init, train=False), KEY, H)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    z, state = jax.eval_shape(
        lambda v: model.apply(v, H, False, capture_intermediates=True), variables
    )
    assert state["intermediates"]["Dense_0"]["__call__"][0].dtype == jnp.bfloat16
    assert z.shape == (6, 3)
    assert z.dtype == jnp.float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": -1}, "depth=-1 must be 0"),
        ({"hidden": 0}, "hidden=0 must be at least 1"),
        ({"dim": 0}, "dim=0 must be at least 1"),
        ({"batch_norm": "yes"}, "batch_norm='yes' must be one of none, affine, no_affine"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Projector(**({"hidden": 8} | arguments))


def test_features_have_two_axes():
    with pytest.raises(AssertionError, match="rank 3"):
        Projector(hidden=4).init(KEY, H[None], train=False)
