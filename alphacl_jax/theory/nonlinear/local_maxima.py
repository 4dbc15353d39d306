"""One nonlinear node under a given α: its energy on the sphere, all its local maxima.

For a node f = h(wᵀx) with h'(u)u = p·h(u) (see `activations`) and gated data x̃ʷ = x·h'(wᵀx),

    A(w) = C_α[x̃ʷ],   E(w) = wᵀA(w)w = p² C_α[h(wᵀx)],   ∇E(w) = 2p A(w)w,

so p = 1 (linear, ReLU, leaky ReLU) gives the energy itself, and h = xᵖ p² times it. K nodes in one
layer, each of norm 1, maximise the sum of their energies: each its own E.

References:
  Tian 2022, "Understanding Deep Contrastive Learning via Coordinate-wise Optimization" (slides
  "1-layer 1-node nonlinear network" and "1-layer multiple node nonlinear network").
"""

from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from alphacl_jax.covariance import contrastive_covariance
from alphacl_jax.errors import ArgumentError
from alphacl_jax.theory.nonlinear.activations import Activation
from alphacl_jax.theory.nonlinear.patterns import NodeData

# A step is taken if it rises by this share of what the gradient promises (Armijo).
_SUFFICIENT_RISE = 0.1
# The step's number, w, A(w)w, E(w) and η.
_Climb = tuple[Array, Array, Array, Array, Array]


class Ends(NamedTuple):
    """Where ascents end.

    Attributes:
      weights: `[starts, dim]`, of norm 1.
      energies: `[starts]`, E.
      residuals: `[starts]`, ‖A(w)w − E w‖ relative to ‖A(w)w‖: 0 at a smooth maximum. With a
        kinked h and n samples maxima can lie on kinks of E, where it stays of order 1/n.
    """

    weights: Array
    energies: Array
    residuals: Array


class LocalMaxima(NamedTuple):
    """The distinct local maxima, highest first.

    Ends of energy exactly 0 are filters that no sample activates: a plateau and no maximum.

    Attributes:
      weights: `[maxima, dim]`, of norm 1.
      energies: `[maxima]`, E.
      basins: `[maxima]`, the fraction of starts that ended there.
      labels: `[starts]`, which maximum each start reached; −1 for a plateau.
    """

    weights: np.ndarray
    energies: np.ndarray
    basins: np.ndarray
    labels: np.ndarray


@partial(jax.jit, static_argnames="activation")
def node_covariance(w: Array, data: NodeData, activation: Activation) -> Array:
    """`A(w) = C_α[x̃ʷ]`, x̃ʷ = x·h'(wᵀx).

    Args:
      w: a filter `[dim]`.
      data: views and α.
      activation: h.

    Returns:
      `[dim, dim]`, symmetric.
    """
    chex.assert_rank(w, 1)
    gated, gated_pos = (_gate(w, x, activation) for x in data[:2])
    return contrastive_covariance(gated, gated_pos, data.alpha)


@partial(jax.jit, static_argnames="activation")
def node_energy(w: Array, data: NodeData, activation: Activation) -> Array:
    """`E(w) = wᵀA(w)w = p² C_α[h(wᵀx)]`, computed from the activations h; a scalar.

    Args:
      w: a filter `[dim]`.
      data: views and α.
      activation: h, of degree p.
    """
    chex.assert_rank(w, 1)
    f, f_pos = (activation.apply(x @ w)[:, None] for x in data[:2])
    return activation.degree**2 * contrastive_covariance(f, f_pos, data.alpha)[0, 0]


@partial(jax.jit, static_argnames="activation")
def ascend(
    starts: Array,
    data: NodeData,
    activation: Activation,
    *,
    max_steps: int = 1000,
    tolerance: float = 1e-6,
) -> Ends:
    """Climbs E on the unit sphere from every start; E never falls on the way.

    Riemannian gradient ascent: w ← (w + η P A(w)w)/‖·‖, P the projection across w, with η doubled
    after a step that rises enough and quartered (the step undone) after one that does not. η → ∞
    would be the power iteration, which need not rise where A varies or is indefinite.

    Args:
      starts: `[starts, dim]`, of any norm but 0.
      data: views and α.
      activation: h.
      max_steps: the most trial steps.
      tolerance: of the relative residual, at which a start rests; in float32 about 1e-3 is the
        least that rounding lets it see.
    """
    chex.assert_rank(starts, 2)
    chex.assert_axis_dimension(starts, 1, data.x.shape[1])
    degree = activation.degree

    def field(w: Array) -> tuple[Array, Array]:
        """A(w)w and E(w), without forming A(w)."""
        gated, gated_pos = (_gate(w, x, activation) for x in data[:2])
        product = contrastive_covariance(
            gated, gated_pos, data.alpha, (gated @ w)[:, None], (gated_pos @ w)[:, None]
        )[:, 0]
        return product, w @ product

    def residual(w: Array, product: Array, energy: Array) -> Array:
        size = jnp.linalg.norm(product)
        return jnp.linalg.norm(product - energy * w) / jnp.where(size > 0, size, 1.0)

    def climb(start: Array) -> Ends:
        w = start / jnp.linalg.norm(start)
        product, energy = field(w)
        smallest = jnp.finfo(w.dtype).eps

        def unfinished(carry: _Climb) -> Array:
            step, w, product, energy, eta = carry
            # η is in units of 1/‖A(w)w‖: below eps a step changes nothing.
            moving = (residual(w, product, energy) > tolerance) & (eta > smallest)
            return (step < max_steps) & moving

        def trial(carry: _Climb) -> _Climb:
            step, w, product, energy, eta = carry
            size = jnp.linalg.norm(product)
            slope = (product - energy * w) / jnp.where(size > 0, size, 1.0)
            moved = w + eta * slope
            moved = moved / jnp.linalg.norm(moved)
            new_product, new_energy = field(moved)
            promised = 2 * degree * eta * size * jnp.sum(slope**2)
            risen = new_energy > energy + _SUFFICIENT_RISE * promised

            def pick(new: Array, old: Array) -> Array:
                return jnp.where(risen, new, old)

            return (
                step + 1,
                pick(moved, w),
                pick(new_product, product),
                pick(new_energy, energy),
                jnp.where(risen, jnp.minimum(2 * eta, 1e3), eta / 4),
            )

        carry: _Climb = (jnp.asarray(0, jnp.int32), w, product, energy, jnp.ones_like(energy))
        _, w, product, energy, _ = jax.lax.while_loop(unfinished, trial, carry)
        return Ends(w, energy, residual(w, product, energy))

    return jax.vmap(climb)(starts)


def distinct_maxima(
    weights: Array | np.ndarray,
    energies: Array | np.ndarray,
    *,
    sign_symmetric: bool,
    angle: float = 0.1,
) -> LocalMaxima:
    """Merges ends of ascents that are the same maximum, keeping the highest of each.

    On concrete arrays: how many maxima there are is no shape that a traced program could have.

    Args:
      weights: `[starts, dim]`, of norm 1.
      energies: `[starts]`.
      sign_symmetric: whether w and −w are the same.
      angle: in radians, above 0; ends nearer to a maximum than this are that maximum.

    Raises:
      ValueError: an angle that is not in (0, π/2); weights or energies that are not finite.
    """
    if not 0 < angle < np.pi / 2:
        raise ArgumentError("angle", angle, "is out of range; it must be in (0, π/2) radians")
    w, e = np.asarray(weights, np.float64), np.asarray(energies, np.float64)
    for name, values in (("weights", w), ("energies", e)):
        if bad := np.sum(~np.isfinite(values)):
            raise ValueError(
                f"{bad} of {values.size} entries of the {name} are not finite; look for NaN, "
                "infinite or very large entries in the data and α"
            )
    kept: list[int] = []
    labels = np.full(len(w), -1)
    for i in np.argsort(-e, kind="stable"):
        if e[i] == 0:
            continue
        cosines = w[kept] @ w[i]
        cosines = np.abs(cosines) if sign_symmetric else cosines
        near = np.flatnonzero(cosines > np.cos(angle))
        labels[i] = near[np.argmax(cosines[near])] if near.size else len(kept)
        if not near.size:
            kept.append(int(i))
    basins = np.bincount(labels[labels >= 0], minlength=len(kept)) / len(w)
    return LocalMaxima(w[kept], e[kept], basins, labels)


def find_local_maxima(
    key: Array,
    data: NodeData,
    activation: Activation,
    *,
    num_starts: int = 256,
    max_steps: int = 1000,
    tolerance: float = 1e-6,
    angle: float = 0.1,
) -> LocalMaxima:
    """All local maxima of E on the unit sphere that `num_starts` uniform starts reach.

    A maximum whose basin is a fraction π of the sphere is missed with probability (1 − π)^starts.

    Args:
      key: of the starts.
      data: views and α.
      activation: h.
      num_starts: at least 1.
      max_steps, tolerance: as `ascend`.
      angle: as `distinct_maxima`; also how far around an end that rests short of a fixed point
        is searched.

    With a kinked h an ascent can be caught on a ridge, across which the gradient jumps; what rests
    with a residual goes on from the highest of 64 points within `angle`, if it is higher, up to
    twice. On concrete arrays only, as `distinct_maxima`.

    Raises:
      ValueError: no starts, an angle out of range, or energies that are not finite.
    """
    if num_starts < 1:
        raise ArgumentError("num_starts", num_starts, "is out of range; it must be at least 1")
    key, key_starts = jax.random.split(key)
    starts = jax.random.normal(key_starts, (num_starts, data.x.shape[1]), data.x.dtype)
    ends = ascend(starts, data, activation, max_steps=max_steps, tolerance=tolerance)
    for key_round in jax.random.split(key, 2):
        resting = ends.residuals <= tolerance
        if bool(resting.all()):
            break
        higher = _highest_near(key_round, ends, data, activation, angle)
        starts = jnp.where(resting[:, None], ends.weights, higher)
        ends = ascend(starts, data, activation, max_steps=max_steps, tolerance=tolerance)
    return distinct_maxima(
        ends.weights, ends.energies, sign_symmetric=activation.sign_symmetric, angle=angle
    )


def _gate(w: Array, x: Array, activation: Activation) -> Array:
    return x * activation.derivative(x @ w)[:, None]


@partial(jax.jit, static_argnames="activation")
def _highest_near(
    key: Array, ends: Ends, data: NodeData, activation: Activation, angle: float
) -> Array:
    """For each end the highest of itself and 64 points within `angle`, `[starts, dim]`."""

    def search(key: Array, w: Array, energy: Array) -> Array:
        key_v, key_r = jax.random.split(key)
        tangent = jax.random.normal(key_v, (64, w.shape[0]), w.dtype)
        tangent = tangent - jnp.outer(tangent @ w, w)
        tangent = tangent / jnp.linalg.norm(tangent, axis=1, keepdims=True)
        turn = angle * jax.random.uniform(key_r, (64, 1), w.dtype)
        near = jnp.cos(turn) * w[None] + jnp.sin(turn) * tangent
        energies = jax.vmap(lambda v: node_energy(v, data, activation))(near)
        best = jnp.argmax(energies)
        return jnp.where(energies[best] > energy, near[best], w)

    return jax.vmap(search)(
        jax.random.split(key, ends.weights.shape[0]), ends.weights, ends.energies
    )
