"""The images nearest to given ones by the cosine of their features, as a table and a picture."""

import os
import textwrap
import unicodedata
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from alphacl_jax.errors import ArgumentError
from alphacl_jax.evaluation.checks import check_features
from alphacl_jax.evaluation.knn import unit_rows
from alphacl_jax.files import write_png_atomically

_BLOCK_SIZE = 2**24  # cosines held at once (64 MB)
# A picture of more would be wider or longer than can be looked at.
_MOST_QUERIES, _MOST_NEIGHBORS = 24, 20
_LINE, _LINES = 16, 2  # of a name under an image


class Images(Protocol):
    """Images by number, such as an array or a list of arrays."""

    def __getitem__(self, index: int, /) -> np.ndarray: ...


def nearest(
    queries: ArrayLike, features: ArrayLike, k: int, *, block: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The k features nearest to each query by cosine, the nearest first.

        cos(q, f) = ⟨q, f⟩ / (‖q‖ ‖f‖),  0 where q or f is 0

    A query that is itself among the features is found first; of equally near ones, the first.

    Args:
      queries: `[q, dim]`.
      features: `[n, dim]`, read in blocks, so that the cosines held at once stay bounded.
      k: 1 ≤ k ≤ n.
      block: features per block; by default as many as 64 MB of cosines allow.

    Returns:
      Indices into the features, int32 `[q, k]`, and cosines, float32 `[q, k]`.

    Raises:
      AssertionError: for another rank.
      ValueError: for features that are empty or not finite, or of another dimension.
      ArgumentError: for k out of range.
    """
    queries, features = check_features("queries", queries), check_features("features", features)
    n, dim = features.shape
    if queries.shape[1] != dim:
        raise ValueError(
            "queries and features must be of one encoder, and so of one dimension; "
            f"got shapes {queries.shape} and {features.shape}"
        )
    if not 1 <= k <= n:
        raise ArgumentError("k", k, f"must lie between 1 and the {n} images that there are")
    block = min(n, block or max(1, _BLOCK_SIZE // len(queries)))
    indices, cosines = _nearest(queries, features, k, block)
    return np.asarray(indices), np.asarray(cosines)


@partial(jax.jit, static_argnames=("k", "block"))
def _nearest(queries: Array, features: Array, k: int, block: int) -> tuple[Array, Array]:
    n, dim = features.shape
    blocks = -(-n // block)
    padded = jnp.pad(features, ((0, blocks * block - n), (0, 0))).reshape(blocks, block, dim)
    starts = jnp.arange(blocks, dtype=jnp.int32) * block
    queries = unit_rows(queries)

    def better(
        best: tuple[Array, Array], part: tuple[Array, Array]
    ) -> tuple[tuple[Array, Array], None]:
        start, x = part
        # Accelerators multiply float32 matrices in less than float32 unless told.
        cosines = jnp.matmul(queries, unit_rows(x).T, precision=jax.lax.Precision.HIGHEST)
        index = start + jnp.arange(block, dtype=jnp.int32)
        cosines = jnp.where((index < n)[None], jnp.clip(cosines, -1, 1), -jnp.inf)
        # What was found before stands first, and so wins where two are equally near.
        candidates = jnp.concatenate([best[0], cosines], axis=1)
        indices = jnp.concatenate([best[1], jnp.broadcast_to(index, cosines.shape)], axis=1)
        found, at = jax.lax.top_k(candidates, k)
        return (found, jnp.take_along_axis(indices, at, axis=1)), None

    nothing = jnp.full((len(queries), k), -jnp.inf), jnp.zeros((len(queries), k), jnp.int32)
    (cosines, indices), _ = jax.lax.scan(better, nothing, (starts, padded))
    return indices, cosines


def format_neighbors(
    query_names: Sequence[str],
    names: Sequence[str],
    classes: Sequence[str] | None,
    indices: ArrayLike,
    cosines: ArrayLike,
) -> str:
    """A plain aligned table of what `nearest` found, one line per neighbour.

    Args:
      query_names: `[q]`.
      names: `[n]`, such as paths.
      classes: `[n]`, the name of each image's class, or None where there are none.
      indices, cosines: `[q, k]`.

    Returns:
      Lines of text, the first the header, without a newline at the end.
    """
    found, near = np.asarray(indices), np.asarray(cosines)
    lines = [["query", "rank", "cosine", "class", "image"]]
    for query, name in enumerate(query_names):
        for rank, index in enumerate(found[query]):
            of_class = "" if classes is None else printable(classes[index])
            shown = printable(name) if rank == 0 else ""
            near_by = f"{near[query, rank]:.3f}"
            lines.append([shown, str(rank + 1), near_by, of_class, printable(names[index])])
    if classes is None:
        lines = [[*line[:3], line[4]] for line in lines]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            " " * (width - _width(cell)) + cell
            if 1 <= column <= 2
            else cell + " " * (width - _width(cell))
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def plot_neighbors(
    path: str | os.PathLike[str],
    query_images: Images,
    images: Images,
    query_names: Sequence[str],
    names: Sequence[str],
    indices: ArrayLike,
    cosines: ArrayLike,
) -> None:
    """What `nearest` found as a picture: each query at the left, its neighbours at the right.

    Args:
      path: of the PNG file.
      query_images: `[q]` of uint8 `[height, width, 1 or 3]` or `[height, width]`.
      images: `[n]` of the same; only those that were found are read.
      query_names: `[q]`, written under the queries.
      names: `[n]`, written under the neighbours with their cosines: classes, or files.
      indices, cosines: `[q, k]`; of many, the first 24 queries and 20 neighbours are drawn.
    """
    found, near = np.asarray(indices), np.asarray(cosines)
    rows, columns = min(len(found), _MOST_QUERIES), min(found.shape[1], _MOST_NEIGHBORS)
    figure = Figure(figsize=(1.5 * (columns + 1), 0.4 + 1.9 * rows), layout="constrained")
    axes = figure.subplots(rows, columns + 1, squeeze=False)
    for row in range(rows):
        _draw(axes[row, 0], query_images[row], query_names[row])
        for column in range(columns):
            index = int(found[row, column])
            text = f"{near[row, column]:.3f}\n{_shortened(names[index])}"
            _draw(axes[row, column + 1], images[index], text, shorten=False)
    left_out = [
        f"the first {drawn} of {there} {what}"
        for drawn, there, what in (
            (rows, len(found), "queries"),
            (columns, found.shape[1], "neighbours"),
        )
        if drawn < there
    ]
    title = "query, and what is nearest to it by the cosine of the features"
    figure.suptitle("\n".join([title, *left_out]), fontsize="small")
    with warnings.catch_warnings():
        # Letters that the font lacks are drawn as boxes.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        write_png_atomically(path, figure)


def _draw(ax: Axes, image: np.ndarray, text: str, *, shorten: bool = True) -> None:
    shown = np.asarray(image)
    if shown.ndim == 3 and shown.shape[2] == 1:
        shown = shown[..., 0]
    ax.imshow(shown, cmap="gray" if shown.ndim == 2 else None, vmin=0, vmax=255)
    ax.set(xticks=[], yticks=[])
    # A name may hold a $, which is no mathematics here.
    ax.set_xlabel(_shortened(text) if shorten else text, fontsize=6.5, parse_math=False)


def _shortened(name: str) -> str:
    """A name in a few short lines; of a longer one its end, which tells files apart."""
    text, most = printable(name), _LINE * _LINES
    if len(text) > most:
        text = "…" + text[1 - most :]
    # A path may be broken after a slash, before a word is.
    lines = textwrap.wrap(text.replace("/", "/ "), _LINE)[: _LINES + 1]
    return "\n".join(line.replace("/ ", "/") for line in lines)


def printable(text: str) -> str:
    """A name on one line, without what a terminal or a font cannot show."""
    known = text.encode(errors="replace").decode()  # names of files may be of another encoding
    spaced = " ".join(known.split())
    return "".join("?" if unicodedata.category(c)[0] == "C" else c for c in spaced)


def _width(text: str) -> int:
    """The columns that a text takes in a terminal."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )
