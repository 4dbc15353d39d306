"""Contrastive learning by coordinate-wise optimisation: pure, jit-compiled loss kernels.

What stands here is loaded where it is first asked for, so that a command line answers, and can be
interrupted, before JAX is there.
"""

from typing import TYPE_CHECKING

from alphacl_jax.lazy import attributes_of

if TYPE_CHECKING:
    from alphacl_jax import families, objectives, rules
    from alphacl_jax.covariance import contrastive_covariance, energy
    from alphacl_jax.distances import l2_normalize, squared_distances
    from alphacl_jax.families import Family
    from alphacl_jax.losses import alpha_cl_loss, contrastive_loss, pairwise_importance
    from alphacl_jax.measures import statistics
    from alphacl_jax.ranges import learned_temperature
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
    "learned_temperature",
    "objectives",
    "pairwise_importance",
    "rules",
    "squared_distances",
    "statistics",
]

_HOMES = {
    "Family": "families",
    "Rule": "rules",
    "alpha_cl_loss": "losses",
    "contrastive_covariance": "covariance",
    "contrastive_loss": "losses",
    "energy": "covariance",
    "l2_normalize": "distances",
    "learned_temperature": "ranges",
    "pairwise_importance": "losses",
    "squared_distances": "distances",
    "statistics": "measures",
}

# Modules that can be had as attributes of the package, as if it had imported them.
_KERNELS = {
    "families",
    "rules",
    "objectives",
    "errors",
    "layouts",
    "blocks",
    "sharded",
    *_HOMES.values(),
}

if not TYPE_CHECKING:  # or every name would pass a type check
    __getattr__ = attributes_of(__name__, _HOMES, _KERNELS)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
