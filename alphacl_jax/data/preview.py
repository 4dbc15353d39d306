"""A picture of augmented views, to see what a policy does before training on it."""

import os
import pathlib
import textwrap
import warnings

import chex
import jax
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from alphacl_jax.data.images import UnreadableImage
from alphacl_jax.data.outages import Patience
from alphacl_jax.data.policies import Policies, describe
from alphacl_jax.data.reading import Split
from alphacl_jax.data.sources import Dataset
from alphacl_jax.data.views import in_unit_range, make_views
from alphacl_jax.errors import ArgumentError
from alphacl_jax.files import write_png_atomically

# At most so many images are decoded in search of different classes.
_LOOKED_AT = 200


def draw_preview(
    path: str | os.PathLike[str],
    dataset: Dataset,
    policy: Policies,
    *,
    views: int = 2,
    rows: int = 8,
    seed: int = 0,
) -> None:
    """Draws images of different classes beside augmented views of them, with the policy's settings.

    Args:
      path: the PNG file to write.
      dataset: whose images are drawn; always the same ones.
      policy: what augments them: all views alike, or one for each view.
      views: how many of each image, at least 1.
      rows: how many images, or all of a smaller data set.
      seed: of the views.

    Raises:
      ArgumentError: see `check_picture_path`.
    """
    check_picture_path("preview", path)
    labelled = dataset.train is not None
    images, labels = choose_images(
        dataset.train or dataset.pretrain, rows, classes=len(dataset.class_names)
    )
    drawn = jax.jit(make_views, static_argnames=("policy", "views"))(
        jax.random.key(seed), images, policy, dataset.mean, dataset.std, views=views
    )
    save_preview(
        path,
        images,
        drawn,
        dataset.mean,
        dataset.std,
        caption=f"{dataset.title}, augmented by {describe(policy, dataset.image_shape[2])}",
        names=[dataset.class_names[label] for label in labels] if labelled else None,
        rows=rows,
    )


def check_picture_path(argument: str, path: str | os.PathLike[str]) -> None:
    """Refuses a path that no PNG file can be written to, before images are read for it.

    Args:
      argument: what an error calls it.
      path: of the file.

    Raises:
      ArgumentError: where the path is a folder, lies in one that does not exist, or ends like a
        file of another kind.
    """
    file = pathlib.Path(path).expanduser()
    if file.is_dir():
        raise ArgumentError(argument, path, f"is a folder. Give a file, such as {file / 'x.png'}")
    if not file.parent.is_dir():
        raise ArgumentError(
            argument, path, f"cannot be written: there is no folder {file.parent}. Make it first"
        )
    if file.suffix.lower() in (".jpg", ".jpeg", ".gif", ".webp", ".pdf", ".svg", ".tif", ".tiff"):
        raise ArgumentError(argument, path, f"must be a PNG file: give {file.with_suffix('.png')}")


def choose_images(split: Split, count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of as many different classes as can be, always the same ones.

    Args:
      split: where they are taken from; damaged ones are passed over.
      count: how many.
      classes: how many classes there are; 0 where images have none.

    Returns:
      Images uint8 [k, h, w, c] and labels int32 [k], k ≤ count: as many of each class as the number
      of classes allows, one of each before a second one of any. They are found among 200 images
      spread over the split; a class that none of these has is not shown.
    """
    by_label: dict[int, list[np.ndarray]] = {}
    share, patience = -(-count // max(classes, 1)), Patience()
    for index in np.random.default_rng(0).permutation(len(split.source))[:_LOOKED_AT]:
        try:
            example = patience.read(split.source.__getitem__, int(index))
        except UnreadableImage:
            continue
        by_label.setdefault(example["label"], []).append(example["image"])
        if sum(min(len(found), share) for found in by_label.values()) >= count:
            break
    if not by_label:
        raise UnreadableImage(f"none of {min(len(split.source), _LOOKED_AT)} images can be read")
    in_turn = sorted(
        (turn, label) for label, images in by_label.items() for turn in range(len(images))
    )[:count]
    chosen = np.stack([by_label[label][turn] for turn, label in in_turn])
    return chosen, np.array([label for _, label in in_turn], np.int32)


def save_preview(
    path: str | os.PathLike[str],
    images: np.ndarray,
    views: chex.Array,
    mean: chex.Array,
    std: chex.Array,
    *,
    caption: str = "",
    names: list[str] | None = None,
    rows: int = 8,
) -> None:
    """Writes a PNG grid: each row an original and its augmented views.

    Views are brought back to [0, 1] with `mean` and `std` and clipped; pixels are drawn as squares,
    so that small images stay sharp.

    Args:
      path: the file to write, in a folder that exists.
      images: uint8 `[batch, height, width, channels]`, 1 or 3 channels.
      views: float32 `[batch, views, height, width, channels]`, normalised (`views.make_views`).
      mean, std: `[channels]`, what the views were normalised with.
      caption: written above the grid, in lines as wide as it.
      names: what each image shows, written beside it.
      rows: how many of the first images are drawn, or all of a smaller batch.

    Raises:
      AssertionError: where the shapes of `images` and `views` do not belong together.
      ArgumentError: see `check_picture_path`.
    """
    check_picture_path("preview", path)
    images, views = np.asarray(images), np.asarray(views, np.float32)
    chex.assert_rank([images, views], [4, 5])
    count = views.shape[1]
    chex.assert_shape(views, (images.shape[0], count, *images.shape[1:]))
    rows = min(rows, images.shape[0])
    restored = in_unit_range(views[:rows], mean, std)
    width = 1.5 * (1 + count)
    lines = textwrap.wrap(caption, int(15 * width))
    # A figure of its own rather than pyplot's: no global state, no display.
    figure = Figure(figsize=(width, 1.5 * rows + 0.3 + 0.17 * len(lines)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle("\n".join(lines), fontsize=8, parse_math=False)
    grid = figure.subplots(rows, 1 + count, squeeze=False)
    for row, axes in enumerate(grid):
        for axis, picture in zip(axes, (images[row] / 255.0, *restored[row]), strict=True):
            shown = picture[..., 0] if picture.shape[-1] == 1 else picture
            axis.imshow(shown, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        if names is not None:
            # A "$" in a name is no mathematics.
            axes[0].set_ylabel(_shortened(names[row]), fontsize=8, parse_math=False)
    titles = ("original", *(f"view {view}" for view in range(1, count + 1)))
    for axis, title in zip(grid[0], titles, strict=True):
        axis.set_title(title, fontsize=10)
    with warnings.catch_warnings():
        # Letters that the font lacks are drawn as boxes.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        write_png_atomically(pathlib.Path(path).expanduser(), figure, dpi=100)


def _shortened(name: str) -> str:
    """A name of at most 22 letters, what is left out of a longer one in its middle."""
    known = " ".join(name.encode(errors="replace").decode().split())
    return known if len(known) <= 22 else f"{known[:10]}…{known[-11:]}"
