"""Encoders of waves and features, the recurrent context: shapes, causality, types, bad settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.errors import ArgumentError
from alphacl_jax.models.speech import GRUContext, StepEncoder, feature_encoder, wave_encoder

KEY = jax.random.key(0)


def _signal(batch, time, channels):
    return jax.random.normal(jax.random.key(1), (batch, time, channels))


def _applied(module, x):
    variables = module.init(KEY, x, train=True)
    return variables["params"], jax.jit(lambda x: module.apply(variables, x, train=False))


@pytest.fixture(scope="module")
def waves():
    x = _signal(2, 1600, 1)
    return x, *_applied(wave_encoder(8), x)


@pytest.mark.parametrize("time", [1600, 20480])
def test_a_step_for_each_160_moments(time):
    shape = jax.eval_shape(
        lambda x: wave_encoder().init_with_output(KEY, x, train=True)[0], _signal(3, time, 1)
    )
    assert shape.shape == (3, time // 160, 512)


def test_a_step_of_a_wave_sees_465_moments(waves):
    x, _, encode = waves
    of_step = jax.jit(jax.jacobian(lambda x: jnp.sum(encode(x)[0, 5])))(x)[0, :, 0]
    seen = np.flatnonzero(of_step)
    # Some ReLU may close a path at the borders, none opens one beyond them.
    assert 400 < seen[-1] - seen[0] + 1 <= 465


def _numpy_encoder(x, params, kernels, strides):
    """Layer by layer, step by step, in float64."""
    x = np.asarray(x, np.float64)
    for layer, (kernel, stride) in enumerate(zip(kernels, strides, strict=True)):
        w = np.asarray(params[f"Conv_{layer}"]["kernel"], np.float64)
        around = (kernel - stride + 1) // 2
        x = np.pad(x, ((0, 0), (around, around), (0, 0)))
        steps = (x.shape[1] - kernel) // stride + 1
        y = np.stack(
            [
                np.einsum("bkc,kco->bo", x[:, t * stride : t * stride + kernel], w)
                for t in range(steps)
            ],
            axis=1,
        )
        mean, var = y.mean(-1, keepdims=True), y.var(-1, keepdims=True)
        norm = {name: np.asarray(of) for name, of in params[f"LayerNorm_{layer}"].items()}
        y = (y - mean) / np.sqrt(var + 1e-5) * norm["scale"] + norm["bias"]
        x = np.maximum(y, 0)
    return x


def test_the_wave_encoder_is_what_its_layers_say(waves):
    x, params, encode = waves
    expected = _numpy_encoder(x, params, (10, 8, 4, 4, 4), (5, 4, 2, 2, 2))
    np.testing.assert_allclose(encode(x), expected, rtol=1e-4, atol=1e-4)


def test_the_feature_encoder_sees_each_moment_by_itself():
    x = _signal(2, 7, 5)
    _, encode = _applied(feature_encoder(6), x)
    steps = encode(x)
    assert steps.shape == (2, 7, 6)
    other = encode(x.at[:, 3].add(1.0))
    assert np.flatnonzero(np.any(np.asarray(other != steps), axis=(0, 2))).tolist() == [3]


def test_without_a_norm_there_is_a_bias():
    params, _ = _applied(feature_encoder(6, norm="none"), _signal(2, 7, 5))
    assert set(params) == {"Conv_0", "Conv_1"}
    assert set(params["Conv_0"]) == {"kernel", "bias"}


def _numpy_gru(z, cell):
    """h' = (1 − u) n + u h, of update gate u and reset gate r."""
    w = {name: {k: np.asarray(v, np.float64) for k, v in of.items()} for name, of in cell.items()}

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    h, found = np.zeros((len(z), w["hn"]["kernel"].shape[1])), []
    for t in range(z.shape[1]):
        x = np.asarray(z[:, t], np.float64)
        r = sigmoid(x @ w["ir"]["kernel"] + w["ir"]["bias"] + h @ w["hr"]["kernel"])
        u = sigmoid(x @ w["iz"]["kernel"] + w["iz"]["bias"] + h @ w["hz"]["kernel"])
        within = r * (h @ w["hn"]["kernel"] + w["hn"]["bias"])
        n = np.tanh(x @ w["in"]["kernel"] + w["in"]["bias"] + within)
        h = (1 - u) * n + u * h
        found.append(h)
    return np.stack(found, axis=1)


def test_the_context_is_that_of_a_gated_recurrent_unit_and_knows_no_future():
    z = _signal(3, 6, 4)
    params, contexts = _applied(GRUContext(5), z)
    c = contexts(z)
    (cell,) = params.values()
    np.testing.assert_allclose(c, _numpy_gru(z, cell), rtol=1e-5, atol=1e-5)
    other = contexts(z.at[:, 3].add(1.0))
    np.testing.assert_array_equal(c[:, :3], other[:, :3])
    assert np.all(np.any(np.asarray(c[:, 3:] != other[:, 3:]), axis=(0, 2)))


@pytest.mark.parametrize(
    "make", [lambda dtype: feature_encoder(6, dtype=dtype), lambda dtype: GRUContext(6, dtype)]
)
def test_bfloat16_computes_near_float32_and_keeps_float32_parameters(make):
    x = _signal(2, 7, 5)
    exact, half = make(jnp.float32), make(jnp.bfloat16)
    variables = exact.init(KEY, x, train=True)
    own = jax.tree.leaves(half.init(KEY, x, train=True))
    assert all(p.dtype == jnp.float32 for p in own)
    wanted, found = (m.apply(variables, x, train=False) for m in (exact, half))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, wanted, rtol=0.05, atol=0.05)
    assert not np.array_equal(found, wanted)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StepEncoder((), (), 4), r"^kernels=\(\) need one entry for each layer"),
        (lambda: StepEncoder((3,), (1, 1), 4), r"at least one, and strides=\(1, 1\)"),
        (lambda: StepEncoder((3,), (4,), 4), r"^strides=\(4,\) must be at least 1, and at most"),
        (lambda: StepEncoder((3,), (0,), 4), r"^strides=\(0,\) must be at least 1"),
        (lambda: wave_encoder(0), "^width=0 must be at least 1"),
        (lambda: wave_encoder(norm="batch"), "^norm='batch' must be one of layer, none"),
        (lambda: feature_encoder(layers=0), "^layers=0 must be at least 1"),
        (lambda: GRUContext(0), "^width=0 must be at least 1"),
    ],
)
def test_settings_that_make_no_network(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()
