"""Coordinate-wise optimisation: a descent step on a loss is a min player's and a max player's move.

    α_t = argmin_α E_α(θ_t) − R(α),     θ_{t+1} = θ_t + (η/2) ∇_θ E_{α_t}(θ_t),  α_t held fixed

equals `θ_{t+1} = θ_t − η ∇L_{φ,ψ}(θ_t)` for every loss of the family. The ½ is that of the half
squared distances (∇L = −½ ∇E). Source: Tian, "Understanding Deep Contrastive Learning via
Coordinate-wise Optimization", 2022.
"""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

import alphacl_jax as acl
from alphacl_jax.errors import ArgumentError
from alphacl_jax.theory.training import trajectory
from alphacl_jax.theory.weights import standard_normals

Params = Any  # a tree of arrays
Network = Callable[[Params, Array], Array]  # (params, inputs [n, dim]) -> embeddings [n, out]


def mlp_params(key: Array, widths: tuple[int, ...]) -> list[Array]:
    """Normal weights of variance 1/fan-in, `[m, n]` from m to n units."""
    drawn = standard_normals(key, itertools.pairwise(widths))
    return [w / jnp.sqrt(1.0 * w.shape[0]) for w in drawn]


def mlp(params: list[Array], x: Array) -> Array:
    """A tanh network without biases onto the unit sphere, `[n, dim]` → `[n, out]`."""
    for weights in params[:-1]:
        x = jnp.tanh(x @ weights)
    return acl.l2_normalize(x @ params[-1])


def loss_sum(network: Network, params: Params, x: Array, x_pos: Array, family: acl.Family) -> Array:
    """`L_{φ,ψ} = Σ_i φ(ξ_i)` of a network's embeddings, same-view negatives."""
    z, z_pos = network(params, x), network(params, x_pos)
    return acl.contrastive_loss(z, z_pos, family, negatives="same_view", reduction="sum")


def min_player(
    network: Network, params: Params, x: Array, x_pos: Array, family: acl.Family
) -> Array:
    """`α_ij = φ'(ξ_i) ψ'(d_i² − d_ij²)`, `[n, n]`."""
    z, z_pos = network(params, x), network(params, x_pos)
    return acl.pairwise_importance(z, z_pos, family, negatives="same_view")


def descend(
    network: Network,
    params: Params,
    x: Array,
    x_pos: Array,
    family: acl.Family,
    step_size: float | Array,
    steps: int,
) -> tuple[Params, Array]:
    """Gradient descent on L: `θ ← θ − η ∇L(θ)`.

    Args:
      network: `(params, inputs) -> embeddings`.
      params: the start.
      x: first views `[n, dim]`.
      x_pos: second views `[n, dim]`.
      family: the loss.
      step_size: η.
      steps: how many, at least 1.

    Returns:
      The parameters after each step, the start first (a leading axis of steps + 1), and L at
      each, `[steps + 1]`.

    Raises:
      ValueError: steps < 1.
    """
    loss = jax.value_and_grad(partial(loss_sum, network))

    def move(params: Params) -> tuple[Params, Array]:
        value, g = loss(params, x, x_pos, family)
        return jax.tree.map(lambda p, d: p - step_size * d, params, g), value

    return _trajectory(move, params, steps)


def alternate(
    network: Network,
    params: Params,
    x: Array,
    x_pos: Array,
    family: acl.Family,
    step_size: float | Array,
    steps: int,
) -> tuple[Params, Array]:
    """Alternation: the min player's exact α, then one ascent step of η/2 on `E_α` at that α.

    Args and errors as in `descend`; returns the parameters likewise, and `E_α` in place of L.
    """

    def energy(params: Params, alpha: Array) -> Array:
        return acl.energy(network(params, x), network(params, x_pos), alpha)

    def move(params: Params) -> tuple[Params, Array]:
        alpha = min_player(network, params, x, x_pos, family)
        value, g = jax.value_and_grad(energy)(params, alpha)
        return jax.tree.map(lambda p, d: p + 0.5 * step_size * d, params, g), value

    return _trajectory(move, params, steps)


def _trajectory(
    move: Callable[[Params], tuple[Params, Array]], params: Params, steps: int
) -> tuple[Params, Array]:
    if steps < 1:
        raise ArgumentError("steps", steps, "must be at least 1")

    def move_and_keep(params: Params) -> tuple[Params, tuple[Params, Array]]:
        after, value = move(params)
        return after, (params, value)

    return trajectory(move_and_keep, params, steps)[1]


def exponential_temperature(family: acl.Family) -> float | Array | None:
    """τ of a loss with `ψ(x) = e^{x/τ + margin}`; None for other ψ."""
    return family.temperature


def budgets(z: Array, z_pos: Array, family: acl.Family) -> Array:
    """`τ⁻¹ ξ_i φ'(ξ_i)`, what α's rows sum to in the feasible set, `[n]`; same-view negatives.

    Computed from φ and ψ as written, not through log ξ as the kernels do.

    Args:
      z: first views' embeddings `[n, dim]`.
      z_pos: second views' embeddings `[n, dim]`.
      family: a loss with exponential ψ.

    Raises:
      ValueError: for a ψ that is no exponential: such a loss has no such set.
    """
    temperature = exponential_temperature(family)
    if temperature is None:
        raise ValueError(
            f"budgets are defined for ψ(x) = e^(x/τ + margin); the ψ of {family!r} is another"
        )
    d_pos = 0.5 * jnp.sum(jnp.square(z - z_pos), axis=1)
    terms = family.psi(d_pos[:, None] - acl.squared_distances(z))
    xi = jnp.sum(jnp.where(jnp.eye(z.shape[0], dtype=bool), 0.0, terms), axis=1)
    return xi * jax.vmap(jax.grad(family.phi))(xi) / temperature


def min_player_objective(
    alpha: Array, d_pos: Array, d_neg: Array, temperature: float | Array
) -> Array:
    """`E_α − R(α) = Σ_j 2 α_j (d_j² − d²) + 2τ Σ_j α_j log α_j` of each anchor, `[...]`.

    `R = 2τ H(α)`, with 0·log 0 = 0. Convex in α.

    Args:
      alpha: `[..., m]`, ≥ 0.
      d_pos: d², half squared distance to the positive, a scalar.
      d_neg: d_j², to each negative, `[..., m]`.
      temperature: τ > 0.
    """
    entropy = -jnp.sum(jax.scipy.special.xlogy(alpha, alpha), axis=-1)
    return 2.0 * jnp.sum(alpha * (d_neg - d_pos), axis=-1) - 2.0 * temperature * entropy
