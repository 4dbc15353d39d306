"""Images changed by lot, and probes that are to name the change."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.errors import ArgumentError
from alphacl_jax.evaluation import invariances
from alphacl_jax.evaluation.invariances import mixed, told_apart

IMAGES = np.random.default_rng(0).integers(0, 256, (11, 4, 4, 3), np.uint8)


def unchanged(key, images):
    del key
    return images


def turned(count, key, images):
    del key
    return jnp.rot90(images, count, axes=(1, 2))


TURNS = [functools.partial(turned, count) for count in range(4)]


@pytest.mark.parametrize("chunk", [500, 2])
def test_each_image_is_changed_by_its_transform(monkeypatch, chunk):
    monkeypatch.setattr(invariances, "_CHUNK", chunk)
    images, which = mixed(IMAGES, TURNS)
    assert images.dtype == np.uint8
    assert sorted(np.bincount(which)) == [2, 3, 3, 3]
    for before, after, count in zip(IMAGES, images, which, strict=True):
        np.testing.assert_array_equal(after, np.rot90(before, count))


def test_what_leaves_the_range_is_clipped():
    images, which = mixed(IMAGES, [lambda key, x: x + 2.0, lambda key, x: x - 2.0])
    assert (images[which == 0] == 255).all()
    assert (images[which == 1] == 0).all()


def test_the_deal_and_the_draws_are_those_of_the_seed(monkeypatch):
    monkeypatch.setattr(invariances, "_CHUNK", 100)

    def noisy(key, images):
        return jax.random.uniform(key, images.shape)

    same = np.zeros((600, 2, 2, 1), np.uint8)
    first, which = mixed(same, [noisy, noisy], seed=1)
    again, _ = mixed(same, [noisy, noisy], seed=1)
    other, which_other = mixed(same, [noisy, noisy], seed=2)
    np.testing.assert_array_equal(first, again)
    assert (which != which_other).any()
    # No two images got the same draw, of either transform, chunk or seed.
    drawn = np.concatenate([first, other]).reshape(1200, 4)
    assert len(np.unique(drawn, axis=0)) > 1190


@pytest.mark.parametrize(
    ("images", "transforms", "problem"),
    [
        (IMAGES / 255, TURNS, "images=float64 must be uint8"),
        (IMAGES, TURNS[:1], "transforms=1 leaves nothing to tell apart"),
    ],
)
def test_impossible_arguments_are_refused(images, transforms, problem):
    with pytest.raises(ArgumentError, match=problem):
        mixed(images, transforms)


def test_a_probe_names_what_the_representation_knows_and_nothing_else():
    """Bright and dark images: their mean knows it, zeros do not."""
    rng = np.random.default_rng(0)

    def made(count, kinds):
        images = rng.integers(0, 50, (count, 2, 2, 1)) + 200 * kinds[:, None, None, None]
        return images.astype(np.uint8), kinds

    def represent(images):
        flat = images.reshape(len(images), -1).astype(np.float32)
        return {"mean": flat.mean(axis=1, keepdims=True), "blind": 0 * flat}

    train = made(40, np.arange(40) % 2)
    test = made(6, np.array([0, 0, 0, 0, 1, 1]))
    right = told_apart(represent, train, test, 2)
    assert right["mean"].tolist() == [True] * 6
    assert right["blind"].sum() in (2, 4)  # one answer for all
