"""Linear networks f(x) = W_L … W_1 x under fixed α: the energy is PCA's objective.

`E_α = tr C_α[f, f] = tr(W X_α Wᵀ)` with `W = W_L … W_1` and `X_α = C_α[x]`. Corollary 2 is about
one layer with orthonormal rows, Theorem 3 about deep ones with `‖W_l‖_F = 1`, Corollary 3 about
filters (rows) of one length each. Source of all: Tian, "Understanding Deep Contrastive Learning
via Coordinate-wise Optimization", 2022.
"""

import itertools
from collections.abc import Sequence
from functools import partial

import chex
import jax
import jax.numpy as jnp
from jax import Array

import alphacl_jax as acl
from alphacl_jax.errors import ArgumentError
from alphacl_jax.theory.linear_networks.decomposition import svd_in_turn
from alphacl_jax.theory.training import trajectory
from alphacl_jax.theory.weights import standard_normals

Layers = tuple[Array, ...]


def gaussian_views(
    key: Array, variances: Array, noise_variances: Array, samples: int
) -> tuple[Array, Array]:
    """Two views of Gaussian samples, each with Gaussian noise of its own.

        x = x₀ + ε, x' = x₀ + ε',  x₀ ~ N(0, diag(variances)), ε, ε' ~ N(0, diag(noise_variances))

    Args:
      key: random key.
      variances: of the samples, `[dim]`, ≥ 0.
      noise_variances: of the augmentation, `[dim]`, ≥ 0.
      samples: how many.

    Returns:
      x and x', each `[samples, dim]`.

    Raises:
      AssertionError: from chex, for shapes that differ.
      ValueError: for fewer than 2 samples.
    """
    chex.assert_rank(variances, 1)
    chex.assert_equal_shape([variances, noise_variances])
    if samples < 2:
        raise ArgumentError("samples", samples, "leaves no negative; it must be at least 2")
    shape = (samples, variances.shape[0])
    parts = jax.random.normal(key, (3, *shape), variances.dtype)
    sample = parts[0] * jnp.sqrt(variances)[None]
    noise = parts[1:] * jnp.sqrt(noise_variances)[None, None]
    return sample + noise[0], sample + noise[1]


def input_covariance(x: Array, x_pos: Array, rule: acl.Rule | acl.Family) -> Array:
    """`X_α = C_α[x]` with α the rule's (or loss's) answer to the inputs, averaged over anchors.

    Same-view negatives. Dividing α by the number of anchors keeps the eigenvalues' size the same
    for every batch; for uniform α and many samples X_α tends to twice the covariance of E[x|x₀].

    Args:
      x: first views `[n, dim]`.
      x_pos: second views `[n, dim]`.
      rule: how α follows from the distances of the inputs.

    Returns:
      `[dim, dim]`, symmetric.

    Raises:
      As `alphacl_jax.pairwise_importance`.
    """
    alpha = acl.pairwise_importance(x, x_pos, rule, negatives="same_view") / x.shape[0]
    covariance = acl.contrastive_covariance(x, x_pos, alpha)
    # Symmetric but for rounding; a decomposition of a symmetric matrix reads one half of it only.
    return 0.5 * (covariance + covariance.T)


def gaussian_layers(key: Array, widths: Sequence[int]) -> Layers:
    """Random layers with independent normal entries of variance 1/fan-in.

    Args:
      key: random key.
      widths: input dimension first, output dimension last.

    Returns:
      W_1 … W_L, W_l of shape `[widths[l], widths[l−1]]`.

    Raises:
      ValueError: for fewer than two widths, or one below 1.
    """
    if len(widths) < 2 or min(widths) < 1:
        raise ArgumentError("widths", tuple(widths), "must name input and output, each at least 1")
    shapes = [(n, m) for m, n in itertools.pairwise(widths)]
    return tuple(w / jnp.sqrt(1.0 * w.shape[1]) for w in standard_normals(key, shapes))


def end_to_end(layers: Layers) -> Array:
    """The product W_L … W_1, `[outputs, inputs]`."""
    product = layers[0]
    for layer in layers[1:]:
        product = layer @ product
    return product


def linear_energy(layers: Layers, x_alpha: Array) -> Array:
    """`E_α = tr(W X_α Wᵀ)`, `W = W_L … W_1`, a scalar.

    Args:
      layers: W_1 … W_L, each `[n_l, n_{l−1}]`.
      x_alpha: `[n_0, n_0]`, symmetric.

    Raises:
      AssertionError: from chex, where shapes do not fit.
    """
    chex.assert_shape(x_alpha, (layers[0].shape[1], layers[0].shape[1]))
    w = end_to_end(layers)
    return jnp.sum((w @ x_alpha) * w)


def orthonormalize(w: Array) -> Array:
    """A matrix of orthonormal rows that span those of w, `[k, dim]`, k ≤ dim (by QR)."""
    if w.shape[0] > w.shape[1]:
        raise ValueError(f"{w.shape[0]} rows cannot be orthonormal in {w.shape[1]} dimensions")
    return jnp.linalg.qr(w.T)[0].T


def normalize_layer(w: Array) -> Array:
    """`W/‖W‖_F`: the constraint of Theorem 3."""
    return w / jnp.linalg.norm(w)


def normalize_filters(w: Array) -> Array:
    """Each row scaled to `‖w_k‖ = 1/√n`, n rows: the constraint of Corollary 3.

    A row of zeros becomes NaN.
    """
    return w / (jnp.linalg.norm(w, axis=1, keepdims=True) * jnp.sqrt(1.0 * w.shape[0]))


@partial(jax.jit, static_argnames="steps")
def ascend_orthonormal(
    w: Array, x_alpha: Array, step_size: float | Array, steps: int
) -> tuple[Array, Array]:
    """Gradient ascent on `tr(W X_α Wᵀ)` over `WWᵀ = I` (Corollary 2).

    Each step adds `η (WX − WXWᵀW)`, half the gradient along the constraint's surface, and
    orthonormalises the rows. Since the step is orthogonal to the rows, the sum has full rank for
    every step size, whatever the signs of X_α's eigenvalues.

    Args:
      w: the start, `[k, dim]` with k ≤ dim; orthonormalised first.
      x_alpha: `[dim, dim]`, symmetric.
      step_size: η, in units of 1/eigenvalue; 1/(λ_max − λ_min) is safe.
      steps: how many.

    Returns:
      The last W, and the energy before each step and after the last, `[steps + 1]`.
    """
    chex.assert_shape(x_alpha, (w.shape[1], w.shape[1]))

    def move(w: Array) -> tuple[Array, Array]:
        half_gradient = w @ x_alpha
        tangent = half_gradient - (half_gradient @ w.T) @ w
        return orthonormalize(w + step_size * tangent), linear_energy((w,), x_alpha)

    return trajectory(move, orthonormalize(w), steps)


@partial(jax.jit, static_argnames="steps")
def ascend_deep(
    layers: Layers,
    x_alpha: Array,
    step_size: float | Array,
    steps: int,
    *,
    per_filter: bool | Array = False,
    scale_free: bool | Array = True,
) -> tuple[Layers, Array]:
    """Projected gradient ascent on `E_α` over `‖W_l‖_F = 1` (Theorem 3, Corollary 3).

    `W_l ← Π(W_l + η G_l)`, all layers at once, G_l the gradient by W_l. With small products of
    the layers gradients are tiny (about ‖W‖², W the product), and the escape from there takes
    ever longer with depth; `scale_free` therefore takes `G_l/‖G_l‖_F`, the same direction with
    a step of the layer's own size.

    Args:
      layers: the start; projected first.
      x_alpha: `[dim, dim]`, symmetric.
      step_size: η; in units of 1/eigenvalue where `scale_free` is off.
      steps: how many.
      per_filter: whether rows of W_1 … W_{L−1} have the length 1/√n_l each (Corollary 3); W_L
        has Frobenius norm 1 in either case.
      scale_free: whether each layer's gradient is divided by its norm.

    Returns:
      The last layers, and the energy before each step and after the last, `[steps + 1]`.
    """

    # Both choices are traced, so that one program serves them all.
    def inner(w: Array) -> Array:
        return jnp.where(per_filter, normalize_filters(w), normalize_layer(w))

    def project(layers: Layers) -> Layers:
        return (*(inner(w) for w in layers[:-1]), normalize_layer(layers[-1]))

    def move(layers: Layers) -> tuple[Layers, Array]:
        value, gradients = jax.value_and_grad(linear_energy)(layers, x_alpha)
        # A layer that has no gradient stays: its start is a critical point.
        tiny = jnp.finfo(value.dtype).tiny
        norms = [jnp.maximum(jnp.linalg.norm(g), tiny) for g in gradients]
        gradients = [jnp.where(scale_free, g / n, g) for g, n in zip(gradients, norms, strict=True)]
        moved = tuple(w + step_size * g for w, g in zip(layers, gradients, strict=True))
        return project(moved), value

    return trajectory(move, project(layers), steps)


def top_eigenvectors(x_alpha: Array, k: int) -> tuple[Array, Array]:
    """The k largest eigenvalues, `[k]`, largest first, and their eigenvectors as rows `[k, dim]`.

    Raises:
      ValueError: for a k that is not in 1 … dim.
    """
    if not 1 <= k <= x_alpha.shape[0]:
        raise ArgumentError("k", k, f"must be between 1 and the dimension, {x_alpha.shape[0]}")
    values, vectors = jnp.linalg.eigh(x_alpha)
    return values[::-1][:k], vectors.T[::-1][:k]


def largest_angle(w: Array, basis: Array) -> Array:
    """The largest principal angle in radians between the spans of two sets of orthonormal rows.

    By its sine, `‖W(I − BᵀB)‖₂`, which keeps small angles exact where the cosine rounds to 1.

    Args:
      w: `[k, dim]`.
      basis: `[k, dim]`.
    """
    chex.assert_equal_shape([w, basis])
    outside = w - (w @ basis.T) @ basis
    return jnp.arcsin(jnp.clip(jnp.linalg.norm(outside, ord=2), 0.0, 1.0))


def rank_one_residuals(layers: Layers) -> Array:
    """`√(Σ_{k>1} σ_k²)/‖W_l‖_F` of each layer, `[L]`: 0 at rank one, NaN where W_l = 0."""
    spectra = [svd.sigma for svd in svd_in_turn(layers)]
    return jnp.stack([jnp.linalg.norm(s[1:]) / jnp.linalg.norm(s) for s in spectra])


def top_alignments(layers: Layers, v0: Array) -> Array:
    """How well the layers' top singular vectors agree, `[L]`; 1 is alignment.

    With (u_l, v_l) the top left and right singular vectors of W_l: `|v_1ᵀ v0|` first, then
    `|v_{l+1}ᵀ u_l|` for l = 1 … L−1.

    Args:
      layers: W_1 … W_L.
      v0: unit vector `[n_0]`, what the first layer should read.
    """
    u, _, vt = zip(*svd_in_turn(layers), strict=True)
    left = [v0, *(a[:, 0] for a in u[:-1])]
    return jnp.stack([jnp.abs(b[0] @ a) for a, b in zip(left, vt, strict=True)])


def sign_deviations(layers: Layers) -> Array:
    """`max_k |√n_l |[v_l]_k| − 1|` of the inner layers, `[L−1]`, v_l the top left singular vector.

    0 where v_l has the entries ±1/√n_l of Corollary 3.
    """
    if len(layers) < 2:
        raise ValueError("one layer has no inner layers; sign_deviations needs two or more")

    tops = [svd.u[:, 0] for svd in svd_in_turn(layers[:-1])]
    return jnp.stack([jnp.max(jnp.abs(jnp.abs(u) * len(u) ** 0.5 - 1.0)) for u in tops])
