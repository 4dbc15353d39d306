"""The settings of a run on images: what flags are made from, and a run folder stores.

    RunSettings(data=DataSettings(dataset="cifar10"), optimizer=OptimizerSettings(epochs=200))

Each field carries its help text and its range. A value out of range is an `ArgumentError` that
names the field.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from alphacl_jax.data.decoding import (
    MAX_MEGAPIXELS,
    MOST_MEGAPIXELS,
    Decoding,
    parse_pixel_range,
)
from alphacl_jax.errors import ArgumentError
from alphacl_jax.runs.common_settings import (
    AnyEvaluationSettings,
    AnyOptimizerSettings,
    AnyRunSettings,
)
from alphacl_jax.runs.fields import check_settings, require_default, setting
from alphacl_jax.runs.method_settings import (
    LOSSES,
    METHODS,
    ContrastiveSettings,
    DirectCLRSettings,
    MethodSettings,
    QueueSettings,
    SiameseSettings,
    SupervisedSettings,
)

__all__ = [
    "LOSSES",
    "METHODS",
    "PLACES",
    "AugmentationSettings",
    "ContrastiveSettings",
    "DataSettings",
    "DirectCLRSettings",
    "EvaluationSettings",
    "MethodSettings",
    "ModelSettings",
    "OptimizerSettings",
    "QueueSettings",
    "RunSettings",
    "SiameseSettings",
    "SupervisedSettings",
]

# Settings that name places of the machine where a run was made.
PLACES = ("data_dir", "init_from")


@dataclass(frozen=True)
class DataSettings:
    """What is trained on."""

    dataset: str = setting(
        "digits",
        "digits (ships with scikit-learn), folder, or a TFDS image classification data set: "
        "cifar10, cifar100, stl10, fashion_mnist, ...",
        basic=True,
    )
    data_dir: str | None = setting(
        None,
        "For folder: the folder with train/CLASS/* and test/CLASS/*, or with unlabelled images. "
        "For TFDS: where it keeps its data sets; its own default otherwise.",
        basic=True,
    )
    image_size: int | None = setting(
        None, "Resize and crop images to this side. Default: as they are.", lower=1, basic=True
    )
    pixel_range: str | None = setting(
        None,
        "For folder: LOW:HIGH, the values of pixels of more than 8 bits that become 0 and 255, as "
        "0:4095 of a 12-bit camera, or auto: the range of the training files. Default: 0:65535.",
    )
    max_megapixels: float | None = setting(
        None,
        "Image files of more pixels than this, in millions, are left out. "
        f"Default: {MAX_MEGAPIXELS:g}.",
        above=0,
        upper=MOST_MEGAPIXELS,
    )
    memory_limit_mb: int = setting(
        2048,
        "Data sets of up to this size live on the devices; larger ones are streamed.",
        lower=0,
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.pixel_range is not None:
            parse_pixel_range(self.pixel_range)
            if self.dataset != "folder":
                require_default(self, "pixel_range", "folders of images")

    @property
    def decoding(self) -> Decoding:
        """How image files are decoded."""
        return Decoding(
            None if self.pixel_range is None else parse_pixel_range(self.pixel_range),
            MAX_MEGAPIXELS if self.max_megapixels is None else self.max_megapixels,
        )


@dataclass(frozen=True)
class AugmentationSettings:
    """How views are made of an image."""

    augmentation: str | None = setting(
        None, "simclr, simclr_gray, digits or none. Default: what suits the data set."
    )
    augmentation_overrides: str = setting(
        "",
        "Changes to the augmentation, such as 'cutout_prob=0.5,crop_scale=0.2:1,sobel_prob=0.1'; "
        "the fields are those of alphacl_jax.data.policies.Policy.",
    )
    second_view_overrides: str = setting(
        "",
        "Changes to the augmentation of the second view alone, such as 'solarize_prob=0.2' "
        "(BYOL's) or 'jitter_prob=0,grayscale_prob=0': the same fields. Default: none.",
    )
    views: str = setting(
        "2",
        "Views of each image; 2+4 are two of the images' size and four small crops. The methods "
        "supervised and siamese take others than 2.",
    )
    small_crop_scale: str = setting(
        "0.05:0.4", "The range of a small crop's share of the image's area."
    )
    small_side: int | None = setting(
        None, "The side of the small crops, in pixels. Default: half of the image's.", lower=1
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if not re.fullmatch(r"[1-9][0-9]?(\+[1-9][0-9]?)?", self.views):
            problem = "must be a number of views, such as 2, or of large and small ones: 2+4"
            raise ArgumentError("views", self.views, problem)
        if self.large_views != 2:
            readers = "runs with two large views, such as views=2 or views=2+4,"
            require_default(self, "second_view_overrides", readers)
        scale = self.small_scale
        if not (len(scale) == 2 and 0 < scale[0] <= scale[1] <= 1):
            problem = "must be LOW:HIGH with 0 < LOW <= HIGH <= 1"
            raise ArgumentError("small_crop_scale", self.small_crop_scale, problem)
        if not self.small_views:
            for name in ("small_crop_scale", "small_side"):
                require_default(self, name, "runs with small views, such as views=2+4,")

    @property
    def large_views(self) -> int:
        """How many views have the size of the images."""
        return int(self.views.partition("+")[0])

    @property
    def small_views(self) -> int:
        """How many are small crops."""
        return int(self.views.partition("+")[2] or 0)

    @property
    def small_scale(self) -> tuple[float, ...]:
        """The range of a small crop's share of the area; nothing where the text is no range."""
        try:
            return tuple(float(part) for part in self.small_crop_scale.split(":"))
        except ValueError:
            return ()


@dataclass(frozen=True)
class ModelSettings:
    """The network."""

    encoder: str = setting(
        "small",
        "small is one block per stage, for little images.",
        choices=("small", "resnet18", "resnet34", "resnet50"),
        basic=True,
    )
    widths: tuple[int, ...] = setting(
        (32, 64, 128), "Channels of each stage of the encoder 'small'."
    )
    stem: str = setting(
        "auto",
        "small is a 3x3 convolution, large ImageNet's 7x7 and pooling; auto takes small up to "
        "64 pixels. The encoder 'small' always has the small one.",
        choices=("auto", "small", "large"),
    )
    encoder_norm: str = setting(
        "batch",
        "In the encoder: BatchNorm; GroupNorm of 32 groups, or the most below that divide the "
        "channels; or layer, one group of all channels and positions. The last two look at each "
        "image by itself.",
        choices=("batch", "group", "layer"),
    )
    projector_hidden: int = setting(256, "Width of the projector's hidden layers.", lower=1)
    projector_depth: int = setting(
        2, "Layers of the projector: 2 is SimCLR's, 1 linear, 0 none.", lower=0
    )
    projector_dim: int = setting(128, "Width of the embedding that the loss sees.", lower=1)
    projector_norm: str = setting(
        "affine",
        "BatchNorm on the projector's hidden layers.",
        choices=("none", "affine", "no_affine"),
    )
    projector_output_norm: str = setting(
        "none",
        "BatchNorm on the projector's output, as SimSiam has it.",
        choices=("none", "affine", "no_affine"),
    )
    dtype: str = setting("float32", "Of the model's computation.", choices=("float32", "bfloat16"))
    init_from: str | None = setting(
        None, "A run folder, or an export of one, whose encoder this run starts from."
    )

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class OptimizerSettings(AnyOptimizerSettings):
    """How a run on images is trained."""

    batch_size: int = setting(128, "Images per step, over all devices.", lower=2, basic=True)
    micro_batch: int | str | None = setting(
        None,
        "Embed the batch in chunks of this many images, over all devices, and again for the "
        "gradient: the memory of a chunk, for a third more work. The loss is the whole batch's. "
        "BatchNorm normalises each chunk by itself, and its running statistics move once a chunk. "
        "The supervised row does not read it. auto: the largest chunk within activations_mb; the "
        "run's flags hold the number. Default: the whole batch at once.",
    )
    activations_mb: int = setting(
        1024,
        "With micro_batch=auto: what the activations of a chunk, kept for the gradient, may take "
        "on each device, for one seed.",
        lower=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.micro_batch != "auto":
            require_default(self, "activations_mb", "runs with micro_batch=auto")
        if isinstance(self.micro_batch, int) and self.batch_size % self.micro_batch:
            problem = f"must divide the batch, which has {self.batch_size} images"
            raise ArgumentError("micro_batch", self.micro_batch, problem)


@dataclass(frozen=True)
class EvaluationSettings(AnyEvaluationSettings):
    """What is looked at while a run on images trains and after it."""

    supervised: bool = setting(
        False,
        "Train the same network on the labels too, and add its row to the table.",
    )


@dataclass(frozen=True)
class RunSettings(AnyRunSettings):
    """All settings of a run on images.

    Attributes:
      seed: of the initial weights, the order of the data and the augmentation.
      num_seeds: how many runs, of `seed` and the seeds after it, are trained.
      data, augmentation, model, method, optimizer, evaluation: the settings by subject. Which
        method is trained follows from the class of `method`.
    """

    methods: ClassVar[Mapping[str, type[MethodSettings]]] = METHODS

    data: DataSettings = DataSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    model: ModelSettings = ModelSettings()
    method: MethodSettings = ContrastiveSettings()  # noqa: RUF009 - frozen
    optimizer: OptimizerSettings = OptimizerSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
