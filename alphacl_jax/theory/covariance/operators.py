"""SimCLR's covariance operator: what one step of a contrastive loss does to a layer of a ReLU net.

A ReLU network without biases or normalisation is linear in the weights of any one layer along its
own Jacobian, `f_o(x) = ⟨∂f_o/∂W_l(x), W_l⟩`, so that for every loss of the family, summed over
anchors, exactly

    −∇_{W_l} L = Σ_o C_α[∂f_o/∂W_l] vec(W_l)

(`−∇L = ½∇ tr C_α[f, f]` at fixed α, and the quadratic form gives the 2 back: the constant is 1).
With uniform α and many samples, `C_α/Σα → 2 V_{x₀}E[·|x₀]`: twice the variance between samples of
the average over augmentations (Tian et al., "Understanding Self-supervised Learning with Dual Deep
Networks", 2020).
"""

import itertools
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
from jax import Array

import alphacl_jax as acl
from alphacl_jax.errors import ArgumentError
from alphacl_jax.theory.weights import standard_normals

Weights = tuple[Array, ...]
Network = Callable[[Weights, Array], Array]

# The inputs of `block_views`, in order.
BLOCKS = ("signal", "nuisance", "constant")


def init_relu_network(key: Array, sizes: tuple[int, ...]) -> Weights:
    """Weights `[in, out]` of each layer, normal with variance 2/in (He initialisation).

    Args:
      key: a PRNG key.
      sizes: of the input, the hidden layers and the output, at least two, each at least 1.

    Raises:
      ValueError: for fewer sizes or a size below 1.
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise ArgumentError("sizes", sizes, "must be two or more sizes of layers, each at least 1")
    drawn = standard_normals(key, itertools.pairwise(sizes))
    return tuple(w * jnp.sqrt(2 / w.shape[0]) for w in drawn)


def relu_network(weights: Weights, x: Array) -> Array:
    """`W_Lᵀ ReLU(… ReLU(W_1ᵀ x))`, a linear last layer, no biases: `[n, in]` to `[n, out]`."""
    for w in weights[:-1]:
        x = jax.nn.relu(x @ w)
    return x @ weights[-1]


def layer_jacobians(network: Network, weights: Weights, layer: int, x: Array) -> Array:
    """`∂f_o/∂W_l` of each sample.

    Args:
      network: maps weights and inputs `[n, ...]` to outputs `[n, outputs]`, each sample on its own.
      weights: one array a layer.
      layer: l, from 0.
      x: inputs `[n, ...]`.

    Returns:
      `[n, outputs, weights of the layer]`.

    Raises:
      ValueError: for a layer that there is not.
    """
    if not 0 <= layer < len(weights):
        raise ArgumentError("layer", layer, f"must be from 0 to {len(weights) - 1}")

    def of_one(sample: Array) -> Array:
        def outputs(w: Array) -> Array:
            return network((*weights[:layer], w, *weights[layer + 1 :]), sample[None])[0]

        return jax.jacrev(outputs)(weights[layer])

    jacobians = jax.vmap(of_one)(x)
    return jacobians.reshape(*jacobians.shape[:2], -1)


def covariance_operator(jacobians: Array, jacobians_pos: Array, alpha: Array) -> Array:
    """`Σ_o C_α[∂f_o/∂W_l]`, a symmetric matrix on the flattened weights of the layer.

    Args:
      jacobians: of the first views, `[n, outputs, w]` (`layer_jacobians`).
      jacobians_pos: of the second views, `[n, outputs, w]`.
      alpha: `[n, n]` or `[2n, 2n]`, as in `alphacl_jax.contrastive_covariance`.

    Returns:
      `[w, w]`.

    Raises:
      AssertionError: from chex, for wrong ranks and shapes.
      ValueError: for an alpha of another shape.
    """
    chex.assert_rank(jacobians, 3)
    chex.assert_equal_shape([jacobians, jacobians_pos])
    per_output = jax.vmap(acl.contrastive_covariance, in_axes=(1, 1, None))
    return jnp.sum(per_output(jacobians, jacobians_pos, alpha), axis=0)


def operator_of_loss(
    network: Network, weights: Weights, layer: int, x: Array, x_pos: Array, family: acl.Family
) -> Array:
    """The covariance operator of one layer for a loss of the family, both views as anchors.

    Times `vec(W_l)` it is the negative gradient of `contrastive_loss(..., reduction="sum")`.

    Returns:
      `[w, w]` for a layer of w weights.
    """
    alpha = acl.pairwise_importance(network(weights, x), network(weights, x_pos), family)
    jacobians, jacobians_pos = (layer_jacobians(network, weights, layer, v) for v in (x, x_pos))
    return covariance_operator(jacobians, jacobians_pos, alpha)


def block_views(key: Array, n: int, bits: int) -> tuple[Array, Array]:
    """Two views of inputs whose coordinates do three different things, all of mean square 1.

    A view is `[signal, nuisance, constant]`: `bits` signs ±1 that make the sample x₀ and that both
    views share, `bits` signs that augmentation draws afresh for each view, and `bits` ones.

    Returns:
      Two arrays `[n, 3·bits]`.

    Raises:
      ValueError: for n or bits below 1.
    """
    if n < 1 or bits < 1:
        raise ArgumentError("n", n, f"and bits={bits} must be at least 1")
    # Flat, then reshaped: under a vmap over keys a draw of rank 3 compiles 20 times as long.
    signs = jax.random.rademacher(key, (3 * n * bits,), float).reshape(3, n, bits)
    signal, *nuisance = signs
    ones = jnp.ones((n, bits))
    first, second = (jnp.concatenate([signal, noise, ones], axis=1) for noise in nuisance)
    return first, second


def same_sample(first: Array, second: Array, bits: int) -> Array:
    """Which two rows of `block_views` have the same signal, and so are views of one sample.

    Args:
      first: inputs `[n, 3·bits]`.
      second: inputs `[m, 3·bits]`.
      bits: of the signal.

    Returns:
      `[n, m]`, booleans.
    """
    return jnp.all(first[:, None, :bits] == second[None, :, :bits], axis=2)


def between_sample_variance(network: Network, weights: Weights, layer: int, bits: int) -> Array:
    """`Σ_o V_{x₀}E[∂f_o/∂W_l | x₀]` over the inputs of `block_views`, exact, by enumeration.

    Args:
      network: as in `layer_jacobians`, on 3·bits inputs.
      weights: of the network.
      layer: l, from 0.
      bits: of signal and of nuisance; all 4^bits inputs are visited.

    Returns:
      `[w, w]`.
    """
    signs = jnp.array(list(itertools.product((-1.0, 1.0), repeat=bits)))
    count = len(signs)
    signal, nuisance = jnp.repeat(signs, count, axis=0), jnp.tile(signs, (count, 1))
    x = jnp.concatenate([signal, nuisance, jnp.ones_like(signal)], axis=1)
    jacobians = layer_jacobians(network, weights, layer, x)
    averages = jnp.mean(jacobians.reshape(count, count, *jacobians.shape[1:]), axis=1)
    centred = averages - jnp.mean(averages, axis=0, keepdims=True)
    return jnp.einsum("xov,xow->vw", centred, centred) / count


def block_mass(vectors: Array) -> Array:
    """How much of the squared norm of first-layer weights is on each block of the input.

    Args:
      vectors: `[..., 3·bits·hidden]`, flattened weights `[3·bits, hidden]`.

    Returns:
      `[..., 3]` in the order of `BLOCKS`, summing to 1 (0 for a vector of zeros).
    """
    blocks = vectors.reshape(*vectors.shape[:-1], len(BLOCKS), -1)
    mass = jnp.sum(blocks**2, axis=-1)
    total = jnp.sum(mass, axis=-1, keepdims=True)
    return mass / jnp.where(total > 0, total, 1.0)


def limit_errors(keys: Array, weights: Weights, layer: int, n: int, bits: int) -> Array:
    """How far `C_α/Σα` with uniform α is from `2 V_{x₀}E[·|x₀]`, relative, in Frobenius norm.

    Args:
      keys: of the batches, `[repeats]`.
      weights: of a `relu_network` on 3·bits inputs.
      layer: l, from 0.
      n: pairs of views in a batch, at least 2.
      bits: of each block of the input.

    Returns:
      `[repeats]`; it falls like 1/√n.

    Raises:
      ValueError: for n below 2.
    """
    if n < 2:
        raise ArgumentError("n", n, "must be at least 2: a batch of one has no negatives")
    limit = 2 * between_sample_variance(relu_network, weights, layer, bits)
    alpha = (1 - jnp.eye(n)) / (n - 1)

    def error(key: Array) -> Array:
        views = block_views(key, n, bits)
        jacobians, jacobians_pos = (layer_jacobians(relu_network, weights, layer, v) for v in views)
        found = covariance_operator(jacobians, jacobians_pos, alpha) / jnp.sum(alpha)
        return jnp.linalg.norm(found - limit) / jnp.linalg.norm(limit)

    return jax.lax.map(error, keys)
