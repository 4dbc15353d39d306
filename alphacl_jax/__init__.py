"""Contrastive learning by coordinate-wise optimisation: pure, jit-compiled loss kernels."""

from alphacl_jax import families, rules
from alphacl_jax.covariance import contrastive_covariance, energy
from alphacl_jax.distances import l2_normalize, squared_distances
from alphacl_jax.families import Family
from alphacl_jax.losses import alpha_cl_loss, contrastive_loss, pairwise_importance
from alphacl_jax.measures import statistics
from alphacl_jax.rules import Rule

__all__ = [
    "Family",
    "Rule",
    "alpha_cl_loss",
    "contrastive_covariance",
    "contrastive_loss",
    "energy",
    "families",
    "l2_normalize",
    "pairwise_importance",
    "rules",
    "squared_distances",
    "statistics",
]
