"""SimCLR on the latent tree: hidden nodes come to resemble latents that no loss ever named."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

import alphacl_jax as acl
from alphacl_jax.theory.checks import require_at_least, require_positive
from alphacl_jax.theory.latent_tree.model import (
    TreeShape,
    posterior_means,
    sample_polarities,
    sample_views,
)
from alphacl_jax.theory.latent_tree.network import (
    Weights,
    best_correlations,
    init_tree_network,
    tree_network,
)
from alphacl_jax.theory.training import Descent, begin, descend, train


@dataclass(frozen=True)
class TreeTraining:
    """Of a run of SimCLR on the tree.

    Attributes:
      temperature: τ > 0 of InfoNCE.
      batch: fresh pairs of views per step, at least 2.
      steps: of SGD with momentum 0.9, at least 1.
      learning_rate: positive.
      normalize: scale the outputs to the unit sphere before the loss.
      test_samples: on which correlations are measured, at least 2.
    """

    temperature: float = 0.1
    batch: int = 128
    steps: int = 1000
    learning_rate: float = 0.05
    normalize: bool = True
    test_samples: int = 2048

    def __post_init__(self) -> None:
        require_at_least(self, batch=2, steps=1, test_samples=2)
        require_positive(self, "temperature", "learning_rate")


class TreeResult(NamedTuple):
    """Of one run; correlations are `[depth]`, of levels 0 (the root) to depth − 1."""

    initial: Array  # best correlations before training
    trained: Array  # and after
    possible: Array  # of the posterior mean given the leaves below: no node does better
    losses: Array  # [steps]


def train_on_tree(
    key: Array, lowest_polarity: Array | float, shape: TreeShape, training: TreeTraining
) -> TreeResult:
    """One run: a tree, a network, SimCLR (NT-Xent layout) on fresh batches.

    Args:
      key: of the tree, weights and data. `jax.vmap` over keys and δ gives a grid in one program.
      lowest_polarity: δ in [0, 1]; may be traced.
      shape: of tree and network.
      training: the run.
    """
    family = acl.families.info_nce(training.temperature)
    optimizer = optax.sgd(training.learning_rate, momentum=0.9)
    key_tree, key_weights, key_test, key_data = jax.random.split(key, 4)
    polarities = sample_polarities(key_tree, shape, lowest_polarity)
    weights = init_tree_network(key_weights, shape)

    def outputs(weights: Weights, leaves: Array) -> Array:
        return tree_network(weights, leaves, batch_norm=shape.batch_norm)[0]

    def loss_of(weights: Weights, views: Array) -> Array:
        z = jax.vmap(outputs, (None, 0))(weights, views)
        z = acl.l2_normalize(z) if training.normalize else z
        return acl.contrastive_loss(z[0], z[1], family)

    def step(state: Descent, key: Array) -> tuple[Descent, Array]:
        first, second = sample_views(key, training.batch, polarities)
        views = jnp.stack([first[-1], second[-1]])
        return descend(optimizer, jax.value_and_grad(loss_of), state, views)

    test, _ = sample_views(key_test, training.test_samples, polarities)

    def correlations(weights: Weights) -> Array:
        hidden = tree_network(weights, test[-1], batch_norm=shape.batch_norm)[1]
        return best_correlations(hidden, test)

    possible = [m[:, :, None] for m in posterior_means(test[-1], polarities)]
    last, losses = train(step, begin(optimizer, weights), key_data, training.steps)
    return TreeResult(
        correlations(weights),
        correlations(last.params),
        best_correlations(tuple(possible), test),
        losses,
    )
