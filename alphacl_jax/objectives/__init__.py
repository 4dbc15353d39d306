"""Losses outside the family: pure functions of embeddings, with labels or without negatives.

Each loss of squared distances also comes as a function of these, `..._of_distances`, whose pairwise
importance `importance_of` gives.
"""

from alphacl_jax.objectives.importance import importance_of
from alphacl_jax.objectives.pairs import clip_loss, n_pair_loss, regression_loss
from alphacl_jax.objectives.predictive import predictive_accuracy, predictive_loss
from alphacl_jax.objectives.supervised import (
    margin_loss,
    margin_of_distances,
    multi_positive_loss,
    nca_loss,
    nca_of_distances,
    supcon_loss,
    supcon_of_distances,
)
from alphacl_jax.objectives.temporal import goodness_of_fit, temporal_loss
from alphacl_jax.objectives.triplets import triplet_loss, triplet_of_distances

__all__ = [
    "clip_loss",
    "goodness_of_fit",
    "importance_of",
    "margin_loss",
    "margin_of_distances",
    "multi_positive_loss",
    "n_pair_loss",
    "nca_loss",
    "nca_of_distances",
    "predictive_accuracy",
    "predictive_loss",
    "regression_loss",
    "supcon_loss",
    "supcon_of_distances",
    "temporal_loss",
    "triplet_loss",
    "triplet_of_distances",
]
