"""Losses of embeddings whose samples have labels: SupCon, NCA, the margin loss.

Each is a function of half squared distances, `d_ij = ½‖z_i − z_j‖²`, and of the labels. A(i) are
all embeddings of the batch but anchor i itself, P(i) those of them that are of i's class, the other
views of its sample among them. Label -1 means unknown: of no other sample's class.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax.errors import ArgumentError
from alphacl_jax.explicit import left_to_compiler
from alphacl_jax.objectives.class_sums import ClassSums, Totals, loss_of_sums
from alphacl_jax.objectives.classes import dense_rows, grouped, with_positives
from alphacl_jax.parameters import typed
from alphacl_jax.ranges import POSITIVE, Scalar, in_its_range
from alphacl_jax.sharded import AxisName

SUPCON_VARIANTS = ("out", "in")
NCA_VARIANTS = ("log", "probability")


def _by_rows(options: Any) -> bool:
    return bool(options.get("reduction") == "none")


@left_to_compiler(rows=_by_rows)
def supcon_loss(
    z: Array,
    labels: Any,
    temperature: Scalar = 0.1,
    *,
    variant: str = "out",
    reduction: str = "mean",
    block_size: int | str | None = None,
    axis_name: AxisName = None,
) -> Array:
    """Supervised contrastive loss of each anchor, by default its mean over the anchors.

        L_out = −(1/|P|) Σ_{p∈P} log( e^{−d_ip/τ} / Σ_{a∈A} e^{−d_ia/τ} )
        L_in  = −log( (1/|P|) Σ_{p∈P} e^{−d_ip/τ} / Σ_{a∈A} e^{−d_ia/τ} )

    On the unit sphere, `d = 1 − cosine`, these are the losses of cosines. By Jensen's inequality
    L_in ≤ L_out. The published code multiplies by τ/τ_base, with τ_base = 0.07; that factor is left
    out here, as by τ_base = τ.

    Args:
      z: embeddings `[n, dim]`, or of several views of each sample `[n, views, dim]`, floating; used
        as given: `l2_normalize` them first for a loss of directions.
      labels: `[n]` whole numbers, equal within a class; -1 where unknown.
      temperature: τ > 0, which may be traced and learned.
      variant: "out", or "in".
      reduction: "mean" over the anchors that have a positive, "sum", or "none" for `[anchors]`: the
        views of the first sample, then of the second. An anchor without positives contributes 0,
        and where there is no other the mean is 0.
      block_size: how many rows of pairs are held at a time; None for all, "auto" to choose by size
        and backend. In blocks each pair is visited once for both of its anchors, but over several
        devices; the backward pass computes each again, and forward-mode derivatives (`jax.jvp`)
        need None.
      axis_name: the mapped axis (or axes) over which the batch is spread, or None; as in
        `contrastive_loss`, the value is that of the whole batch.

    Returns:
      A scalar, or `[anchors]`; float32 (float64 for float64 input).

    Raises:
      AssertionError: from chex, for wrong ranks, shapes and types.
      ValueError: for a temperature that is not above 0, an unknown variant, reduction or
        block_size.

    References:
      Khosla et al., "Supervised Contrastive Learning", 2020.
    """
    sums, group = _supcon(temperature, variant), grouped(z, labels, axis_name)
    return loss_of_sums(sums, group, block_size, reduction, axis_name)


def supcon_of_distances(
    d: Array, labels: Any, temperature: Scalar = 0.1, *, variant: str = "out"
) -> Array:
    """`supcon_loss` of half squared distances `[m, m]`: one value per anchor, `[m]`."""
    return dense_rows(_supcon(temperature, variant).rows, d, labels)


@left_to_compiler(rows=_by_rows)
def multi_positive_loss(
    z: Array,
    positives: Any,
    temperature: Scalar = 0.1,
    *,
    variant: str = "out",
    reduction: str = "mean",
    block_size: int | str | None = None,
    axis_name: AxisName = None,
) -> Array:
    """`supcon_loss` whose positives P(i) a mask gives: InfoNCE with any number of positives.

    Args:
      z: embeddings `[m, dim]`, floating; used as given.
      positives: bool `[m, m]`, True where the column is a positive of the row's anchor, which need
        not be so the other way round; what it says of the diagonal is not read. With `axis_name`
        `[m, candidates]`, of this device's anchors and all embeddings.
      temperature: as in `supcon_loss`.
      variant: as in `supcon_loss`.
      reduction: as in `supcon_loss`.
      block_size: how many anchors are compared with all embeddings at a time, as in `supcon_loss`:
        whole rows, since a mask need not be symmetric.
      axis_name: as in `supcon_loss`.

    Returns:
      As `supcon_loss`.

    Raises:
      As `supcon_loss`.
    """
    sums, group = _supcon(temperature, variant), with_positives(z, positives, axis_name)
    return loss_of_sums(sums, group, block_size, reduction, axis_name)


def _supcon(temperature: Scalar, variant: str) -> ClassSums:
    _check_variant(variant, SUPCON_VARIANTS)
    temperature = in_its_range("temperature", temperature, POSITIVE)

    def logits(d: Array) -> Array:
        return -d / typed(temperature, d)

    if variant == "in":
        return ClassSums(logits, _nothing, _mean_in_the_logarithm, of_class=True)
    return ClassSums(
        logits,
        values=lambda d, same: (jnp.where(same, logits(d), 0.0),),
        finish=lambda totals: totals.of_all - totals.values[0] / totals.positives,
    )


def _mean_in_the_logarithm(totals: Totals) -> Array:
    return totals.of_all - (totals.of_class - jnp.log(totals.positives))


def _nothing(d: Array, same: Array) -> tuple[Array, ...]:
    return ()


@left_to_compiler(rows=_by_rows)
def nca_loss(
    z: Array,
    labels: Any,
    *,
    variant: str = "log",
    reduction: str = "mean",
    block_size: int | str | None = None,
    axis_name: AxisName = None,
) -> Array:
    """Neighbourhood components analysis: an anchor picks neighbours of its class.

        p_ij = e^{−‖z_i − z_j‖²} / Σ_{a∈A} e^{−‖z_i − z_a‖²},
        "log":         −log Σ_{p∈P} p_ip
        "probability": −Σ_{p∈P} p_ip, the expected accuracy, negated

    with whole squared distances, `2d_ij`, of embeddings as given, whose scale is the temperature.
    The log form is SupCon's L_in at τ = ½ without its factor 1/|P|.

    Args:
      z: as in `supcon_loss`; not normalised, where its scale is to be learned.
      labels: as in `supcon_loss`.
      variant: "log", or "probability".
      reduction: as in `supcon_loss`.
      block_size: as in `supcon_loss`.
      axis_name: as in `supcon_loss`.

    Returns:
      As `supcon_loss`.

    Raises:
      As `supcon_loss`.

    References:
      Goldberger, Roweis, Hinton and Salakhutdinov, "Neighbourhood Components Analysis", 2004.
    """
    sums, group = _nca(variant), grouped(z, labels, axis_name)
    return loss_of_sums(sums, group, block_size, reduction, axis_name)


def nca_of_distances(d: Array, labels: Any, *, variant: str = "log") -> Array:
    """`nca_loss` of half squared distances `[m, m]`: one value per anchor, `[m]`."""
    return dense_rows(_nca(variant).rows, d, labels)


def _nca(variant: str) -> ClassSums:
    _check_variant(variant, NCA_VARIANTS)

    def finish(totals: Totals) -> Array:
        log_probability = totals.of_class - totals.of_all
        return -log_probability if variant == "log" else -jnp.exp(log_probability)

    return ClassSums(lambda d: -2 * d, _nothing, finish, of_class=True)


@left_to_compiler(rows=_by_rows)
def margin_loss(
    z: Array,
    labels: Any,
    margin: Scalar,
    *,
    reduction: str = "mean",
    block_size: int | str | None = None,
    axis_name: AxisName = None,
) -> Array:
    """Pulls embeddings of a class together, pushes others apart up to a margin.

        L_i = (1/|A|) ( Σ_{p∈P} d_ip + Σ_{a∈A∖P} [margin − d_ia]₊ )

    whose mean over anchors is the mean over ordered pairs. These are half squared distances, so a
    margin of the literature's ‖·‖² is twice one here; the form of ‖·‖ itself, with its square
    outside the bracket, is another loss. Without the bracket the loss has no lower bound.

    Args:
      z: as in `supcon_loss`.
      labels: as in `supcon_loss`; a sample of unknown label is pushed from all the others.
      margin: > 0, of d; on the unit sphere at most 2, the largest that there is.
      reduction: "mean" over all anchors, "sum", or "none" for `[anchors]`.
      block_size: as in `supcon_loss`.
      axis_name: as in `supcon_loss`.

    Returns:
      As `supcon_loss`.

    Raises:
      As `supcon_loss`; ValueError for a margin that is not above 0.

    References:
      Hadsell, Chopra and LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", 2006.
    """
    sums, group = _margin(margin), grouped(z, labels, axis_name)
    return loss_of_sums(sums, group, block_size, reduction, axis_name)


def margin_of_distances(d: Array, labels: Any, margin: Scalar) -> Array:
    """`margin_loss` of half squared distances `[m, m]`: one value per anchor, `[m]`."""
    return dense_rows(_margin(margin).rows, d, labels)


def _margin(margin: Scalar) -> ClassSums:
    margin = in_its_range("margin", margin, POSITIVE)

    def values(d: Array, same: Array) -> tuple[Array, ...]:
        return (jnp.where(same, d, jnp.maximum(typed(margin, d) - d, 0.0)),)

    def finish(totals: Totals) -> Array:
        # Times 1, or NaN for a margin out of its range, whose hinge has no slope to tell of it.
        least = typed(margin, totals.others)
        return totals.values[0] / totals.others * jax.lax.stop_gradient(least / least)

    return ClassSums(None, values, finish, needs_positive=False)


def _check_variant(variant: str, known: tuple[str, ...]) -> None:
    if variant not in known:
        raise ArgumentError("variant", repr(variant), f"must be one of {', '.join(known)}")
