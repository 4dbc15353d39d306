"""A picture of augmented pairs, to see what a policy does before training on it."""

import pathlib

import chex
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def save_preview(
    path: str | pathlib.Path,
    images: np.ndarray,
    views: np.ndarray,
    mean: chex.Array,
    std: chex.Array,
    rows: int = 8,
) -> None:
    """Writes a PNG grid: each row an original and its two augmented views.

    Views are brought back to [0, 1] with `mean` and `std` and clipped; pixels are drawn as squares,
    so that small images stay sharp.

    Args:
      path: the file to write; missing folders are made.
      images: uint8 `[batch, height, width, channels]`, 1 or 3 channels.
      views: float32 `[batch, 2, height, width, channels]`, normalised (`policies.two_views`).
      mean, std: `[channels]`, what the views were normalised with.
      rows: how many of the first pairs are drawn, or all of a smaller batch.

    Raises:
      AssertionError: where the shapes of `images` and `views` do not belong together.
    """
    images, views = np.asarray(images), np.asarray(views, np.float32)
    chex.assert_rank(images, 4)
    chex.assert_shape(views, (images.shape[0], 2, *images.shape[1:]))
    rows = min(rows, images.shape[0])
    restored = np.clip(views[:rows] * np.asarray(std) + np.asarray(mean), 0.0, 1.0)
    # A figure of its own rather than pyplot's: no global state, no display.
    figure = Figure(figsize=(4.5, 1.5 * rows + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, 3, squeeze=False)
    for row, axes in enumerate(grid):
        for axis, picture in zip(axes, (images[row] / 255.0, *restored[row]), strict=True):
            shown = picture[..., 0] if picture.shape[-1] == 1 else picture
            axis.imshow(shown, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
            axis.set_axis_off()
    for axis, title in zip(grid[0], ("original", "view 1", "view 2"), strict=True):
        axis.set_title(title)
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=100)
