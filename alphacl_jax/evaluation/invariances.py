"""What a representation still knows of how an image was changed: probes that tell it.

Each image is changed in one of several ways, of which one may be to leave it alone. Where a linear
probe of the representation names the way no better than chance, the representation is invariant to
it, as far as a linear map can see.

References:
    Chen et al. 2020, "SimCLR" (arXiv:2002.05709), section 4.2, Table 3 (there by small MLPs).
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from alphacl_jax.errors import ArgumentError
from alphacl_jax.evaluation.linear import fit_probe

# From a key and images in [0, 1], `[n, height, width, channels]`, to images of the same shape.
Transform = Callable[[Array, Array], Array]
# From images to representations of them, each `[n, dim]`, by name.
Represent = Callable[[np.ndarray], Mapping[str, ArrayLike]]

_CHUNK = 500


def mixed(
    images: ArrayLike, transforms: Sequence[Transform], *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Every image once, changed by one of the transforms, and by which.

    The transforms are dealt at random, and each to as many images as the others, or one more. Each
    image appears once, so that the samples of a probe are independent, as its standard error
    assumes.

    Args:
        images: uint8 `[n, height, width, channels]`.
        transforms: at least two; what they return is clipped to [0, 1], and rounded to uint8.
        seed: of the deal, and of the transforms' keys. Training and test images should have
            different ones, or noise would be the same in both.

    Returns:
        The images, uint8 `[n, height, width, channels]`, and the number of each one's transform,
        int32 `[n]`.

    Raises:
        ArgumentError: images of another type, or a single transform.
    """
    pixels = np.asarray(images)
    if pixels.dtype != np.uint8:
        raise ArgumentError("images", pixels.dtype, "must be uint8 with values from 0 to 255")
    if len(transforms) < 2:
        problem = "leaves nothing to tell apart: give two transforms or more"
        raise ArgumentError("transforms", len(transforms), problem)
    which = np.random.default_rng(seed).permutation(len(pixels)) % len(transforms)
    changed = np.empty_like(pixels)
    for number, transform in enumerate(transforms):
        places = np.flatnonzero(which == number)
        key = jax.random.fold_in(jax.random.key(seed), number)
        for start in range(0, len(places), _CHUNK):  # in float32 all would be four times as large
            part = places[start : start + _CHUNK]
            values = jnp.asarray(pixels[part], jnp.float32) / 255
            values = jnp.clip(transform(jax.random.fold_in(key, start), values), 0.0, 1.0)
            changed[part] = np.rint(255 * np.asarray(values))
    return changed, which.astype(np.int32)


def told_apart(
    represent: Represent,
    train: tuple[np.ndarray, ArrayLike],
    test: tuple[np.ndarray, ArrayLike],
    num_kinds: int,
) -> dict[str, np.ndarray]:
    """Which test images' kind a linear probe of each representation names rightly.

    Args:
        represent: of images.
        train: images and the kind of each, in [0, num_kinds), such as `mixed` gives, on which
            the probes are fitted; made of other images than those of `test`.
        test: the same, to test them.
        num_kinds: at least 2.

    Returns:
        Representation's name → bool `[m]`, over the same test images for all.

    Raises:
        AssertionError, ValueError: as `fit_probe`.
    """
    (train_images, train_kinds), (test_images, test_kinds) = train, test
    of_train, of_test = represent(train_images), represent(test_images)
    return {
        name: fit_probe(values, train_kinds, of_test[name], test_kinds, num_kinds).correct[0]
        for name, values in of_train.items()
    }
