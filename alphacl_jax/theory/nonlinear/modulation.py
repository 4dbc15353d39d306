"""Global modulation: how a hidden binary z steers the filters of a two-layer network.

One filter w_k for each receptive field R_k, f_k = h(w_kᵀx_k), h of degree 1; binary z, given which
the fields are independent. For uniform α with Σα = ½, many samples and no augmentation
C_α[f] = V[f], and

    V[f] = diag(d) + p₀p₁ b bᵀ,   d_k = w_kᵀL_kw_k,   b_k = w_kᵀΔ_k,
    L_k = E_z V[x̃_k | z],   Δ_k = E[x̃_k | z=1] − E[x̃_k | z=0],   x̃_k = x_k h'(w_kᵀx_k).

A fast top layer is the top eigenvector s of V[f], of eigenvalue λ; the energy is E = λ, and

    dw_k/dt = (s_k² L_k + Δ_kΔ_kᵀ/(Z²(λ − d_k))) w_k,
    Z = ‖b/(λ − d)‖,   s_k = b_k/(Z(λ − d_k)),

equals **½ ∂λ/∂w_k exactly**: p₀p₁ enters only through λ, since p₀p₁ (bᵀs) = 1/Z.

References:
  Tian 2022, "Understanding Deep Contrastive Learning via Coordinate-wise Optimization" (slides
  "2-layer nonlinear networks", "Global modulation").
"""

import math
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax.errors import ArgumentError
from alphacl_jax.losses import alpha_cl_loss
from alphacl_jax.rules import uniform
from alphacl_jax.theory.flows import solve_in_steps
from alphacl_jax.theory.nonlinear.activations import Activation
from alphacl_jax.theory.training import trajectory


class Fields(NamedTuple):
    """Receptive fields, independent given z: P[x|z] = Π_k P[x_k|z], each over finitely many values.

    Attributes:
      values: `[fields, values, dim]`, what each field can show.
      probabilities: `[2, fields, values]`, P[x_k = value | z]; each row has sum 1.
      prior: p₁ = P[z = 1], a scalar in (0, 1).
    """

    values: Array
    probabilities: Array
    prior: Array


class Moments(NamedTuple):
    """Of gated data: L_k `[fields, dim, dim]` and Δ_k `[fields, dim]`."""

    within: Array
    between: Array


class TopLayer(NamedTuple):
    """The fast top layer: λ, a scalar, and s, d, b `[fields]` and Z, a scalar, as above."""

    eigenvalue: Array
    s: Array
    d: Array
    b: Array
    z: Array


def tilted_fields(
    key: Array,
    *,
    num_fields: int,
    num_values: int,
    dim: int,
    prior: float = 0.5,
    tilt: float = 2.0,
) -> Fields:
    """Fields whose random values lean along a direction of their own, one way or the other by z.

        P[x_k = v | z] ∝ exp(±(tilt/2) u_kᵀv),  + for z = 1,  u_k uniform on the unit sphere,

    over values v ~ N(0, I), so that Δ_k lies near u_k where gates are open.

    Args:
      key: of the draws.
      num_fields: at least 2.
      num_values: of each field, at least 2.
      dim: of a value, at least 2.
      prior: P[z = 1], in (0, 1).
      tilt: above 0; at 0 nothing would depend on z, and the theory has nothing to say.

    Raises:
      ValueError: out of range.
    """
    sizes = {"num_fields": num_fields, "num_values": num_values, "dim": dim}
    for name, size in sizes.items():
        if size < 2:
            raise ArgumentError(name, size, "is out of range; it must be at least 2")
    if not 0 < prior < 1:
        raise ArgumentError("prior", prior, "is out of range; it must be in (0, 1)")
    if not 0 < tilt < math.inf:
        raise ArgumentError("tilt", tilt, "is out of range; it must be above 0 and finite")
    key_values, key_directions = jax.random.split(key)
    values = jax.random.normal(key_values, (num_fields, num_values, dim))
    u = jax.random.normal(key_directions, (num_fields, dim))
    u = u / jnp.linalg.norm(u, axis=1, keepdims=True)
    lean = tilt / 2 * jnp.einsum("kvd,kd->kv", values, u)
    probabilities = jax.nn.softmax(jnp.stack([-lean, lean]))
    return Fields(values, probabilities, jnp.asarray(prior, values.dtype))


@partial(jax.jit, static_argnames="num_samples")
def sample_fields(key: Array, fields: Fields, num_samples: int) -> Array:
    """Draws z, and every field given z: `[samples, fields, dim]`."""
    key_z, key_x = jax.random.split(key)
    z = jax.random.bernoulli(key_z, fields.prior, (num_samples,)).astype(jnp.int32)
    logits = jnp.log(fields.probabilities)[z]  # [samples, fields, values]
    shown = jax.random.categorical(key_x, logits)
    return fields.values[jnp.arange(fields.values.shape[0])[None], shown]


@partial(jax.jit, static_argnames="activation")
def gated_moments(w: Array, fields: Fields, activation: Activation) -> Moments:
    """L_k and Δ_k of the gated data, exact for the distribution.

    Args:
      w: filters `[fields, dim]`.
      fields: the distribution.
      activation: h.
    """
    _check_filters(w, fields, activation)
    gate = activation.derivative(jnp.einsum("kvd,kd->kv", fields.values, w))
    gated = fields.values * gate[:, :, None]
    means = jnp.einsum("zkv,kvd->zkd", fields.probabilities, gated)
    second = jnp.einsum("zkv,kvd,kve->zkde", fields.probabilities, gated, gated)
    variances = second - means[..., :, None] * means[..., None, :]
    within = (1 - fields.prior) * variances[0] + fields.prior * variances[1]
    return Moments(within, means[1] - means[0])


@partial(jax.jit, static_argnames="activation")
def top_layer(w: Array, fields: Fields, activation: Activation) -> TopLayer:
    """The rank-one top layer at its optimum, from L_k and Δ_k.

    Args:
      w: filters `[fields, dim]`; at least one b_k must not be 0.
      fields: the distribution.
      activation: h, of degree 1.
    """
    moments = gated_moments(w, fields, activation)
    d = jnp.einsum("kd,kde,ke->k", w, moments.within, w)
    b = jnp.einsum("kd,kd->k", w, moments.between)
    shared = fields.prior * (1 - fields.prior)
    eigenvalue = jnp.linalg.eigvalsh(jnp.diag(d) + shared * jnp.outer(b, b))[-1]
    ratio = b / (eigenvalue - d)
    z = jnp.linalg.norm(ratio)
    return TopLayer(eigenvalue, ratio / z, d, b, z)


@partial(jax.jit, static_argnames="activation")
def modulated_field(w: Array, fields: Fields, activation: Activation) -> Array:
    """`dw_k/dt = (s_k² L_k + Δ_kΔ_kᵀ/(Z²(λ − d_k))) w_k`, `[fields, dim]`; this is ½∂λ/∂w_k.

    Args:
      w: filters `[fields, dim]`.
      fields: the distribution.
      activation: h, of degree 1.
    """
    moments, top = gated_moments(w, fields, activation), top_layer(w, fields, activation)
    local = top.s[:, None] ** 2 * jnp.einsum("kde,ke->kd", moments.within, w)
    strength = top.b / (top.z**2 * (top.eigenvalue - top.d))
    return local + strength[:, None] * moments.between


@partial(jax.jit, static_argnames="activation")
def population_energy(w: Array, fields: Fields, activation: Activation) -> Array:
    """λ, the top eigenvalue of V[f], from the activations h alone (the oracle of the field above).

    Args:
      w: filters `[fields, dim]`.
      fields: the distribution.
      activation: h.
    """
    f = activation.apply(jnp.einsum("kvd,kd->kv", fields.values, w))
    mean = jnp.einsum("zkv,kv->zk", fields.probabilities, f)
    variance = jnp.einsum("zkv,kv->zk", fields.probabilities, f**2) - mean**2
    weights = jnp.stack([1 - fields.prior, fields.prior])
    shift = mean[1] - mean[0]
    shared = fields.prior * (1 - fields.prior)
    return jnp.linalg.eigvalsh(jnp.diag(weights @ variance) + shared * jnp.outer(shift, shift))[-1]


@partial(jax.jit, static_argnames="activation")
def network_gradient(w: Array, x: Array, activation: Activation) -> Array:
    """What a trained network does: −½ the gradient of its α-CL loss, by autodiff, `[*w.shape]`.

    The network is y = sᵀh(Wx) with s the top eigenvector of the samples' V[f], not differentiated;
    its loss is the library's with uniform α and both views equal, whose value is −λ.

    Args:
      w: filters `[fields, dim]`, or `[fields, filters, dim]` with several to a field.
      x: samples `[samples, fields, dim]`.
      activation: h.
    """
    chex.assert_rank(x, 3)
    chex.assert_rank(w, {2, 3})
    filters = w if w.ndim == 3 else w[:, None]

    def outputs(filters: Array) -> Array:
        f = activation.apply(jnp.einsum("nkd,kmd->nkm", x, filters))
        return f.reshape(x.shape[0], -1)

    f = outputs(filters)
    # Centred by hand: jnp.cov does not take the rank promotion that the tests forbid.
    centred = f - jnp.mean(f, axis=0, keepdims=True)
    s = jnp.linalg.eigh(centred.T @ centred / (x.shape[0] - 1))[1][:, -1]

    def loss(filters: Array) -> Array:
        y = (outputs(filters) @ s)[:, None]
        return alpha_cl_loss(y, y, uniform(), negatives="same_view", block_size="auto")

    return -0.5 * jax.grad(loss)(filters).reshape(w.shape)


def across(w: Array, field: Array) -> Array:
    """The part of a field across each filter, so that norms stay 1: `field − (wᵀfield) w`."""
    return field - jnp.sum(w * field, axis=-1, keepdims=True) * w


@partial(jax.jit, static_argnames="activation")
def integrate(
    w: Array, times: Array, fields: Fields, activation: Activation, *, step: float = 0.02
) -> Array:
    """The flow on unit spheres, dw_k/dt = P_k (the modulated field), `[times, fields, dim]`.

    Args:
      w: starts `[fields, dim]`, of norm 1.
      times: `[times]`, increasing; the start is at the first.
      fields: the distribution.
      activation: h, of degree 1.
      step: in time, of the fifth-order method.
    """
    _check_filters(w, fields, activation)

    def field(w: Array) -> Array:
        return across(w, modulated_field(w, fields, activation))

    # The field of ReLU jumps where a value crosses its gate, and may slide along the jump: steps
    # chosen by error estimates would shrink there without end.
    path: Array = solve_in_steps("modulated filters", field, w, times, step=step)
    return path


@partial(jax.jit, static_argnames=("activation", "num_steps"))
def train_network(
    w: Array, x: Array, activation: Activation, *, step: float, num_steps: int
) -> Array:
    """Gradient ascent of the network itself, filters kept at norm 1: `[num_steps + 1, *w.shape]`.

    Args:
      w: starts, as `network_gradient`.
      x: samples `[samples, fields, dim]`.
      activation: h.
      step: of the field's time for each step.
      num_steps: how many.
    """

    def move(w: Array) -> tuple[Array, Array]:
        moved = w + step * across(w, network_gradient(w, x, activation))
        return moved / jnp.linalg.norm(moved, axis=-1, keepdims=True), w

    return trajectory(move, w, num_steps)[1]


def _check_filters(w: Array, fields: Fields, activation: Activation) -> None:
    chex.assert_rank([w, fields.values, fields.probabilities], [2, 3, 3])
    chex.assert_shape(w, (fields.values.shape[0], fields.values.shape[2]))
    if activation.degree != 1:
        raise ValueError(
            f"an activation of degree {activation.degree} is no part of this analysis; it holds "
            "for degree 1: linear, ReLU and leaky ReLU"
        )
