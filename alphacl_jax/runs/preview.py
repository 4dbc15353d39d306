"""A picture of what a run's augmentation makes of its images."""

from pathlib import Path

import jax

from alphacl_jax.data import policies
from alphacl_jax.data.preview import pick_images, save_preview
from alphacl_jax.runs.run import Run

_IMAGES = 8


def draw_preview(run: Run, path: Path) -> str:
    """Draws augmented pairs of images of different classes; says where, and by which policy.

    Raises:
      ArgumentError: where the picture cannot be written.
    """
    images = pick_images(run.dataset.pretrain, _IMAGES, run.memory_limit_bytes)
    raw = {"images": images, "labels": jax.numpy.zeros(len(images), "int32")}
    views = jax.jit(run.make_batch)(jax.random.key(run.settings.seed), raw)["views"]
    policy = policies.describe(run.policy)
    save_preview(path, images, views, run.dataset.mean, run.dataset.std, title=policy)
    return f"augmented pairs: {path}\naugmentation: {policy}"
