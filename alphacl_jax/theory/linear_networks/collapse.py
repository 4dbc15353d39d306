"""Dimensional collapse of linear networks: gradient flow under fixed α, and trained by a loss.

Gradient flow on a loss is ½ ∇E_α at its own α, so with z = W_L … W_1 x, X = C_α[x] and L ≤ 2

    one layer:   Ẇ = W X
    two layers:  Ẇ_1 = W_2ᵀ W_2 W_1 X,   Ẇ_2 = W_2 W_1 X W_1ᵀ

exactly, no factor left over. `W_1 W_1ᵀ − W_2ᵀ W_2` does not change along the second, so as the
layers grow past their start they align; once aligned, their singular values follow
σ̇_1 = σ_1 σ_2² (v_1ᵀXv_1) and σ̇_2 = σ_2 σ_1² (v_1ᵀXv_1). Sources: Jing, Vincent, LeCun, Tian,
"Understanding Dimensional Collapse in Contrastive Self-supervised Learning", 2022, sections 4
and 5.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax
from jax import Array

import alphacl_jax as acl
from alphacl_jax.errors import ArgumentError
from alphacl_jax.theory.flows import solve_adaptively
from alphacl_jax.theory.linear_networks.decomposition import svd_in_turn
from alphacl_jax.theory.linear_networks.pca import Layers, end_to_end
from alphacl_jax.theory.training import Descent, begin, descend, trajectory

Velocity = Callable[[Layers, Array], Layers]


def one_layer_velocity(layers: Layers, x_alpha: Array) -> Layers:
    """`Ẇ = W X`, W `[outputs, dim]`, X `[dim, dim]`."""
    (w,) = layers
    return (w @ x_alpha,)


def two_layer_velocity(layers: Layers, x_alpha: Array) -> Layers:
    """`Ẇ_1 = W_2ᵀ W_2 W_1 X`, `Ẇ_2 = W_2 W_1 X W_1ᵀ`; X `[dim, dim]`, symmetric."""
    w1, w2 = layers
    through = w2 @ w1 @ x_alpha
    return w2.T @ through, through @ w1.T


def one_layer_solution(w: Array, x_alpha: Array, times: Array) -> Array:
    """`W(t) = W(0) exp(tX)`, the solution of `Ẇ = W X`.

    Args:
      w: W(0), `[outputs, dim]`.
      x_alpha: X, `[dim, dim]`, symmetric.
      times: t, `[steps]`.

    Returns:
      `[steps, outputs, dim]`.
    """
    chex.assert_rank([w, x_alpha, times], [2, 2, 1])
    values, vectors = jnp.linalg.eigh(x_alpha)
    growth = jnp.exp(times[:, None] * values[None])
    return ((w @ vectors)[None] * growth[:, None]) @ vectors.T


def aligned_singular_values(sigma: Array, rate: Array, times: Array) -> Array:
    """`σ(t) = σ(0)/√(1 − 2 σ(0)² λ t)`: both layers' singular values from an aligned, equal start.

    The solution of `σ̇ = λ σ³`, where v_1 is an eigenvector of X with eigenvalue λ. For λ > 0 it
    ends at the time 1/(2 λ σ(0)²), where it is infinite.

    Args:
      sigma: σ(0), `[k]`.
      rate: λ, `[k]`.
      times: t before that end, `[steps]`.

    Returns:
      `[steps, k]`.
    """
    chex.assert_rank([sigma, rate, times], 1)
    return sigma[None] / jnp.sqrt(1.0 - 2.0 * times[:, None] * (jnp.square(sigma) * rate)[None])


@partial(jax.jit, static_argnames="velocity")
def relative_flow(
    velocity: Velocity, layers: Layers, x_alpha: Array, arc: Array
) -> tuple[Array, Layers]:
    """Gradient flow, by the clock of relative change: `dθ/ds = ‖θ‖ θ̇/‖θ̇‖`, `dt/ds = ‖θ‖/‖θ̇‖`.

    The curve is that of `θ̇`, run through at unit relative speed. By the time t itself it cannot
    be followed far: with two layers and λ_max > 0 it is infinite at a finite t.

    Args:
      velocity: θ̇ as a function of layers and X.
      layers: the start.
      x_alpha: X, `[dim, dim]`, symmetric.
      arc: the values of s at which to report, ascending, from 0, `[steps]`.

    Returns:
      t at each s, `[steps]`, and the layers there (a leading axis of steps). Where no
      start moves (θ̇ = 0), NaN.
    """

    def field(state: tuple[Array, Layers]) -> tuple[Array, Layers]:
        _, layers = state
        moves = velocity(layers, x_alpha)
        pace = _norm(layers) / _norm(moves)
        # Time is scaled to be near 1 as well: the solver's tolerances are absolute near 0.
        return pace / start_pace, jax.tree.map(lambda m: pace * m, moves)

    start_pace = _norm(layers) / _norm(velocity(layers, x_alpha))
    times, path = _solve(field, (jnp.zeros((), x_alpha.dtype), layers), arc)
    return times * start_pace, path


@partial(jax.jit, static_argnames="velocity")
def flow(velocity: Velocity, layers: Layers, x_alpha: Array, times: Array) -> Layers:
    """Gradient flow `θ̇ = velocity(θ, X)` at the times `[steps]`, ascending from 0.

    Returns:
      The layers at each time (a leading axis of steps).
    """

    path: Layers = _solve(lambda layers: velocity(layers, x_alpha), layers, times)
    return path


def _norm(layers: Layers) -> Array:
    return jnp.sqrt(sum(jnp.sum(jnp.square(w)) for w in layers))


def _solve(field: Callable[[Any], Any], start: Any, at: Array) -> Any:
    # Errors well below what is read off the curves, and above rounding in either precision.
    tolerance = 1e-9 if at.dtype == jnp.float64 else 1e-6
    return solve_adaptively(
        "linear networks", field, start, at, rtol=tolerance, atol=tolerance * 1e-3
    )


def alignment_matrix(w1: Array, w2: Array) -> Array:
    """`|u_1ᵏ · v_2ᵐ|`, left singular vectors of W_1 against right ones of W_2, `[r, r]`.

    Vectors are ordered by singular value, largest first; r is the hidden width, or the smaller
    rank that the shapes allow. The identity matrix is perfect alignment.
    """
    chex.assert_equal(w1.shape[0], w2.shape[1])
    first, second = svd_in_turn((w1, w2))
    rank = min(first.u.shape[1], second.vt.shape[0])
    return jnp.abs(second.vt @ first.u)[:rank, :rank].T


def closed_form_rates(w1: Array, w2: Array, x_alpha: Array) -> tuple[Array, Array]:
    """`σ_1 σ_2² (v_1ᵀXv_1)` and `σ_2 σ_1² (v_1ᵀXv_1)` for each singular value, largest first.

    What σ̇_1 and σ̇_2 are where the k-th vectors of W_1 and W_2 are aligned.

    Returns:
      Two of `[r]`, r the hidden width or the smaller rank that the shapes allow.
    """
    (_, s1, v1t), (_, s2, _) = svd_in_turn((w1, w2))
    rank = min(s1.shape[0], s2.shape[0])
    s1, s2, v1t = s1[:rank], s2[:rank], v1t[:rank]
    curvature = jnp.sum((v1t @ x_alpha) * v1t, axis=1)
    return s1 * jnp.square(s2) * curvature, s2 * jnp.square(s1) * curvature


@partial(jax.jit, static_argnames=("family", "steps", "records"))
def train(
    layers: Layers,
    x: Array,
    x_pos: Array,
    family: acl.Family,
    step_size: float | Array,
    steps: int,
    records: int,
) -> tuple[Layers, Array]:
    """Gradient descent on a loss of a linear network's embeddings, α following the weights.

    Same-view negatives, mean over anchors, embeddings as they are (not normalised).

    Args:
      layers: the start, any depth.
      x: first views `[n, dim]`.
      x_pos: second views `[n, dim]`.
      family: the loss.
      step_size: of each step.
      steps: how many; a multiple of `records`.
      records: how many equal stretches are recorded.

    Returns:
      The layers after each stretch, the start first (a leading axis of records + 1), and the loss
      there, `[records + 1]`.

    Raises:
      ValueError: for steps that are no multiple of records.
    """
    if records < 1 or steps < 1 or steps % records:
        raise ArgumentError("steps", steps, f"must be a positive multiple of records={records}")
    optimizer = optax.sgd(step_size)

    @jax.value_and_grad
    def loss(layers: Layers) -> Array:
        w = end_to_end(layers)
        return acl.contrastive_loss(x @ w.T, x_pos @ w.T, family, negatives="same_view")

    def move(state: Descent) -> tuple[Descent, tuple[Layers, Array]]:
        after, value = descend(optimizer, loss, state)
        return after, (state.params, value)

    return trajectory(move, begin(optimizer, layers), steps, every=steps // records)[1]
