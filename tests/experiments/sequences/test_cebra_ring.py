"""CEBRA on simulated neurons whose latent is an angle: behaviour shapes the embedding."""

import numpy as np
import pytest

from alphacl_jax.evaluation.decoding import decode_position
from alphacl_jax.sequences import CEBRA
from experiments.sequences.simulated import ring

TRAIN = slice(0, 1600)
TEST = slice(1600, 2000)


@pytest.fixture(scope="module")
def recorded():
    return ring(0, samples=2000, neurons=20)


def _decoded(recorded, context):
    """R² of the position at times that neither encoder nor decoder saw, and the goodness of fit."""
    signal, latents = recorded.recordings.signal, recorded.latents
    cebra = CEBRA(
        receptive_field=5,
        output_dimension=3,
        hidden_units=16,
        batch_size=64,
        max_iterations=300,
        learning_rate=3e-3,
    ).fit(signal[TRAIN], context[TRAIN])
    z, held_out = cebra.transform(signal[TRAIN]), cebra.transform(signal[TEST])
    r2 = decode_position(z, latents[TRAIN], held_out, latents[TEST], metric="cosine").r2
    return r2, cebra.goodness_[-50:].mean()


def test_embeddings_by_behaviour_decode_better_than_by_shuffled_behaviour(recorded):
    context = recorded.recordings.context
    shuffled = np.random.default_rng(0).permutation(context)
    (r2, goodness), (r2_shuffled, goodness_shuffled) = (
        _decoded(recorded, each) for each in (context, shuffled)
    )
    assert r2 > 0.7
    assert r2 > r2_shuffled + 0.1
    assert goodness > goodness_shuffled + 0.3
