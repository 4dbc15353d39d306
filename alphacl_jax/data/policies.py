"""Which augmentations a data set gets, and the two augmented views of a batch.

A `Policy` is a frozen, hashable record of probabilities and ranges: static under jit, so that an
operation whose probability or strength is 0 costs nothing.
"""

import dataclasses
import types

import chex
import jax
import jax.numpy as jnp

from alphacl_jax.data import augment as pixels
from alphacl_jax.data import geometry


@dataclasses.dataclass(frozen=True)
class Policy:
    """Every operation applies to an image with its `*_prob`, in the order of the fields.

    Attributes:
      crop_prob, crop_scale, crop_ratio: random resized crop; share of the area, width/height.
      flip_prob: mirror left to right.
      quarter_turn_prob: turn by 90, 180 or 270 degrees; needs square images.
      affine_prob: move with rotation ±`affine_degrees`, translation ±`affine_translate` · side,
        magnification in `affine_scale` and shear ±`affine_shear` degrees; black outside.
      jitter_prob, brightness, contrast, saturation, hue: colour jitter; factors in 1 ± strength,
        hue in ± turns. One channel: brightness and contrast only.
      grayscale_prob: drop the colours (no effect on one channel).
      blur_prob, blur_sigma: Gaussian blur, σ in pixels, kernel a tenth of the side.
      solarize_prob, solarize_threshold: invert the values at or above the threshold.
      sobel_prob: replace the image by its edges. Evaluation (`normalize`) sees unfiltered images.
      noise_prob, noise_std: Gaussian noise on values in [0, 1].
      cutout_prob, cutout_size: fill a box of this share of the side with the data set's mean.

    Raises:
      ValueError: a probability outside [0, 1], a range out of order or a strength out of bounds.
    """

    crop_prob: float = 0.0
    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip_prob: float = 0.0
    quarter_turn_prob: float = 0.0
    affine_prob: float = 0.0
    affine_degrees: float = 0.0
    affine_translate: float = 0.0
    affine_scale: tuple[float, float] = (1.0, 1.0)
    affine_shear: float = 0.0
    jitter_prob: float = 0.0
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    grayscale_prob: float = 0.0
    blur_prob: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize_prob: float = 0.0
    solarize_threshold: float = 0.5
    sobel_prob: float = 0.0
    noise_prob: float = 1.0
    noise_std: float = 0.0
    cutout_prob: float = 0.0
    cutout_size: float = 0.5

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            name, value = field.name, getattr(self, field.name)
            if isinstance(value, tuple):
                if not (len(value) == 2 and 0 < value[0] <= value[1]):
                    raise ValueError(f"{name}={value}: give a range 0 < low <= high")
            elif name.endswith("_prob"):
                if not 0 <= value <= 1:
                    raise ValueError(f"{name}={value}: a probability lies in [0, 1]")
            elif not 0 <= value < float("inf"):
                raise ValueError(f"{name}={value}: must be finite and not negative")
        for name, limit in (("hue", 0.5), ("cutout_size", 1.0), ("affine_shear", 89.0)):
            if getattr(self, name) > limit:
                raise ValueError(f"{name}={getattr(self, name)}: at most {limit}")
        if self.crop_scale[1] > 1:
            raise ValueError(f"crop_scale={self.crop_scale}: a share of the area is at most 1")


SIMCLR = Policy(crop_prob=1.0, flip_prob=0.5, jitter_prob=0.8, grayscale_prob=0.2)
SIMCLR_GRAY = Policy(crop_prob=1.0, crop_scale=(0.2, 1.0), flip_prob=0.5, jitter_prob=0.8)
# A mirrored digit is another sign, and a small crop of one may be the same as that of another.
# Noise and cutout are what lets two labels per class suffice: without them 87 %, with them 93 %.
DIGITS = Policy(
    affine_prob=1.0,
    affine_degrees=15.0,
    affine_translate=0.15,
    affine_scale=(0.75, 1.25),
    affine_shear=15.0,
    noise_std=0.1,
    cutout_prob=0.5,
    cutout_size=0.35,
)
NONE = Policy()

POLICIES = types.MappingProxyType(
    {"simclr": SIMCLR, "simclr_gray": SIMCLR_GRAY, "digits": DIGITS, "none": NONE}
)
BLUR_ABOVE = 64  # pixels: SimCLR blurs ImageNet's images and not CIFAR's


def named_policy(name: str, image_shape: tuple[int, int, int]) -> Policy:
    """The policy called `name` for images `(height, width, channels)`.

    "simclr" (Chen et al. 2020, appendices A and B.9; jitter strength 0.5): crop, flip, jitter,
    greyscale, and above 64 pixels blur with probability 0.5. "simclr_gray": crop, flip, brightness
    and contrast. "digits": small affine moves, noise, cutout. "none": nothing.

    Raises:
      ValueError: for any other name.
    """
    if name not in POLICIES:
        raise ValueError(f"unknown augmentation policy {name!r}: choose from {', '.join(POLICIES)}")
    policy = POLICIES[name]
    if name.startswith("simclr") and min(image_shape[:2]) > BLUR_ABOVE:
        policy = dataclasses.replace(policy, blur_prob=0.5)
    return policy


def default_policy(dataset_name: str, image_shape: tuple[int, int, int]) -> Policy:
    """Handwritten characters: "digits"; other one-channel images: "simclr_gray"; else "simclr"."""
    if dataset_name == "digits" or dataset_name.split("/")[0] in ("mnist", "kmnist", "emnist"):
        return named_policy("digits", image_shape)
    return named_policy("simclr_gray" if image_shape[2] == 1 else "simclr", image_shape)


def override(policy: Policy, settings: str) -> Policy:
    """`policy` with the fields in `settings` changed, such as "cutout_prob=0.5,crop_scale=0.2:1".

    Settings are separated by commas, the two ends of a range by a colon; "" changes nothing.

    Raises:
      ValueError: a setting without "=", an unknown or repeated field, a value that is no number.
    """
    changes: dict[str, float | tuple[float, ...]] = {}
    known = {field.name: field.default for field in dataclasses.fields(Policy)}
    for setting in filter(None, (part.strip() for part in settings.split(","))):
        name, equals, text = (part.strip() for part in setting.partition("="))
        if not equals:
            raise ValueError(f"augmentation setting {setting!r}: write field=value")
        if name not in known:
            raise ValueError(f"unknown augmentation field {name!r}: choose from {', '.join(known)}")
        if name in changes:
            raise ValueError(f"augmentation field {name!r} is set twice in {settings!r}")
        wanted = 2 if isinstance(known[name], tuple) else 1
        try:
            numbers = tuple(float(part) for part in text.split(":"))
        except ValueError:
            numbers = ()
        if len(numbers) != wanted:
            form = "a range such as 0.2:1.0" if wanted == 2 else "one number"
            raise ValueError(f"augmentation setting {name}={text}: {form} is needed")
        changes[name] = numbers if wanted == 2 else numbers[0]
    return dataclasses.replace(policy, **changes)  # type: ignore[arg-type]


def normalize(images: jax.Array, mean: chex.Array, std: chex.Array) -> jax.Array:
    """(images/255 − mean)/std: uint8 `[..., height, width, channels]` to float32, for evaluation.

    Args:
      images: uint8.
      mean, std: `[channels]`, on the scale where values lie in [0, 1].

    Raises:
      ValueError: if `images` is not uint8.
    """
    return _standardize(_unit_range(images), mean, std)


def _unit_range(images: jax.Array) -> jax.Array:
    if images.dtype != jnp.uint8:
        raise ValueError(f"images must be uint8 in 0..255, these are {images.dtype}")
    return images.astype(jnp.float32) * (1 / 255)


def _standardize(images: jax.Array, mean: chex.Array, std: chex.Array) -> jax.Array:
    shape = (1,) * (images.ndim - 1) + (images.shape[-1],)
    mean = jnp.broadcast_to(jnp.asarray(mean, jnp.float32), shape[-1:]).reshape(shape)
    std = jnp.broadcast_to(jnp.asarray(std, jnp.float32), shape[-1:]).reshape(shape)
    return (images - mean) * (1 / std)


def augment(
    key: jax.Array, images: jax.Array, policy: Policy, mean: chex.Array, std: chex.Array
) -> jax.Array:
    """One augmented, normalised view of each image: uint8 to float32, `[batch, h, w, c]`.

    Pure; call it under jit with `policy` static. The draws depend on `key` and the position in the
    batch alone, so the result does not depend on how the batch is sharded.

    Raises:
      ValueError: if `images` is not uint8, or the policy asks for what the shape does not allow.
    """
    chex.assert_rank(images, 4)
    keys = jax.random.split(key, 9)
    out = _unit_range(images)
    if policy.crop_prob > 0:
        out = geometry.random_resized_crop(
            keys[0],
            out,
            scale=policy.crop_scale,
            ratio=policy.crop_ratio,
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


def two_views(
    key: jax.Array, images: jax.Array, policy: Policy, mean: chex.Array, std: chex.Array
) -> jax.Array:
    """Two independently augmented views of each image: uint8 `[batch, h, w, c]` to float32
    `[batch, 2, h, w, c]`.

    The views lie beside each other on axis 1, so that `reshape(2 * batch, ...)` moves nothing
    between devices when the batch is sharded.
    """
    batch = images.shape[0]
    repeated = jnp.repeat(images[:, None], 2, axis=1).reshape(2 * batch, *images.shape[1:])
    views = augment(key, repeated, policy, mean, std)
    return views.reshape(batch, 2, *views.shape[1:])
