"""CEBRA as a method: its loss by hand, hybrids, sessions, temperatures, devices, refusals."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

from alphacl_jax.errors import ArgumentError
from alphacl_jax.methods.cebra import (
    Similarity,
    cebra_embeddings,
    cebra_method,
    cebra_sessions_method,
    session_name,
)
from alphacl_jax.models.temporal import WindowEncoder

BATCH, CHANNELS = 8, 3
ENCODER = WindowEncoder(5, 6, 3)
KEY = jax.random.key(0)
NAMES = ("reference", "positive", "negative", "later")
SIMILARITIES = {
    "cosine": Similarity("cosine", 0.5),
    "euclidean": Similarity("euclidean", 2.0),
    "learned": Similarity("cosine", 0.3, minimum=0.1),
}


def _mesh(devices):
    return jax.make_mesh((devices,), ("data",), (AxisType.Auto,), devices=jax.devices()[:devices])


def _batch(names, channels=CHANNELS, seed=1):
    drawn = jax.random.normal(jax.random.key(seed), (len(names), BATCH, 5, channels))
    return dict(zip(names, drawn, strict=True))


PLAIN, HYBRID = _batch(NAMES[:3]), _batch(NAMES)


def _loss_by_hand(z, positive, kind, temperature):
    """By loops in float64."""
    r, p, n = (np.asarray(z[name], np.float64) for name in ("reference", positive, "negative"))

    def phi(a, b):
        if kind == "cosine":
            return a @ b / np.linalg.norm(a) / np.linalg.norm(b) / temperature
        return -np.sum((a - b) ** 2) / temperature

    losses = []
    for own, partner in zip(r, p, strict=True):
        others = sum(math.exp(phi(own, other)) for other in n)
        losses.append(-phi(own, partner) + math.log(others))
    return np.mean(losses)


def _z(params, batch, name="encoder", encoder=ENCODER):
    return {
        key: encoder.apply({"params": params[name]}, windows, train=False)[:, 0]
        for key, windows in batch.items()
    }


@pytest.mark.parametrize("batch", [PLAIN, HYBRID], ids=["plain", "hybrid"])
@pytest.mark.parametrize("name", SIMILARITIES)
def test_the_loss_and_the_goodness_are_what_they_say(name, batch):
    similarity = SIMILARITIES[name]
    method = cebra_method(ENCODER, _mesh(1), similarity)
    params, state = jax.jit(method.init)(KEY, batch)
    loss, (_, metrics) = jax.jit(method.loss)(params, state, batch, KEY)
    z = _z(params, batch)
    by_hand = {
        p: _loss_by_hand(z, p, similarity.kind, similarity.temperature)
        for p in ("positive", "later")
        if p in batch
    }
    np.testing.assert_allclose(loss, sum(by_hand.values()), rtol=1e-4)
    bits = {p: math.log2(BATCH) - own / math.log(2) for p, own in by_hand.items()}
    np.testing.assert_allclose(metrics["goodness"], bits["positive"], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(metrics["temperature"], similarity.temperature, rtol=1e-6)
    assert ("goodness_later" in metrics) == ("later" in batch)
    if "later" in batch:
        np.testing.assert_allclose(metrics["goodness_later"], bits["later"], rtol=1e-3, atol=1e-4)


def test_a_temperature_is_learned_and_has_a_floor():
    method = cebra_method(ENCODER, _mesh(1), Similarity("cosine", 0.3, minimum=0.25))
    params, state = jax.jit(method.init)(KEY, PLAIN)
    # Positives that are the references: the loss falls with τ.
    batch = {**PLAIN, "positive": PLAIN["reference"]}
    optimizer = optax.adam(0.05)

    @jax.jit
    def step(params, opt_state):
        (_, (_, metrics)), slope = jax.value_and_grad(method.loss, has_aux=True)(
            params, state, batch, KEY
        )
        updates, opt_state = optimizer.update(slope, opt_state)
        return optax.apply_updates(params, updates), opt_state, metrics["temperature"]

    opt_state, seen = optimizer.init(params), []
    for _ in range(20):
        params, opt_state, temperature = step(params, opt_state)
        seen.append(float(temperature))
    assert seen[0] == pytest.approx(0.3)
    assert seen[1] < 0.3
    assert seen[-1] == 0.25


def test_a_fixed_temperature_is_no_parameter():
    params, _ = jax.eval_shape(cebra_method(ENCODER, _mesh(1), Similarity()).init, KEY, PLAIN)
    assert params.keys() == {"encoder"}


@pytest.mark.parametrize("name", SIMILARITIES)
def test_embeddings_of_windows_and_of_a_signal_agree(name):
    similarity = SIMILARITIES[name]
    method = cebra_method(ENCODER, _mesh(1), similarity)
    params, state = jax.jit(method.init)(KEY, PLAIN)
    signal = jax.random.normal(jax.random.key(3), (1, 12, CHANNELS))
    whole = cebra_embeddings(ENCODER, similarity)(params, state, signal)[0]
    assert whole.shape == (8, 3)
    windows = jnp.stack([signal[0, t : t + 5] for t in range(8)])
    np.testing.assert_allclose(method.embed(params, state, windows), whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(
        method.features(params, state, windows), method.embed(params, state, windows)
    )
    norms = np.linalg.norm(whole, axis=1)
    assert np.allclose(norms, 1, atol=1e-5) == (similarity.kind == "cosine")


@pytest.mark.parametrize("name", ["euclidean", "learned"])
def test_eight_devices_are_one(name):
    def value_and_slope(devices):
        method = cebra_method(ENCODER, _mesh(devices), SIMILARITIES[name])
        params, state = jax.jit(method.init)(KEY, HYBRID)
        return jax.jit(jax.value_and_grad(method.loss, has_aux=True))(params, state, HYBRID, KEY)

    (one, (_, metrics)), slope = value_and_slope(1)
    (eight, (_, of_eight)), of_slope = value_and_slope(8)
    np.testing.assert_allclose(eight, one, rtol=1e-5)
    for a, b in zip(
        jax.tree.leaves((metrics, slope)), jax.tree.leaves((of_eight, of_slope)), strict=True
    ):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)


def test_sessions_have_encoders_of_their_own_and_share_the_space():
    encoders = [WindowEncoder(5, 6, 3), WindowEncoder(5, 4, 3)]
    sessions = [_batch(NAMES[:3], channels, seed) for channels, seed in ((3, 4), (2, 5))]
    partner = jax.random.permutation(jax.random.key(6), 2 * BATCH)
    batch = {"sessions": sessions, "partner": partner}
    method = cebra_sessions_method(encoders, _mesh(1), Similarity("cosine", 0.5))
    params, state = jax.jit(method.init)(KEY, batch)
    assert params.keys() == {"encoder_0", "encoder_1"}
    loss, (moved, metrics) = jax.jit(method.loss)(params, state, batch, KEY)
    assert moved.keys() == params.keys()
    embedded = [_z(params, own, session_name(i), encoders[i]) for i, own in enumerate(sessions)]
    positives = np.concatenate([z["positive"] for z in embedded])[partner]
    losses = [
        _loss_by_hand(
            {**z, "positive": positives[i * BATCH : (i + 1) * BATCH]}, "positive", "cosine", 0.5
        )
        for i, z in enumerate(embedded)
    ]
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-4)
    bits = np.mean([3 - own / math.log(2) for own in losses])
    np.testing.assert_allclose(metrics["goodness"], bits, rtol=1e-3, atol=1e-4)


def test_one_session_is_the_method_of_one():
    similarity = SIMILARITIES["learned"]
    alone = cebra_method(ENCODER, _mesh(1), similarity)
    several = cebra_sessions_method([ENCODER], _mesh(1), similarity)
    batch = {"sessions": [HYBRID], "partner": jnp.arange(BATCH)}
    params, state = jax.jit(several.init)(KEY, batch)
    renamed = {name.removesuffix("_0"): own for name, own in params.items()}
    loss, (_, metrics) = jax.jit(several.loss)(params, state, batch, KEY)
    expected, (_, of_one) = jax.jit(alone.loss)(renamed, {"encoder": {}}, HYBRID, KEY)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert metrics.keys() == of_one.keys()
    windows = HYBRID["reference"]
    np.testing.assert_allclose(
        several.embed(params, state, windows),
        alone.embed(renamed, {"encoder": {}}, windows),
        rtol=1e-6,
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "dot"}, "similarity='dot' must be one of cosine, euclidean"),
        ({"temperature": 0.0}, "temperature=0 is out of range"),
        ({"minimum": -1.0}, "minimum=-1 is out of range"),
        ({"minimum": 2.0}, "minimum=2.0 is above 1.0, the temperature that learning starts from"),
    ],
)
def test_similarities_that_are_none(settings, message):
    with pytest.raises(ArgumentError, match=message):
        Similarity(**settings)


def test_windows_longer_than_the_receptive_field():
    method = cebra_method(WindowEncoder(1, 4, 2), _mesh(1), Similarity())
    params, state = jax.jit(method.init)(KEY, PLAIN)
    with pytest.raises(
        ArgumentError, match="windows=5 are longer than the encoder's receptive field by 4"
    ):
        method.loss(params, state, PLAIN, KEY)


def test_a_similarity_is_equal_by_value_and_hashable():
    assert Similarity() == dataclasses.replace(Similarity(temperature=2.0), temperature=1.0)
    assert hash(Similarity()) == hash(Similarity("cosine"))
