"""CPC's networks end to end on labels: the loss by hand, unknown labels, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.errors import ArgumentError
from alphacl_jax.models.speech import GRUContext, StepEncoder
from experiments.sequences.supervised import READ, at_steps, supervised_method

HOP, CLASSES = 2, 3
NETWORKS = StepEncoder((2,), (2,), 4), GRUContext(5)
BATCH = {
    "windows": jax.random.normal(jax.random.key(1), (4, 8, 2)),
    "labels": jnp.array([0, 2, -1, 1]),
    "moment_labels": jnp.array(np.random.default_rng(0).integers(-1, 3, (4, 8))),
    "recorded": jnp.array(True),
}


def _cross_entropy(logits, label):
    logits = np.asarray(logits, np.float64)
    return np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[label]


@pytest.mark.parametrize("of", READ)
def test_the_loss_is_the_mean_over_what_is_known(of):
    method = supervised_method(*NETWORKS, CLASSES, of=of, hop=HOP)
    params, state = jax.jit(method.init)(jax.random.key(0), BATCH)
    value, (_, metrics) = jax.jit(method.loss)(params, state, BATCH, jax.random.key(2))
    encoder, context = NETWORKS
    z = encoder.apply({"params": params["encoder"]}, BATCH["windows"], train=False)
    c = np.asarray(context.apply({"params": params["context"]}, z, train=False), np.float64)
    kernel, bias = (np.asarray(params["classifier"][n], np.float64) for n in ("kernel", "bias"))
    losses, hits = [], []
    for b in range(4):
        if of == "recordings":
            pairs = [(c[b].mean(axis=0), int(BATCH["labels"][b]))]
        elif of == "windows":
            pairs = [(c[b].mean(axis=0), int(BATCH["moment_labels"][b, 4]))]
        else:
            pairs = [(c[b, t], int(BATCH["moment_labels"][b, 2 * t + 1])) for t in range(4)]
        for context_of, label in pairs:
            if label >= 0:
                logits = context_of @ kernel + bias
                losses.append(_cross_entropy(logits, label))
                hits.append(logits.argmax() == label)
    np.testing.assert_allclose(value, np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(metrics["accuracy"], np.mean(hits), rtol=1e-6)
    np.testing.assert_allclose(
        method.features(params, state, BATCH["windows"]), c.mean(axis=1), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        method.embed(params, state, BATCH["windows"]),
        c.mean(axis=1) @ kernel + bias,
        rtol=1e-4,
        atol=1e-6,
    )


def test_where_nothing_is_known_nothing_is_learned():
    method = supervised_method(*NETWORKS, CLASSES, of="recordings")
    params, state = method.init(jax.random.key(0), BATCH)
    unknown = BATCH | {"labels": jnp.full(4, -1)}
    loss = jax.value_and_grad(lambda p: method.loss(p, state, unknown, jax.random.key(0))[0])
    value, gradient = jax.jit(loss)(params)
    assert value == 0
    for leaf in jax.tree.leaves(gradient):
        np.testing.assert_array_equal(leaf, 0)


def test_a_step_has_the_label_of_its_middle():
    labels = np.arange(11)
    np.testing.assert_array_equal(at_steps(labels, 4), [2, 6, 10])
    np.testing.assert_array_equal(at_steps(labels[None], 1)[0], labels)


@pytest.mark.parametrize(
    ("classes", "of", "message"),
    [
        (1, "moments", "num_classes=1 must be at least 2"),
        (2, "phones", "of='phones' must be one of recordings, windows, moments"),
    ],
)
def test_what_is_refused(classes, of, message):
    with pytest.raises(ArgumentError) as error:
        supervised_method(*NETWORKS, classes, of=of)
    assert message in str(error.value)
