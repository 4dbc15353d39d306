"""Random geometric changes of image batches: crop, flip, quarter turns, affine moves.

Images are float32 `[batch, height, width, channels]`; every image gets its own draw from `key`.
No operation mixes images, so a batch sharded over devices is changed where it lies.
"""

import math

import chex
import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

CROP_ATTEMPTS = 10  # torchvision's number of tries before it falls back to a centre crop


def draw_crops(
    key: jax.Array,
    batch: int,
    height: int,
    width: int,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """The boxes of torchvision's `RandomResizedCrop.get_params`, one per image.

    Ten tries of area = height·width·U(scale), log(aspect) = U(log ratio), box sides rounded to
    whole pixels; the first that fits the image is placed uniformly. Where none fits: the largest
    centred box whose aspect lies within `ratio`. All tries are drawn at once, which changes no
    probability.

    Returns:
      `(top, left, box_height, box_width)`, each float32 `[batch]` holding whole pixels.
    """
    draws = jax.random.uniform(key, (2 * CROP_ATTEMPTS + 2, batch))
    area = height * width * (scale[0] + (scale[1] - scale[0]) * draws[:CROP_ATTEMPTS])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = jnp.exp(low + (high - low) * draws[CROP_ATTEMPTS : 2 * CROP_ATTEMPTS])
    widths = jnp.round(jnp.sqrt(area * aspect))
    heights = jnp.round(jnp.sqrt(area / aspect))
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    # One-hot of the first fit: a masked sum stays row-parallel where an index would gather.
    first = fits & (jnp.cumsum(fits, axis=0) == 1)
    found = jnp.any(fits, axis=0)

    aspect_in = width / height
    centre_width, centre_height = width, height
    if aspect_in < ratio[0]:
        centre_height = round(width / ratio[0])
    elif aspect_in > ratio[1]:
        centre_width = round(height * ratio[1])
    box_height = jnp.where(found, jnp.sum(jnp.where(first, heights, 0), axis=0), centre_height)
    box_width = jnp.where(found, jnp.sum(jnp.where(first, widths, 0), axis=0), centre_width)
    # floor(U·(m+1)) is uniform on 0..m; the minimum guards against rounding up to m+1.
    space_y, space_x = height - box_height, width - box_width
    top = jnp.minimum(jnp.floor(draws[-2] * (space_y + 1)), space_y)
    left = jnp.minimum(jnp.floor(draws[-1] * (space_x + 1)), space_x)
    top = jnp.where(found, top, (height - centre_height) // 2)
    left = jnp.where(found, left, (width - centre_width) // 2)
    return top, left, box_height, box_width


def _interpolation_weights(
    start: jax.Array, length: jax.Array, in_size: int, out_size: int, mirrored: jax.Array
) -> jax.Array:
    """`[batch, in_size, out_size]`: the share of input pixel j in output pixel i, columns sum to 1.

    A triangle of half-width max(length/out_size, 1) around the output pixel's centre, cut at the
    box: torchvision's and Pillow's antialiased bilinear filter.
    """
    position = jnp.arange(out_size, dtype=jnp.float32)[None, :]
    position = jnp.where(mirrored[:, None], out_size - 1 - position, position)
    stride = (length / out_size)[:, None]
    centre = start[:, None] + (position + 0.5) * stride
    pixel = jnp.arange(in_size, dtype=jnp.float32)[None, :, None]
    distance = jnp.abs(pixel + 0.5 - centre[:, None, :]) / jnp.maximum(stride, 1.0)[:, :, None]
    end = start + length
    inside = (pixel >= start[:, None, None]) & (pixel < end[:, None, None])
    weights = jnp.where(inside, jnp.maximum(1.0 - distance, 0.0), 0.0)
    return weights * (1.0 / jnp.sum(weights, axis=1, keepdims=True))


def resized_crop(
    images: jax.Array,
    top: jax.Array,
    left: jax.Array,
    box_height: jax.Array,
    box_width: jax.Array,
    size: tuple[int, int],
    mirrored: jax.Array | None = None,
) -> jax.Array:
    """Cuts one box `[batch]` out of each image and resizes it to `size` = (height, width).

    Bilinear, antialiased where it shrinks, as torchvision resizes by default. Written as two
    batched matrix products (rows, then columns): on CPUs many times faster than gathers.

    Args:
      images: float32 `[batch, height, width, channels]`.
      top, left, box_height, box_width: float32 `[batch]`, pixels, the box within the image.
      size: output height and width.
      mirrored: bool `[batch]`: flip this image left to right (free here).
    """
    batch, height, width, channels = images.shape
    if mirrored is None:
        mirrored = jnp.zeros(batch, bool)
    columns = _interpolation_weights(left, box_width, width, size[1], mirrored)
    rows = _interpolation_weights(top, box_height, height, size[0], jnp.zeros_like(mirrored))
    # Channels before columns: both products then run over contiguous memory.
    planar = jnp.swapaxes(images, 2, 3).reshape(batch, height * channels, width)
    precision = jax.lax.Precision.HIGHEST
    wide = jnp.matmul(planar, columns, precision=precision)
    wide = wide.reshape(batch, height, channels * size[1])
    out = jnp.matmul(jnp.swapaxes(rows, 1, 2), wide, precision=precision)
    return jnp.swapaxes(out.reshape(batch, size[0], channels, size[1]), 2, 3)


def random_resized_crop(
    key: jax.Array,
    images: jax.Array,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    size: tuple[int, int] | None = None,
    prob: float = 1.0,
    flip_prob: float = 0.0,
) -> jax.Array:
    """torchvision's `RandomResizedCrop` and, in the same pass, its `RandomHorizontalFlip`.

    Args:
      key: one key for the batch.
      images: float32 `[batch, height, width, channels]`.
      scale: range of the box's share of the area.
      ratio: range of the box's width/height, drawn log-uniformly.
      size: output (height, width); the input's by default.
      prob: share of images that are cropped; the others are only resized to `size`.
      flip_prob: share of images mirrored left to right.

    Returns:
      float32 `[batch, *size, channels]`.
    """
    batch, height, width, _ = images.shape
    crop_key, choice_key = jax.random.split(key)
    top, left, box_height, box_width = draw_crops(crop_key, batch, height, width, scale, ratio)
    choice = jax.random.uniform(choice_key, (2, batch))
    cropped = choice[0] < prob
    return resized_crop(
        images,
        jnp.where(cropped, top, 0.0),
        jnp.where(cropped, left, 0.0),
        jnp.where(cropped, box_height, height),
        jnp.where(cropped, box_width, width),
        (height, width) if size is None else size,
        mirrored=choice[1] < flip_prob,
    )


def random_flip(key: jax.Array, images: jax.Array, prob: float = 0.5) -> jax.Array:
    """Mirrors each image left to right with probability `prob`; `[batch, h, w, c]` in and out."""
    flipped = jax.random.bernoulli(key, prob, (images.shape[0], 1, 1, 1))
    return jnp.where(flipped, images[:, :, ::-1], images)


def random_quarter_turns(key: jax.Array, images: jax.Array, prob: float = 0.75) -> jax.Array:
    """Turns each image by 90, 180 or 270 degrees (equally likely) with probability `prob`.

    `prob` = 0.75 makes all four orientations equally likely.

    Raises:
      ValueError: for images that are not square, whose shape a quarter turn changes.
    """
    batch, height, width, _ = images.shape
    if height != width:
        raise ValueError(
            f"quarter turns need square images, these are {height}x{width}: "
            "set quarter_turn_prob=0 or crop to a square first"
        )
    turn_key, choice_key = jax.random.split(key)
    turns = jax.random.randint(turn_key, (batch, 1, 1, 1), 1, 4)
    turns = jnp.where(jax.random.bernoulli(choice_key, prob, turns.shape), turns, 0)
    out = images
    for count in (1, 2, 3):
        out = jnp.where(turns == count, jnp.rot90(images, count, axes=(1, 2)), out)
    return out


def affine(
    images: jax.Array,
    degrees: jax.Array,
    translate: jax.Array,
    scale: jax.Array,
    shear: jax.Array,
) -> jax.Array:
    """Rotates, shears, scales about the centre, then moves; outside of the image is 0 (black).

    torchvision's matrix: output = R(degrees)·[[1, −tan shear], [0, 1]]·scale·(input − centre)
    + centre + translate, in (x, y) with y downwards, sampled bilinearly at the inverse.

    Args:
      images: float32 `[batch, height, width, channels]`.
      degrees: `[batch]`, clockwise as seen, y pointing down.
      translate: `[batch, 2]`, (x, y) in pixels.
      scale: `[batch]`, above 0; larger than 1 magnifies.
      shear: `[batch]`, degrees, along x.
    """
    batch, height, width, _ = images.shape
    angle, slant = jnp.deg2rad(degrees), jnp.tan(jnp.deg2rad(shear))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    # Forward [[a, b], [c, d]] has determinant 1, so its inverse is [[d, −b], [−c, a]].
    a, b, c, d = cos, -cos * slant - sin, sin, cos - sin * slant

    def spread(values: jax.Array) -> jax.Array:
        return values.reshape(batch, 1, 1)

    centre_y, centre_x = (height - 1) / 2, (width - 1) / 2
    y = jnp.arange(height, dtype=jnp.float32)[None, :, None] - centre_y - spread(translate[:, 1])
    x = jnp.arange(width, dtype=jnp.float32)[None, None, :] - centre_x - spread(translate[:, 0])
    source_x = (spread(d) * x - spread(b) * y) / spread(scale) + centre_x
    source_y = (spread(a) * y - spread(c) * x) / spread(scale) + centre_y

    def sample(plane: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
        return map_coordinates(plane, [rows, columns], order=1, mode="constant", cval=0.0)

    over_channels = jax.vmap(sample, in_axes=(2, None, None), out_axes=2)
    return jax.vmap(over_channels)(images, source_y, source_x)


def random_affine(
    key: jax.Array,
    images: jax.Array,
    prob: float = 1.0,
    degrees: float = 0.0,
    translate: float = 0.0,
    scale: tuple[float, float] = (1.0, 1.0),
    shear: float = 0.0,
) -> jax.Array:
    """torchvision's `RandomAffine`, but moves are not rounded to whole pixels.

    Args:
      key: one key for the batch.
      images: float32 `[batch, height, width, channels]`.
      prob: share of images moved.
      degrees: rotation is uniform in ±degrees.
      translate: moves are uniform in ±translate · (width, height).
      scale: range of the magnification, uniform.
      shear: shear along x is uniform in ±shear degrees.
    """
    batch, height, width, _ = images.shape
    chex.assert_rank(images, 4)
    draws = jax.random.uniform(key, (6, batch))
    signed = 2.0 * draws - 1.0
    extent = jnp.asarray([width, height], jnp.float32)[:, None] * translate
    moved = affine(
        images,
        degrees=degrees * signed[0],
        translate=(signed[1:3] * extent).T,
        scale=scale[0] + (scale[1] - scale[0]) * draws[3],
        shear=shear * signed[4],
    )
    return jnp.where((draws[5] < prob)[:, None, None, None], moved, images)
