"""The preview shows each original beside its two views."""

import numpy as np
import pytest
from matplotlib import image as matplotlib_image

from alphacl_jax.data.preview import save_preview


@pytest.mark.parametrize("channels", [1, 3])
def test_preview_draws_the_originals_and_the_restored_views(tmp_path, channels):
    colours = np.array([[0.8, 0.4, 0.2], [0.1, 0.9, 0.5], [0.3, 0.2, 0.7]])[:, :channels]
    mean, std = np.full(channels, 0.45), np.full(channels, 0.2)
    images = np.tile(np.round(colours[0] * 255).astype(np.uint8), (5, 4, 4, 1))
    views = np.tile(((colours[1:] - mean) / std)[None, :, None, None], (5, 1, 4, 4, 1))
    path = tmp_path / "made" / "preview.png"
    save_preview(path, images, views, mean, std, rows=2)
    picture = matplotlib_image.imread(path)[..., :3]
    height, width, _ = picture.shape
    # The middle of each column in the middle of the lower row.
    for column in range(3):
        shown = picture[int(0.77 * height), int((column + 0.5) / 3 * width)]
        np.testing.assert_allclose(shown, np.resize(colours[column], 3), atol=0.01)


def test_preview_refuses_views_of_other_images(tmp_path):
    with pytest.raises(AssertionError, match="shape"):
        save_preview(
            tmp_path / "x.png", np.zeros((3, 4, 4, 1), np.uint8), np.zeros((2, 2, 4, 4, 1)), 0, 1
        )
