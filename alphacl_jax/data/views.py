"""Views of a batch of images: normalised as they are, or augmented by a policy."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from alphacl_jax.data import augment as pixels
from alphacl_jax.data import geometry
from alphacl_jax.data.policies import Policies, Policy
from alphacl_jax.errors import ArgumentError


def normalize(images: jax.Array, mean: chex.Array, std: chex.Array) -> jax.Array:
    """(images/255 − mean)/std: uint8 `[..., height, width, channels]` to float32, for evaluation.

    Args:
      images: uint8.
      mean, std: `[channels]`, on the scale where values lie in [0, 1].

    Raises:
      ValueError: if `images` is not uint8.
    """
    return _standardize(_unit_range(images), mean, std)


def in_unit_range(views: chex.Array, mean: chex.Array, std: chex.Array) -> np.ndarray:
    """Normalised views `[..., channels]` as colours in [0, 1] again, clipped, to be looked at."""
    return np.clip(np.asarray(views, np.float32) * np.asarray(std) + np.asarray(mean), 0.0, 1.0)


def _unit_range(images: jax.Array) -> jax.Array:
    if images.dtype != jnp.uint8:
        raise ValueError(f"images must be uint8 in 0..255, these are {images.dtype}")
    return images.astype(jnp.float32) * (1 / 255)


def _standardize(images: jax.Array, mean: chex.Array, std: chex.Array) -> jax.Array:
    shape = (1,) * (images.ndim - 1) + (images.shape[-1],)
    mean = jnp.broadcast_to(jnp.asarray(mean, jnp.float32), shape[-1:]).reshape(shape)
    std = jnp.broadcast_to(jnp.asarray(std, jnp.float32), shape[-1:]).reshape(shape)
    return (images - mean) * (1 / std)


def one_view(
    key: jax.Array,
    images: jax.Array,
    policy: Policy,
    mean: chex.Array,
    std: chex.Array,
    size: tuple[int, int] | None = None,
) -> jax.Array:
    """One augmented, normalised view of each image: uint8 to float32, `[batch, h, w, c]`.

    Pure; call it under jit with `policy` static. The draws depend on `key` and the position in the
    batch alone, so the result does not depend on how the batch is sharded. Crops are resized to
    `size`, (height, width), by default the images'.

    Raises:
      ValueError: if `images` is not uint8, a size is given to a policy that never crops, or the
        policy asks for what the shape does not allow.
    """
    chex.assert_rank(images, 4)
    if size is not None and policy.crop_prob == 0:
        raise ArgumentError("size", size, "is that of crops, and the policy makes none")
    keys = jax.random.split(key, 9)
    out = _unit_range(images)
    if policy.crop_prob > 0:
        out = geometry.random_resized_crop(
            keys[0],
            out,
            scale=policy.crop_scale,
            ratio=policy.crop_ratio,
            size=size,
            prob=policy.crop_prob,
            flip_prob=policy.flip_prob,
        )
    elif policy.flip_prob > 0:
        out = geometry.random_flip(keys[0], out, policy.flip_prob)
    if policy.quarter_turn_prob > 0:
        out = geometry.random_quarter_turns(keys[1], out, policy.quarter_turn_prob)
    if policy.affine_prob > 0:
        out = geometry.random_affine(
            keys[2],
            out,
            prob=policy.affine_prob,
            degrees=policy.affine_degrees,
            translate=policy.affine_translate,
            scale=policy.affine_scale,
            shear=policy.affine_shear,
        )
    if policy.jitter_prob > 0:
        out = pixels.random_color_jitter(
            keys[3],
            out,
            prob=policy.jitter_prob,
            brightness=policy.brightness,
            contrast=policy.contrast,
            saturation=policy.saturation,
            hue=policy.hue,
        )
    if policy.grayscale_prob > 0 and images.shape[-1] > 1:
        out = pixels.random_grayscale(keys[4], out, policy.grayscale_prob)
    if policy.blur_prob > 0:
        out = pixels.random_gaussian_blur(keys[5], out, policy.blur_prob, policy.blur_sigma)
    if policy.solarize_prob > 0:
        out = pixels.random_solarize(keys[6], out, policy.solarize_prob, policy.solarize_threshold)
    if policy.sobel_prob > 0:
        out = pixels.random_sobel(keys[7], out, policy.sobel_prob)
    noise_key, cutout_key = jax.random.split(keys[8])
    if policy.noise_prob > 0 and policy.noise_std > 0:
        out = pixels.random_gaussian_noise(noise_key, out, policy.noise_prob, policy.noise_std)
    if policy.cutout_prob > 0:
        fill = jnp.broadcast_to(jnp.asarray(mean, jnp.float32), images.shape[-1:])
        out = pixels.random_cutout(cutout_key, out, fill, policy.cutout_prob, policy.cutout_size)
    return _standardize(out, mean, std)


def make_views(
    key: jax.Array,
    images: jax.Array,
    policy: Policies,
    mean: chex.Array,
    std: chex.Array,
    views: int = 2,
    size: tuple[int, int] | None = None,
) -> jax.Array:
    """Independently augmented views of each image: uint8 `[batch, h, w, c]` to float32
    `[batch, views, h, w, c]`, or of another size where the policy crops.

    The views lie beside each other on axis 1, so that `reshape(views * batch, ...)` moves nothing
    between devices when the batch is sharded.

    Args:
      key: of all random draws.
      images: uint8.
      policy: of all views, or a tuple with one for each of them.
      mean, std: `[channels]`, what the views are normalised with.
      views: how many of each image.
      size: of crops, (height, width).

    Raises:
      ValueError: see `one_view`, and for `views` below 1 or other than the number of policies.
    """
    if views < 1:
        raise ArgumentError("views", views, "must be at least 1")
    if isinstance(policy, tuple):
        if len(policy) != views:
            raise ArgumentError("views", views, f"must be {len(policy)}, one for each policy")
        keys = jax.random.split(key, views)
        drawn = [
            one_view(own_key, images, own, mean, std, size)
            for own_key, own in zip(keys, policy, strict=True)
        ]
        return jnp.stack(drawn, axis=1)
    batch = images.shape[0]
    repeated = jnp.repeat(images[:, None], views, axis=1).reshape(views * batch, *images.shape[1:])
    augmented = one_view(key, repeated, policy, mean, std, size)
    return augmented.reshape(batch, views, *augmented.shape[1:])
