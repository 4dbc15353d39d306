"""Encoders of windows: what they see, that they are the published layers, bad settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from alphacl_jax.errors import ArgumentError
from alphacl_jax.models.temporal import RECEPTIVE_FIELDS, WindowEncoder

CHANNELS, WIDTH, DIM = 3, 6, 2


def _made(receptive_field):
    encoder = WindowEncoder(receptive_field, WIDTH, DIM)
    variables = encoder.init(
        jax.random.key(0), jnp.zeros((1, receptive_field, CHANNELS)), train=True
    )
    return encoder, variables


def _signal(time, batch=2):
    return jax.random.normal(jax.random.key(1), (batch, time, CHANNELS))


def _gelu(x):
    return x * 0.5 * (1 + erf(x / np.sqrt(2)))


def _convolved(x, params, kernel):
    """A convolution of one signal `[time, in]`, by loops, in float64."""
    weights = np.asarray(params["kernel"], np.float64).reshape(kernel, x.shape[1], -1)
    out = np.zeros((len(x) - kernel + 1, weights.shape[2]))
    for t in range(len(out)):
        for k in range(kernel):
            out[t] += x[t + k] @ weights[k]
    return out + np.asarray(params["bias"], np.float64)


def _by_hand(x, params, receptive_field):
    layers = [params[f"Dense_{i}"] for i in range(len(params))]
    if receptive_field == 1:
        for layer in layers[:-1]:
            x = _gelu(_convolved(x, layer, 1))
        return _convolved(x, layers[-1], 1)
    x = _gelu(_convolved(x, layers[0], 2))
    for layer in layers[1:-1]:
        x = x[1:-1] + _gelu(_convolved(x, layer, 3))
    return _convolved(x, layers[-1], 2 if receptive_field == 5 else 3)


@pytest.mark.parametrize("receptive_field", RECEPTIVE_FIELDS)
def test_the_layers_are_what_they_say(receptive_field):
    encoder, variables = _made(receptive_field)
    x = _signal(receptive_field + 3)
    found = encoder.apply(variables, x, train=False)
    assert found.shape == (2, 4, DIM)
    params = variables["params"]
    assert len(params) == {1: 4, 5: 3, 10: 5, 36: 18}[receptive_field]
    for own, z in zip(np.asarray(x, np.float64), found, strict=True):
        np.testing.assert_allclose(z, _by_hand(own, params, receptive_field), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("receptive_field", RECEPTIVE_FIELDS)
def test_an_embedding_sees_its_window_whole_and_nothing_else(receptive_field):
    encoder, variables = _made(receptive_field)
    assert encoder.before + encoder.after == receptive_field
    time = receptive_field + 6

    def of_fourth(x):
        return jnp.sum(encoder.apply(variables, x, train=False)[0, 3])

    slope = jax.jit(jax.grad(of_fourth))(_signal(time, 1))[0]
    seen = np.flatnonzero(np.abs(slope).max(axis=1))
    np.testing.assert_array_equal(seen, 3 + np.arange(receptive_field))


def test_published_windows_lie_around_their_moment():
    windows = {r: (WindowEncoder(r).before, WindowEncoder(r).after) for r in RECEPTIVE_FIELDS}
    assert windows == {1: (0, 1), 5: (2, 3), 10: (5, 5), 36: (18, 18)}


def test_initial_weights_are_uniform_within_one_over_the_root_of_fan_in():
    encoder = WindowEncoder(10, 64, 3)
    params = encoder.init(jax.random.key(0), jnp.zeros((1, 10, 50)), train=True)["params"]
    for name, fan_in in (("Dense_0", 100), ("Dense_1", 192)):
        bound = 1 / np.sqrt(fan_in)
        for weights in params[name].values():
            assert np.abs(weights).max() <= bound
        kernel = np.asarray(params[name]["kernel"])
        # The deviation of uniform numbers, known from n of them to about 1/√n.
        assert abs(kernel.std() * np.sqrt(3) / bound - 1) < 6 / np.sqrt(kernel.size)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"receptive_field": 7}, "receptive_field=7 must be one of 1, 5, 10, 36"),
        ({"width": 1}, "width=1 must be at least 2"),
        ({"dim": 0}, "dim=0 must be at least 1"),
    ],
)
def test_settings_that_make_no_encoder(settings, message):
    with pytest.raises(ArgumentError, match=message):
        WindowEncoder(**settings)


def test_a_signal_shorter_than_the_receptive_field():
    encoder, variables = _made(10)
    with pytest.raises(
        ArgumentError, match="receptive_field=10 is longer than the signal, which has 9"
    ):
        encoder.apply(variables, _signal(9), train=False)
