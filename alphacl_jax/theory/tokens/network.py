"""A two-layer network with filters of their own at each location, on sequences of tokens.

Location k holds a token with embedding u and has filters w_km; over the batch, m and k,

    h_km = act(w_kmᵀ u_k),   f = Σ_km BN(h_km) v_km,   z = f/‖f‖

A location's input takes only as many values as there are tokens. So the first layer, the batch
statistics (weighted by how often a token occurs) and the second layer are computed once for each
location and token, `[locations, tokens, ...]`, and a sample only adds up the rows of its tokens.
This is exact, and its cost hardly depends on the batch.

Source: Tian, "Understanding the Role of Nonlinearity in Training Dynamics of Contrastive
Learning", 2023, the slides "Model Architecture & Evaluation Metric".
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax.distances import l2_normalize, paired_squared_distances
from alphacl_jax.errors import ArgumentError
from alphacl_jax.families import info_nce, linear
from alphacl_jax.losses import contrastive_loss
from alphacl_jax.theory.normalization import batch_norm
from alphacl_jax.theory.weights import uniform_within


class Params(NamedTuple):
    """The weights.

    Attributes:
      filters: `[locations, filters, dim]`, w_km.
      top: `[locations, filters, outputs]`, v_km.
    """

    filters: Array
    top: Array


class Variant(NamedTuple):
    """What tells networks of one size apart; arrays, so that unlike ones share a program.

    Attributes:
      linear: bool, whether the activation is the identity; ReLU otherwise.
      batch_norm: bool, whether the hidden layer is normalised.
      variance_gradient: bool, whether the gradient flows through BatchNorm's variance; its mean
        always carries gradient.
    """

    linear: Array
    batch_norm: Array
    variance_gradient: Array


def init_params(key: Array, locations: int, filters: int, dim: int, outputs: int) -> Params:
    """Weights uniform in ±1/√fan_in, with fan_in = dim, and locations·filters for the top layer.

    Raises:
      ValueError: for a size below 1.
    """
    sizes = {"locations": locations, "filters": filters, "dim": dim, "outputs": outputs}
    for name, value in sizes.items():
        if value < 1:
            raise ArgumentError(name, value, "leaves no network; it must be at least 1")
    key_filters, key_top = jax.random.split(key)
    nodes = locations * filters
    return Params(
        uniform_within(key_filters, (locations, filters, dim), dim**-0.5),
        uniform_within(key_top, (locations, filters, outputs), nodes**-0.5),
    )


def embed_views(params: Params, embeddings: Array, views: Array, variant: Variant) -> Array:
    """The network's outputs on the unit sphere; BatchNorm takes the statistics of each view.

    Args:
      params: the weights.
      embeddings: `[tokens, dim]`, u_a.
      views: `[views, batch, locations]` integers in [0, tokens).
      variant: the kind of network.

    Returns:
      z, `[views, batch, outputs]`.

    Raises:
      AssertionError: from chex, where ranks and sizes do not fit.
    """
    chex.assert_rank([params.filters, params.top, embeddings, views], [3, 3, 2, 3])
    chex.assert_equal_shape_prefix([params.filters, params.top], 2)
    chex.assert_axis_dimension(embeddings, 1, params.filters.shape[2])
    chex.assert_axis_dimension(views, 2, params.filters.shape[0])
    tokens = embeddings.shape[0]
    inputs = jnp.einsum("td,kmd->ktm", embeddings, params.filters)
    hidden = jnp.where(variant.linear | (inputs > 0), inputs, 0.0)

    def one_view(ids: Array) -> Array:
        held = jax.nn.one_hot(ids, tokens, dtype=hidden.dtype)  # [batch, locations, tokens]
        normalised = batch_norm(
            hidden,
            jnp.mean(held, axis=0)[:, :, None],
            axis=1,
            variance_gradient=variant.variance_gradient,
        )
        rows = jnp.where(variant.batch_norm, normalised, hidden)
        outputs = jnp.einsum("ktm,kmo->kto", rows, params.top)
        # A product with one-hot rows: its gradient is a product too, where a gather's would be a
        # scatter, which is slower on CPUs.
        return jnp.tensordot(held, outputs, 2)

    return l2_normalize(jax.vmap(one_view)(views))


def info_nce_loss(z: Array, z_pos: Array, temperature: float) -> Array:
    """InfoNCE with the positive in the denominator and negatives of the same view.

        mean over i of −log(e^{s_ii'/τ}/(e^{s_ii'/τ} + Σ_{j≠i} e^{s_ij/τ}))

    with cosines s_ii' to the positive and s_ij within the first view: τ⁻¹ times the family's
    InfoNCE at ε = 1.

    Args:
      z: first views on the unit sphere, `[batch, dim]`, batch ≥ 2.
      z_pos: second views, `[batch, dim]`.
      temperature: τ > 0.
    """
    loss = contrastive_loss(z, z_pos, info_nce(temperature, 1.0), negatives="same_view")
    return loss / temperature


def quadratic_loss(z: Array, z_pos: Array, temperature: float) -> Array:
    """The quadratic loss with negatives of the same view.

        −(1 + 1/B)·mean of s_ii'/τ + mean of the B×B matrix of s_ij/τ with s_ii' on its diagonal

    which is (the family's linear loss + mean d_i² − 1)/(Bτ), as 1 − s = d² on the unit sphere.

    Args and shapes as in `info_nce_loss`.
    """
    loss = contrastive_loss(z, z_pos, linear(), negatives="same_view")
    intra_view = jnp.mean(paired_squared_distances(z, z_pos))
    return (loss + intra_view - 1.0) / (z.shape[0] * temperature)


def token_cosines(filters: Array, embeddings: Array) -> Array:
    """Cosines w_kmᵀu_a/(‖w_km‖‖u_a‖), 0 for a filter that is 0.

    Args:
      filters: `[..., filters, dim]`.
      embeddings: `[tokens, dim]`.

    Returns:
      `[..., filters, tokens]`.
    """
    return l2_normalize(filters) @ l2_normalize(embeddings).T


def feature_quality(cosines: Array, relevant: Array, linear: Array) -> Array:
    """χ̄₊: how well each token of the patterns is met by its location's best filter, in [−1, 1].

    The mean over locations of `χ₊ = mean over a of max_m cos(w_km, u_a)`, a being the tokens that
    occur in a pattern at this location; |cos| for a linear network, where a filter's sign is of
    no meaning. Locations without such tokens do not count; NaN where no location has one.

    Args:
      cosines: `[locations, filters, tokens]`.
      relevant: `[locations, tokens]` bool.
      linear: bool.
    """
    best = jnp.max(jnp.where(linear, jnp.abs(cosines), cosines), axis=1)
    counts = jnp.sum(relevant, axis=1)
    sums = jnp.sum(jnp.where(relevant, best, 0.0), axis=1)
    by_location = sums / jnp.maximum(counts, 1)
    return jnp.sum(by_location) / jnp.sum(counts > 0)
