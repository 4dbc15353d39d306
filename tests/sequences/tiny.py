"""One small problem for all tests of estimators over time, so that they share what is compiled."""

import numpy as np

from alphacl_jax.sequences import CEBRA

TIME, CHANNELS = 150, 6
_RNG = np.random.default_rng(0)
_ANGLE = np.cumsum(_RNG.normal(0, 0.3, TIME))
CONTEXT = np.column_stack([np.cos(_ANGLE), np.sin(_ANGLE)])
LABELS = (CONTEXT[:, 0] > 0).astype(int)
X = CONTEXT @ _RNG.normal(size=(2, CHANNELS)) + 0.1 * _RNG.normal(size=(TIME, CHANNELS))
# Another session of the same behaviour, of more channels.
OTHER = CONTEXT @ _RNG.normal(size=(2, 9)) + 0.1 * _RNG.normal(size=(TIME, 9))
# Trials of 50, 30 and 70 moments.
GROUPS = np.repeat([3, 1, 3], [50, 30, 70])

SMALL = {
    "batch_size": 16,
    "hidden_units": 4,
    "max_iterations": 12,
    "output_dimension": 3,
    "receptive_field": 5,
    "time_offset": 2,
}


def tiny(**parameters: object) -> CEBRA:
    """An estimator that is trained in no time."""
    return CEBRA(**{**SMALL, **parameters})
