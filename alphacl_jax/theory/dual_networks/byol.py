"""BYOL on the latent tree, to see which of its parts keep it from collapsing.

An online network with an optional predictor chases a target network, with no negatives: nothing in
the loss keeps the embeddings from becoming one constant vector. What does is the interplay of the
predictor, stop-gradient, the moving average and BatchNorm (Tian et al., "Understanding
Self-supervised Learning with Dual Deep Networks", 2020); `contrast` has the reason.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jax import Array

import alphacl_jax as acl
from alphacl_jax.errors import ArgumentError
from alphacl_jax.theory import normalization
from alphacl_jax.theory.checks import require_at_least, require_positive
from alphacl_jax.theory.latent_tree import model
from alphacl_jax.theory.latent_tree.model import TreeShape
from alphacl_jax.theory.latent_tree.network import Weights, init_tree_network, tree_network
from alphacl_jax.theory.training import Descent, begin, descend, train
from alphacl_jax.theory.weights import uniform_within

Params = tuple[Weights, Weights]  # of the online network and of its predictor
State = tuple[Descent, Weights]  # of the online side, and the target network
Predictor = Literal["none", "linear", "mlp"]
PREDICTORS: tuple[Predictor, ...] = ("none", "linear", "mlp")


@dataclass(frozen=True)
class ByolTraining:
    """Of a run of BYOL.

    Attributes:
      predictor: "none", "linear" (outputs × outputs) or "mlp" (one hidden layer).
      predictor_hidden: width of the mlp's hidden layer, at least 1.
      batch: fresh pairs of views per step, at least 2.
      steps: of SGD with momentum 0.9, at least 1.
      learning_rate: positive.
      weight_decay: added to the gradient, at least 0.
      target_momentum: in [0, 1), of the moving average where there is one.
      test_samples: on which collapse is measured and, in two halves, the probe; at least 4.
    """

    predictor: Predictor = "mlp"
    predictor_hidden: int = 50
    batch: int = 128
    steps: int = 1000
    learning_rate: float = 0.05
    weight_decay: float = 5e-4
    target_momentum: float = 0.99
    test_samples: int = 2048

    def __post_init__(self) -> None:
        if self.predictor not in PREDICTORS:
            raise ArgumentError(
                "predictor", repr(self.predictor), f"must be one of {', '.join(PREDICTORS)}"
            )
        require_at_least(self, predictor_hidden=1, batch=2, steps=1, test_samples=4, weight_decay=0)
        require_positive(self, "learning_rate")
        if not 0 <= self.target_momentum < 1:
            raise ArgumentError("target_momentum", self.target_momentum, "must be in [0, 1)")


class ByolResult(NamedTuple):
    """Of one run, at its end on fresh data (`initial_…`: before training)."""

    loss: Array  # mean of the last tenth of the steps, in [0, 4]
    variance: Array  # of the unit embeddings over samples and views, in [0, 1]
    between: Array  # the part of it that both views of a sample share
    probe: Array  # accuracy of a ridge probe of the root from the unit embeddings
    initial_variance: Array
    initial_probe: Array
    possible_probe: Array  # of the sign of the root's posterior mean
    losses: Array  # [steps]


def init_predictor(key: Array, outputs: int, training: ByolTraining) -> Weights:
    """Weights of the predictor, uniform in ±1/√in; () where there is none."""
    sizes: dict[Predictor, tuple[tuple[int, int], ...]] = {
        "none": (),
        "linear": ((outputs, outputs),),
        "mlp": ((outputs, training.predictor_hidden), (training.predictor_hidden, outputs)),
    }
    chosen = sizes[training.predictor]
    return tuple(
        uniform_within(k, size) / jnp.sqrt(float(size[0]))
        for k, size in zip(jax.random.split(key, max(len(chosen), 1)), chosen, strict=False)
    )


def predict(weights: Weights, z: Array, *, batch_norm: bool) -> Array:
    """The predictor on embeddings `[n, outputs]`; its hidden layer has the network's BatchNorm."""
    for w in weights[:-1]:
        h = z @ w
        z = jax.nn.relu(normalization.batch_norm(h) if batch_norm else h)
    return z @ weights[-1] if weights else z


def train_byol(
    key: Array,
    lowest_polarity: Array | float,
    stop_gradient: Array | float,
    moving_average: Array | float,
    shape: TreeShape,
    training: ByolTraining,
) -> ByolResult:
    """One run of BYOL; loss `2 − 2 cos(predict(online(x)), target(x'))`, over both orders of views.

    The target is a moving average of the online network, or that network itself. Without
    stop-gradient, the gradient with respect to the target's weights is added to the online one's:
    where the target is the online network that is the plain gradient of the loss.

    Args:
      key: of the tree, weights and data.
      lowest_polarity: δ of the tree, in [0, 1]; may be traced.
      stop_gradient: 1 or 0; may be traced, so that both are one program under `jax.vmap`.
      moving_average: 1 or 0; may be traced.
      shape: of tree and network; `batch_norm` of it is the predictor's too.
      training: the run.
    """
    key_tree, key_weights, key_predictor, key_test, key_data = jax.random.split(key, 5)
    polarities = model.sample_polarities(key_tree, shape, lowest_polarity)
    online = init_tree_network(key_weights, shape)
    predictor = init_predictor(key_predictor, shape.outputs, training)
    optimizer = optax.chain(
        optax.add_decayed_weights(training.weight_decay),
        optax.sgd(training.learning_rate, momentum=0.9),
    )
    momentum = training.target_momentum * jnp.asarray(moving_average)

    def embed(weights: Weights, leaves: Array) -> Array:
        return tree_network(weights, leaves, batch_norm=shape.batch_norm)[0]

    def embed_both(weights: Weights, views: Array) -> Array:
        return jax.vmap(lambda leaves: embed(weights, leaves))(views)

    def loss_of(params: Params, target: Weights, views: Array) -> Array:
        weights, predictor = params
        online = embed_both(weights, views)
        p = jax.vmap(lambda z: predict(predictor, z, batch_norm=shape.batch_norm))(online)
        other = embed_both(target, views)[::-1]
        cosines = jnp.sum(acl.l2_normalize(p) * acl.l2_normalize(other), axis=2)
        return jnp.mean(2 - 2 * cosines)

    def gradient_of(params: Params, target: Weights, views: Array) -> tuple[Array, Params]:
        loss, (gradient, of_target) = jax.value_and_grad(loss_of, argnums=(0, 1))(
            params, target, views
        )
        passed = 1.0 - jnp.asarray(stop_gradient)
        of_online = jax.tree.map(lambda g, t: g + passed * t, gradient[0], of_target)
        return loss, (of_online, gradient[1])

    def step(state: State, key: Array) -> tuple[State, Array]:
        online, target = state
        first, second = model.sample_views(key, training.batch, polarities)
        views = jnp.stack([first[-1], second[-1]])
        online, loss = descend(optimizer, gradient_of, online, target, views)
        target = jax.tree.map(
            lambda t, w: momentum * t + (1 - momentum) * w, target, online.params[0]
        )
        return (online, target), loss

    test = model.sample_views(key_test, training.test_samples, polarities)

    def measure(weights: Weights) -> tuple[Array, Array, Array]:
        z, z_pos = acl.l2_normalize(embed_both(weights, jnp.stack([view[-1] for view in test])))
        variance, between = unit_variance(z, z_pos)
        return variance, between, probe_accuracy(z, test[0][0][:, 0])

    start = (begin(optimizer, (online, predictor)), online)
    (last, _), losses = train(step, start, key_data, training.steps)
    before, after = measure(online), measure(last.params[0])
    best_guess = model.posterior_means(test[0][-1], polarities)[0][:, 0]
    return ByolResult(
        loss=jnp.mean(losses[-max(training.steps // 10, 1) :]),
        variance=after[0],
        between=after[1],
        probe=after[2],
        initial_variance=before[0],
        initial_probe=before[2],
        possible_probe=jnp.mean(best_guess * test[0][0][:, 0] > 0),
        losses=losses,
    )


def unit_variance(z: Array, z_pos: Array) -> tuple[Array, Array]:
    """`E‖z − E z‖²` over both views, and the part that the views of a sample share.

    Args:
      z: first views `[n, dim]` on the unit sphere (or 0).
      z_pos: second views `[n, dim]`.

    Returns:
      The variance in [0, 1], and the cross-view covariance's trace (V_{x₀}E[z|x₀] for many
      samples; noise can make it negative).
    """
    chex.assert_equal_shape([z, z_pos])
    mean = (jnp.mean(z, axis=0, keepdims=True) + jnp.mean(z_pos, axis=0, keepdims=True)) / 2
    a, b = z - mean, z_pos - mean
    variance = jnp.mean(jnp.sum(a**2, axis=1) + jnp.sum(b**2, axis=1)) / 2
    return variance, jnp.mean(jnp.sum(a * b, axis=1))


def probe_accuracy(features: Array, labels: Array, penalty: float = 1e-3) -> Array:
    """Accuracy of a ridge regression of a sign, fitted on the first half, tested on the second.

    Args:
      features: `[n, dim]`, n ≥ 4, used as given: what has collapsed is not blown up again.
      labels: `[n]` of ±1.
      penalty: of the squared weights, beside a mean squared error; the offset is free.

    Raises:
      AssertionError: from chex, for other ranks, or another number of labels.
    """
    chex.assert_rank([features, labels], [2, 1])
    chex.assert_equal_shape_prefix([features, labels], 1)
    half = features.shape[0] // 2
    x, y = features[:half], labels[:half]
    mean, offset = jnp.mean(x, axis=0, keepdims=True), jnp.mean(y)
    centred = x - mean
    gram = centred.T @ centred / half + penalty * jnp.eye(x.shape[1])
    weights = jnp.linalg.solve(gram, centred.T @ (y - offset) / half)
    scores = (features[half:] - mean) @ weights + offset
    return jnp.mean(scores * labels[half:] > 0)
