"""Batches of windows of recordings, drawn at random."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from alphacl_jax.data.batches import Batch
from alphacl_jax.data.drawn_batches import DrawnBatches
from alphacl_jax.data.sequences import Recordings, require_window, windows_at
from alphacl_jax.errors import ArgumentError


def window_batches(
    recordings: Recordings, window: int, batch_size: int, mesh: Mesh, seed: int
) -> DrawnBatches:
    """Batches of random windows, none of which crosses from one recording into the next.

    Each window is drawn by itself: a recording with probability in proportion to its length, and a
    start in it, all of them alike. So an epoch, of as many windows as would cover the recordings
    once, has of each recording about as many as it is long. A recording shorter than a window is
    left out.

    Args:
      recordings: what to draw from; all of it lies on each device.
      window: moments of a window.
      batch_size, mesh, seed: as in `DrawnBatches`.

    Returns:
      Batches of "windows" `[batch, window, channels]`; "recordings" `[batch]`, the number of the
      recording; "labels" `[batch]`, of the recordings, where they have some, and "moment_labels"
      `[batch, window]`, where moments do, both -1 where unknown.

    Raises:
      ArgumentError: where no recording is as long as a window, and as in `DrawnBatches`.
    """
    lengths = recordings.lengths
    if window < 1:
        raise ArgumentError("window", window, "must be at least 1 moment")
    require_window(lengths, window)
    numbers = np.flatnonzero(lengths >= window).astype(np.int32)
    if lengths.sum() > np.iinfo(np.int32).max:
        problem = "is more than the 2,147,483,647 moments that are counted: draw from parts"
        raise ArgumentError("recordings", f"{lengths.sum():,} moments", problem)
    kept = lengths[numbers]
    arrays = {
        "signal": recordings.signal,
        "numbers": numbers,
        "starts": recordings.starts[numbers].astype(np.int32),
        "choices": (kept - window + 1).astype(np.int32),
        "ends": np.cumsum(kept).astype(np.int32),
    }
    if recordings.class_names:
        arrays["labels"] = recordings.labels
    if recordings.moment_names:
        arrays["moment_labels"] = recordings.moment_labels

    def draw(key: Array, arrays: Mapping[str, Array]) -> Batch:
        return draw_windows(key, arrays, window, batch_size)

    steps = max(1, int(kept.sum()) // (window * batch_size))
    return DrawnBatches(arrays, draw, batch_size, steps, mesh, seed)


def one_window_each(
    recordings: Recordings, window: int, seed: int | Sequence[int], *, most: int | None = None
) -> Batch:
    """One random window of each recording that is as long as one, in random order.

    So no moment is there twice, as it may be among the windows of `window_batches`: there equal
    moments can be positive and negative at once, the more often the fewer recordings there are.

    Args:
      recordings: what to draw from.
      window: moments of a window.
      seed: of the draw, whole numbers from 0 on.
      most: how many windows at most; None for one of each recording.

    Returns:
      "windows" `[batch, window, channels]`, "recordings" and "labels" `[batch]`, see
      `window_batches`.

    Raises:
      ArgumentError: where no recording is as long as a window.
    """
    require_window(recordings.lengths, window)
    rng = np.random.default_rng(seed)
    numbers = rng.permutation(np.flatnonzero(recordings.lengths >= window))
    starts = recordings.starts[numbers] + rng.integers(recordings.lengths[numbers] - window + 1)
    numbers, starts = numbers[:most], starts[:most]
    return {
        "windows": jnp.asarray(recordings.signal[starts[:, None] + np.arange(window)]),
        "recordings": jnp.asarray(numbers.astype(np.int32)),
        "labels": jnp.asarray(recordings.labels[numbers]),
    }


def draw_windows(key: Array, arrays: Mapping[str, Any], window: int, batch_size: int) -> Batch:
    """A batch of windows, see `window_batches`.

    Args:
      key: random.
      arrays: "signal", of recordings one behind the other; of those that are long enough "numbers",
        "starts", "choices" (how many windows each has) and "ends" (the sums of their
        lengths); "labels" of all recordings and "moment_labels" of all moments, where there are.
      window: moments of a window.
      batch_size: how many to draw.
    """
    of_recording, of_start = jax.random.split(key)
    # Of a random moment: so a recording is drawn in proportion to its length.
    moment = jax.random.randint(of_recording, (batch_size,), 0, arrays["ends"][-1])
    chosen = jnp.searchsorted(arrays["ends"], moment, side="right", method="compare_all")
    start = jax.random.randint(of_start, (batch_size,), 0, arrays["choices"][chosen])
    start += arrays["starts"][chosen]
    number = arrays["numbers"][chosen]
    batch = {"windows": windows_at(arrays["signal"], start, 0, window), "recordings": number}
    if "labels" in arrays:
        batch["labels"] = arrays["labels"][number]
    if "moment_labels" in arrays:
        batch["moment_labels"] = windows_at(arrays["moment_labels"], start, 0, window)
    return batch
