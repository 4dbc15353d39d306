"""A picture of what a run's augmentation makes of its images."""

from pathlib import Path

from alphacl_jax.data import policies
from alphacl_jax.data.preview import draw_preview
from alphacl_jax.runs.run import Run


def preview_run(run: Run, path: Path) -> str:
    """Draws augmented pairs of images of different classes; says where, and by which policy.

    Raises:
      ArgumentError: where the picture cannot be written.
    """
    draw_preview(path, run.dataset, run.policy, seed=run.settings.seed)
    channels = run.dataset.image_shape[2]
    return f"augmented pairs: {path}\naugmentation: {policies.describe(run.policy, channels)}"
