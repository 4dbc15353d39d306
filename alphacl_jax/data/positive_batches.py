"""Batches of windows around references, their positives, and negatives."""

from collections.abc import Mapping
from typing import Any

from jax import Array
from jax.sharding import Mesh

from alphacl_jax.data.batches import Batch
from alphacl_jax.data.drawn_batches import DrawnBatches
from alphacl_jax.data.positives import Positives, draw_moments, drawn_from
from alphacl_jax.data.sequences import Recordings, windows_at


def positive_batches(
    recordings: Recordings,
    positives: Positives,
    before: int,
    after: int,
    batch_size: int,
    mesh: Mesh,
    seed: int,
) -> DrawnBatches:
    """Batches of windows, none of which crosses from one recording into the next.

    Args:
      recordings: what to draw from; all of it lies on each device.
      positives: which moments are positives of each other.
      before, after: the window of moment t is [t − before, t + after).
      batch_size: references of a batch, and as many negatives, which all of them share.
      mesh, seed: as in `DrawnBatches`.

    Returns:
      Batches of windows "reference", "positive" and "negative", and of a hybrid rule "later",
      `[batch, before + after, channels]`. An epoch has about as many references as there are.

    Raises:
      ArgumentError: as in `drawn_from` and `DrawnBatches`.
    """
    found = drawn_from(recordings, positives, before, after)
    arrays = {**found, "signal": recordings.signal}

    def draw(key: Array, arrays: Mapping[str, Any]) -> Batch:
        moments = draw_moments(key, arrays, positives, batch_size)
        return cut_windows(arrays["signal"], moments, before, after)

    steps = max(1, len(found["references"]) // batch_size)
    return DrawnBatches(arrays, draw, batch_size, steps, mesh, seed)


def cut_windows(signal: Array, moments: Batch, before: int, after: int) -> Batch:
    """The windows `[batch, before + after, channels]` of moments `[batch]`, by the same names."""
    return {name: windows_at(signal, at, before, after) for name, at in moments.items()}
