"""What was done to an image, for linear probes of h, g(h) and z to name: `projection_head`."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from alphacl_jax.data.augment import random_gaussian_noise, random_grayscale, random_sobel
from alphacl_jax.evaluation.invariances import Transform, mixed, told_apart
from alphacl_jax.evaluation.probes import standard_error
from alphacl_jax.runs.cells import Cell
from alphacl_jax.runs.encoder import Encoder
from alphacl_jax.runs.networks import make_projector
from experiments.studies.report import as_bits
from experiments.studies.study import Study

NOISE_STD = 0.1
H, G, Z = "h", "g(h)", "z"


class Published(NamedTuple):
    """Figures of SimCLR's Table 3, shares of 1."""

    chance: float
    h: float
    g: float


class Task(NamedTuple):
    """Something that was done to images, for a probe to name.

    Attributes:
      key: of its accuracy in a cell.
      title: in tables and pictures.
      transforms: the ways in which an image may have been changed.
      published: what SimCLR found.
      overrides: the augmentation that makes it as likely in training; "" where that is left as it
        is.
    """

    key: str
    title: str
    transforms: Sequence[Transform]
    published: Published
    overrides: str = ""


def _unchanged(key: Array, images: Array) -> Array:
    del key
    return images


def _turned(count: int, key: Array, images: Array) -> Array:
    del key
    return jnp.rot90(images, count, axes=(1, 2))


COLOUR = Task(
    "colour",
    "colour or grey",
    (_unchanged, functools.partial(random_grayscale, prob=1.0)),
    Published(0.80, 0.993, 0.974),
)
TURNS = Task(
    "turns",
    "quarter turns",
    [functools.partial(_turned, count) for count in range(4)],
    Published(0.25, 0.676, 0.256),
    "quarter_turn_prob=0.75",
)
NOISE = Task(
    "noise",
    "noise added",
    (_unchanged, functools.partial(random_gaussian_noise, std=NOISE_STD)),
    Published(0.50, 0.995, 0.596),
    f"noise_prob=0.5,noise_std={NOISE_STD}",
)
SOBEL = Task(
    "sobel",
    "Sobel-filtered",
    (_unchanged, random_sobel),
    Published(0.50, 0.966, 0.563),
    "sobel_prob=0.5",
)
_ALL = (COLOUR, TURNS, NOISE, SOBEL)
_CLASSES = {"classes": "class"}


def tasks_of(image_shape: tuple[int, int, int]) -> list[Task]:
    """The tasks that images (height, width, channels) allow."""
    height, width, channels = image_shape
    possible = {COLOUR.key: channels > 1, TURNS.key: height == width}
    return [task for task in _ALL if possible.get(task.key, True)]


def titles_of(tasks: Sequence[Task]) -> dict[str, str]:
    """Key → title, of the classes and of what was done to the images."""
    return _CLASSES | {task.key: task.title for task in tasks}


def left_out(tasks: Sequence[Task]) -> str:
    """The titles of those that are not among the tasks."""
    known = {task.key for task in tasks}
    return ", ".join(task.title for task in _ALL if task.key not in known)


def represented(encoder: Encoder, images: np.ndarray) -> dict[str, np.ndarray]:
    """h, g(h) and z of images, each `[n, dim]`."""
    features = encoder(images)
    projector = make_projector(encoder.settings.model)
    variables = {
        "params": encoder.params["projector"],
        "batch_stats": encoder.state["projector"],
    }
    projected = projector.apply(variables, features, train=False)
    return {H: features, G: np.asarray(projected), Z: encoder.embed(images)}


def measure(study: Study, encoder: Encoder) -> dict[str, Cell]:
    """What probes of h, g(h) and z name rightly: a cell for each of them."""
    found: dict[str, Cell] = {part: {"correct": {}} for part in (H, G, Z)}

    def add(key: str, train: Any, test: Any, num_kinds: int) -> None:
        represent = functools.partial(represented, encoder)
        for part, right in told_apart(represent, train, test, num_kinds).items():
            found[part] |= {key: float(right.mean()), f"{key}_se": standard_error(right[None])}
            found[part]["correct"][key] = as_bits(right)

    for key in _CLASSES:
        add(key, study.train, study.test, len(study.dataset.class_names))
    for task in tasks_of(study.dataset.image_shape):
        train, test = (
            mixed(images, task.transforms, seed=seed)
            for seed, (images, _) in enumerate((study.train, study.test))
        )
        add(task.key, train, test, len(task.transforms))
    return found


def chances(test_labels: np.ndarray, tasks: Sequence[Task]) -> dict[str, float]:
    """What a probe gets right that knows nothing: of classes, the share of the most frequent."""
    most = int(np.max(np.bincount(test_labels))) / len(test_labels)
    return {
        **dict.fromkeys(_CLASSES, most),
        **{task.key: 1 / len(task.transforms) for task in tasks},
    }


def parts_of(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """The cells of h, g(h) and z in those of a variant; a diverged one stands for all three."""
    return {part: [cell.get(part, cell) for cell in cells] for part in (H, G, Z)}
