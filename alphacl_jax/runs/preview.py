"""A picture of what a run's augmentation makes of its images."""

from pathlib import Path

from alphacl_jax.data import policies
from alphacl_jax.data.preview import draw_preview
from alphacl_jax.runs.run import Run


def preview_run(run: Run, path: Path) -> str:
    """Draws augmented pairs of images of different classes; says where, and by which policies.

    Raises:
      ArgumentError: where the picture cannot be written.
    """
    draw_preview(path, run.dataset, run.view_policies, seed=run.settings.seed)
    described = policies.describe(run.view_policies, run.dataset.image_shape[2])
    return f"augmented pairs: {path}\naugmentation: {described}"
