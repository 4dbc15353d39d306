"""Sound at another number of samples per second."""

import math

import numpy as np

from alphacl_jax.errors import ArgumentError


def check_rate(rate: int | None) -> None:
    """Refuses what is no number of samples per second.

    Raises:
      ArgumentError: naming it.
    """
    if rate is not None and (isinstance(rate, bool) or rate != int(rate) or rate < 1):
        raise ArgumentError("rate", rate, "must be a whole number of samples per second above 0")


def resampled(samples: np.ndarray, given: int, wanted: int | None) -> np.ndarray:
    """Samples `[time]` at `wanted` per second, by a polyphase filter that keeps what they can hold.

    Args:
      given: samples per second that there are.
      wanted: None for as many.
    """
    if wanted is None or given == wanted:
        return samples
    from scipy.signal import resample_poly  # here, since it takes half a second

    shared = math.gcd(given, int(wanted))
    found: np.ndarray = resample_poly(samples, int(wanted) // shared, given // shared)
    return found.astype(np.float32)
