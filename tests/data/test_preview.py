"""The preview shows images of different classes, each beside its views."""

import numpy as np
import pytest
from matplotlib import image as matplotlib_image

from alphacl_jax.data import preview
from alphacl_jax.data.arrays import dataset_from_arrays
from alphacl_jax.data.images import UnreadableImage
from alphacl_jax.data.policies import Policy
from alphacl_jax.data.preview import choose_images, draw_preview, save_preview
from alphacl_jax.data.reading import ArraySource, Split
from alphacl_jax.errors import ArgumentError


@pytest.mark.parametrize(("channels", "views"), [(1, 2), (3, 2), (3, 1), (3, 4)])
def test_preview_draws_the_originals_and_the_restored_views(tmp_path, channels, views):
    colours = np.random.default_rng(3).uniform(0.1, 0.9, (1 + views, channels))
    mean, std = np.full(channels, 0.45), np.full(channels, 0.2)
    images = np.tile(np.round(colours[0] * 255).astype(np.uint8), (5, 4, 4, 1))
    drawn = np.tile(((colours[1:] - mean) / std)[None, :, None, None], (5, 1, 4, 4, 1))
    path = tmp_path / "preview.png"
    save_preview(path, images, drawn, mean, std, rows=2, caption="a", names=list("abcde"))
    picture = matplotlib_image.imread(path)[..., :3]
    height, width, _ = picture.shape
    # The middle of each column in the middle of the lower row.
    for column in range(1 + views):
        shown = picture[int(0.77 * height), int((column + 0.5) / (1 + views) * width)]
        np.testing.assert_allclose(shown, np.resize(colours[column], 3), atol=0.01)


def test_names_of_any_kind_are_drawn(tmp_path):
    names = ["$10_to_$20", r"\frac{a}{", "犬と猫", "x" * 200]
    images, views = np.zeros((4, 4, 4, 1), np.uint8), np.zeros((4, 1, 4, 4, 1))
    path = tmp_path / "x.png"
    save_preview(path, images, views, np.zeros(1), np.ones(1), caption="$a_ $", names=names)
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]
    assert preview._shortened("x" * 100 + "end") == "xxxxxxxxxx…xxxxxxxxend"


def test_preview_refuses_views_of_other_images(tmp_path):
    with pytest.raises(AssertionError, match="shape"):
        save_preview(
            tmp_path / "x.png", np.zeros((3, 4, 4, 1), np.uint8), np.zeros((2, 2, 4, 4, 1)), 0, 1
        )


def _split(labels: list[int]) -> Split:
    """Image i is filled with i."""
    images = np.broadcast_to(
        np.arange(len(labels), dtype=np.uint8)[:, None, None, None], (len(labels), 2, 2, 1)
    )
    return Split(ArraySource(images, np.array(labels, np.int32)), labelled=True)


def test_different_classes_are_drawn_and_always_the_same_images():
    split = _split([0] * 80 + [1] * 15 + [2, 3, 4, 5, 6])
    images, labels = choose_images(split, 7, classes=7)
    assert labels.tolist() == list(range(7))
    np.testing.assert_array_equal(split.source.labels[images[:, 0, 0, 0]], labels)
    np.testing.assert_array_equal(choose_images(split, 7, classes=7)[0], images)
    # Fewer classes than rows: in turn, and no image twice.
    images, labels = choose_images(_split([0, 1] * 20), 5, classes=2)
    assert labels[:4].tolist() == [0, 1, 0, 1]
    assert len(set(images[:, 0, 0, 0].tolist())) == 5
    assert len(set(choose_images(_split([0] * 4), 3, classes=3)[1])) == 1  # all that there are
    images, labels = choose_images(_split([-1] * 9), 20, classes=0)
    assert sorted(images[:, 0, 0, 0].tolist()) == list(range(9))


def test_damaged_images_are_passed_over():
    class Damaged:
        image_shape = (2, 2, 1)

        def __init__(self, good):
            self.good = good

        def __len__(self):
            return 10

        def __getitem__(self, index):
            if index not in self.good:
                raise UnreadableImage("broken")
            return {"image": np.full((2, 2, 1), index, np.uint8), "label": -1}

    images, _ = choose_images(Split(Damaged({3, 4}), labelled=False), 8, classes=0)
    assert sorted(images[:, 0, 0, 0].tolist()) == [3, 4]
    with pytest.raises(UnreadableImage, match="none of 10 images can be read"):
        choose_images(Split(Damaged(set()), labelled=False), 8, classes=0)


@pytest.mark.parametrize("labelled", [True, False])
def test_a_preview_names_the_policy_and_the_classes(tmp_path, labelled, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (30, 6, 6, 1), np.uint8)
    labels = np.arange(30) % 3 if labelled else None
    data = dataset_from_arrays(images, labels, name="things")
    saved = {}
    monkeypatch.setattr(
        preview, "save_preview", lambda path, *arrays, **text: saved.update(text, arrays=arrays)
    )
    policy = Policy(cutout_prob=1.0, name="mine")
    draw_preview(tmp_path / "x.png", data, policy, views=3, rows=4)
    assert saved["caption"] == "things, augmented by mine: cutout_prob=1 cutout_size=0.5"
    assert (saved["names"] and saved["names"][:3]) == (["0", "1", "2"] if labelled else None)
    originals, views = saved["arrays"][:2]
    assert views.shape == (4, 3, 6, 6, 1)
    restored = np.asarray(views) * data.std + data.mean
    same = np.isclose(restored, originals[:, None] / 255, atol=1e-5)
    assert 0.5 < same.mean() < 0.95
    np.testing.assert_allclose(restored[~same], data.mean[0], atol=1e-5)


def test_a_preview_is_written(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (30, 6, 6, 3), np.uint8)
    draw_preview(tmp_path / "x.png", dataset_from_arrays(images), Policy(), rows=2)
    assert matplotlib_image.imread(tmp_path / "x.png").ndim == 3


def test_paths_that_cannot_be_written(tmp_path):
    data = dataset_from_arrays(np.zeros((4, 6, 6, 1), np.uint8))
    with pytest.raises(ArgumentError, match=r"preview=.*gone/x\.png .*there is no folder .*gone\."):
        draw_preview(tmp_path / "gone" / "x.png", data, Policy())
    assert not (tmp_path / "gone").exists()
    with pytest.raises(ArgumentError, match=r"preview=.* is a folder\. Give a file") as error:
        draw_preview(tmp_path, data, Policy())
    assert error.value.argument == "preview"
