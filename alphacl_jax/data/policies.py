"""Which augmentations a data set gets; `views` applies them.

A `Policy` is a frozen, hashable record of probabilities and ranges: static under jit, so that an
operation whose probability or strength is 0 costs nothing.
"""

import dataclasses
import types
from collections.abc import Mapping
from typing import Any

from alphacl_jax.errors import ArgumentError


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
      sobel_prob: replace the image by its edges. Evaluation sees unfiltered images.
      noise_prob, noise_std: Gaussian noise on values in [0, 1].
      cutout_prob, cutout_size: fill a box of this share of the side with the data set's mean.
      name: what people call it; policies that differ in nothing else are equal.

    Raises:
      ArgumentError: a probability outside [0, 1], a range out of order or a strength out of bounds.
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
    name: str = dataclasses.field(default="custom", compare=False)

    def __post_init__(self) -> None:
        for name, default in _defaults().items():
            value = getattr(self, name)
            if isinstance(default, tuple):
                if not (len(value) == 2 and 0 < value[0] <= value[1]):
                    raise ArgumentError(name, value, "must be a range 0 < low <= high")
            elif name.endswith("_prob"):
                if not 0 <= value <= 1:
                    raise ArgumentError(name, value, "must be a probability in [0, 1]")
            elif not 0 <= value < float("inf"):
                raise ArgumentError(name, value, "must be finite and not negative")
        for name, limit in (("hue", 0.5), ("cutout_size", 1.0), ("affine_shear", 89.0)):
            if getattr(self, name) > limit:
                raise ArgumentError(name, getattr(self, name), f"must be at most {limit}")
        if self.crop_scale[1] > 1:
            raise ArgumentError(
                "crop_scale", self.crop_scale, "must be at most 1, a share of the area"
            )


# Of all views of an image, or one for each of them.
Policies = Policy | tuple[Policy, ...]


def _defaults() -> dict[str, Any]:
    """The settings of an augmentation, all fields but the name, with the values they start at."""
    return {field.name: field.default for field in dataclasses.fields(Policy) if field.compare}


SIMCLR = Policy(crop_prob=1.0, flip_prob=0.5, jitter_prob=0.8, grayscale_prob=0.2, name="simclr")
SIMCLR_GRAY = Policy(
    crop_prob=1.0, crop_scale=(0.2, 1.0), flip_prob=0.5, jitter_prob=0.8, name="simclr_gray"
)
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
    name="digits",
)
NONE = Policy(name="none")

POLICIES = types.MappingProxyType(
    {policy.name: policy for policy in (SIMCLR, SIMCLR_GRAY, DIGITS, NONE)}
)
_CHANGED = " (changed)"
BLUR_ABOVE = 64  # pixels: SimCLR blurs ImageNet's images and not CIFAR's


def named_policy(name: str, image_shape: tuple[int, int, int]) -> Policy:
    """The policy called `name` for images `(height, width, channels)`.

    "simclr" (Chen et al. 2020, appendices A and B.9; jitter strength 0.5): crop, flip, jitter,
    greyscale, and above 64 pixels blur with probability 0.5. "simclr_gray": crop, flip, brightness
    and contrast. "digits": small affine moves, noise, cutout. "none": nothing.

    Raises:
      ArgumentError: for any other name.
    """
    if name not in POLICIES:
        raise ArgumentError(
            "augmentation", name, f"is no augmentation policy: choose from {', '.join(POLICIES)}"
        )
    policy = POLICIES[name]
    if name.startswith("simclr") and min(image_shape[:2]) > BLUR_ABOVE:
        policy = dataclasses.replace(policy, blur_prob=0.5)
    return policy


def default_policy(dataset_name: str, image_shape: tuple[int, int, int]) -> Policy:
    """Handwritten characters: "digits"; other one-channel images: "simclr_gray"; else "simclr"."""
    if dataset_name == "digits" or dataset_name.split("/")[0] in ("mnist", "kmnist", "emnist"):
        return named_policy("digits", image_shape)
    return named_policy("simclr_gray" if image_shape[2] == 1 else "simclr", image_shape)


def policy_for(
    dataset_name: str,
    image_shape: tuple[int, int, int],
    augmentation: str | None = None,
    augmentation_overrides: str = "",
) -> Policy:
    """The policy that a run trains with.

    Args:
      dataset_name: as `sources.load` takes it.
      image_shape: (height, width, channels).
      augmentation: a name that `named_policy` knows, or None for the `default_policy`.
      augmentation_overrides: fields to change, see `override`.

    Raises:
      ArgumentError: see `named_policy` and `override`.
    """
    if augmentation is None:
        policy = default_policy(dataset_name, image_shape)
    else:
        policy = named_policy(augmentation, image_shape)
    return override(policy, augmentation_overrides)


def override(policy: Policy, changes: str, argument: str = "augmentation_overrides") -> Policy:
    """`policy` with the fields named changed, such as by "cutout_prob=0.5,crop_scale=0.2:1".

    Args:
      policy: that is changed.
      changes: separated by commas, the two ends of a range by a colon; "" changes nothing.
      argument: what an error calls them.

    Raises:
      ArgumentError: a setting without "=", an unknown or repeated field, a value that is no number
        or that `Policy` does not take.
    """
    try:
        changed = dataclasses.replace(policy, **_parse(changes))
    except ValueError as error:
        raise ArgumentError(argument, changes, f"cannot be used: {error}") from error
    if changed == policy:
        return policy
    return dataclasses.replace(changed, name=policy.name.removesuffix(_CHANGED) + _CHANGED)


def of_views(policy: Policy, second_view_overrides: str) -> Policies:
    """The policies of two views of which the second has some fields changed.

    Args:
      policy: of the first view.
      second_view_overrides: the changes, see `override`.

    Returns:
      One policy where nothing is changed, and else a pair.

    Raises:
      ArgumentError: see `override`.
    """
    second = override(policy, second_view_overrides, "second_view_overrides")
    return policy if second == policy else (policy, second)


def _parse(settings: str) -> dict[str, Any]:
    """The fields that "field=number,field=low:high" names, and their values."""
    changes: dict[str, float | tuple[float, ...]] = {}
    known = _defaults()
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
    return changes


# The settings of each operation, which mean something where its probability is above 0.
_SETTINGS = types.MappingProxyType(
    {
        "crop_prob": ("crop_scale", "crop_ratio"),
        "flip_prob": (),
        "quarter_turn_prob": (),
        "affine_prob": ("affine_degrees", "affine_translate", "affine_scale", "affine_shear"),
        "jitter_prob": ("brightness", "contrast", "saturation", "hue"),
        "grayscale_prob": (),
        "blur_prob": ("blur_sigma",),
        "solarize_prob": ("solarize_threshold",),
        "sobel_prob": (),
        "noise_prob": ("noise_std",),
        "cutout_prob": ("cutout_size",),
    }
)
_OF_COLOUR = ("saturation", "hue", "grayscale_prob")


def describe(policy: Policies, channels: int = 3) -> str:
    """One line for people: the policy's name, and the fields that do something.

    "simclr_gray: crop_prob=1 crop_scale=0.2:1 crop_ratio=0.75:1.33 flip_prob=0.5 ...". On images
    of 1 channel the fields that change colours are left out. Policies of several views follow each
    other: "view 1 by simclr: ...; view 2 by simclr (changed): ...".
    """
    if isinstance(policy, tuple):
        of_each = (f"view {n} by {describe(own, channels)}" for n, own in enumerate(policy, 1))
        return "; ".join(of_each)
    shown = []
    for probability, settings in _SETTINGS.items():
        off = getattr(policy, probability) == 0
        if off or (probability == "noise_prob" and policy.noise_std == 0):
            continue
        shown += [probability, *settings]
    if channels == 1:
        shown = [name for name in shown if name not in _OF_COLOUR]
    fields = [f"{name}={_number(getattr(policy, name))}" for name in shown]
    return f"{policy.name}: {' '.join(fields) or 'no augmentation'}"


def _number(value: float | tuple[float, float]) -> str:
    return ":".join(f"{number:.3g}" for number in (value if isinstance(value, tuple) else (value,)))


def as_dict(policy: Policy) -> dict[str, Any]:
    """All fields and the name, as JSON can hold them; `from_dict` gives the same policy."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(policy).items()
    }


def from_dict(stored: Mapping[str, Any]) -> Policy:
    """The policy of which `stored` is the `as_dict`, before or after a journey through JSON.

    Raises:
      ArgumentError: for values that a `Policy` does not take; TypeError for unknown fields.
    """
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()
    }
    return Policy(**values)
