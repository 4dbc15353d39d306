"""A network of the tree's shape: the hidden nodes of a latent see those of its children alone."""

import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax.theory import normalization
from alphacl_jax.theory.latent_tree.model import Levels, TreeShape
from alphacl_jax.theory.weights import uniform_by_fan_in

Weights = tuple[Array, ...]


def init_tree_network(key: Array, shape: TreeShape) -> Weights:
    """Weights from the leaves up, `[groups, in, width]` each, then `[width, outputs]` (no biases).

    Uniform in ±1/√in.
    """
    sizes: list[tuple[int, ...]] = []
    fan_in = shape.children
    for level in reversed(range(shape.depth)):
        sizes.append((shape.children**level, fan_in, shape.width))
        fan_in = shape.children * shape.width
    return uniform_by_fan_in(key, [*sizes, (shape.width, shape.outputs)])


def tree_network(weights: Weights, leaves: Array, *, batch_norm: bool) -> tuple[Array, Levels]:
    """The locally connected ReLU network of the tree.

    Args:
      weights: as made by `init_tree_network`.
      leaves: `[n, children^depth]`.
      batch_norm: normalise each hidden node over the batch before its ReLU.

    Returns:
      The outputs `[n, outputs]`, and the hidden nodes of levels 0 to depth − 1, each
      `[n, children^level, width]`.
    """
    h = leaves[:, :, None]
    hidden: list[Array] = []
    for w in weights[:-1]:
        h = jnp.einsum("ngi,gij->ngj", h.reshape(len(leaves), w.shape[0], -1), w)
        h = jax.nn.relu(normalization.batch_norm(h) if batch_norm else h)
        hidden.insert(0, h)
    return h[:, 0] @ weights[-1], tuple(hidden)


def best_correlations(hidden: Levels, latents: Levels) -> Array:
    """The best |correlation| of a hidden node with its latent, averaged over a level's latents.

    Args:
      hidden: for levels 0, 1, …: `[n, latents, width]`.
      latents: for the same levels, or more: `[n, latents]`.

    Returns:
      `[levels]` in [0, 1]; a node that does not vary counts as 0.
    """
    return jnp.stack([_best(h, z) for h, z in zip(hidden, latents, strict=False)])


def _best(h: Array, z: Array) -> Array:
    h = h - jnp.mean(h, axis=0, keepdims=True)
    z = z - jnp.mean(z, axis=0, keepdims=True)
    covariance = jnp.mean(h * z[:, :, None], axis=0)
    scale = jnp.mean(h**2, axis=0) * jnp.mean(z**2, axis=0)[:, None]
    varies = scale > 1e-12
    correlation = jnp.where(varies, covariance * jax.lax.rsqrt(jnp.where(varies, scale, 1.0)), 0.0)
    return jnp.mean(jnp.max(jnp.abs(correlation), axis=1))
