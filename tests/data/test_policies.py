"""Policies: choice by data set, overrides, and the two views on one and on eight devices."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from alphacl_jax.data import policies
from alphacl_jax.data.policies import Policy

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
EVERYTHING = dataclasses.replace(
    policies.SIMCLR,
    quarter_turn_prob=0.5,
    affine_prob=0.5,
    affine_degrees=10.0,
    affine_translate=0.1,
    affine_shear=5.0,
    blur_prob=0.5,
    solarize_prob=0.3,
    sobel_prob=0.3,
    noise_prob=0.5,
    noise_std=0.1,
    cutout_prob=0.5,
)
two_views = jax.jit(policies.two_views, static_argnums=(2, 3, 4))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), np.uint8)


@functools.cache
def compiled_on_eight_devices(policy: Policy):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    everywhere = NamedSharding(mesh, PartitionSpec())
    function = jax.jit(
        lambda key, images: policies.two_views(key, images, policy, MEAN, STD),
        in_shardings=(everywhere, rows),
        out_shardings=rows,
    )
    return (
        function.lower(jax.random.key(0), jax.ShapeDtypeStruct((16, 8, 8, 3), jnp.uint8)).compile(),
        everywhere,
        rows,
    )


@pytest.mark.slow
def test_eight_devices_give_what_one_gives_without_moving_images(images):
    compiled, everywhere, rows = compiled_on_eight_devices(EVERYTHING)
    key = jax.random.key(7)
    sharded = compiled(jax.device_put(key, everywhere), jax.device_put(images, rows))
    assert len(sharded.sharding.device_set) == 8
    single = two_views(key, jnp.asarray(images), EVERYTHING, MEAN, STD)
    np.testing.assert_allclose(sharded, single, atol=2e-5)
    text = compiled.as_text()
    for collective in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
        assert collective not in text


def test_views_are_independent_keyed_and_repeatable(images):
    repeated = np.repeat(images[:1], 16, axis=0)
    views = two_views(jax.random.key(7), jnp.asarray(repeated), EVERYTHING, MEAN, STD)
    assert views.shape == (16, 2, 8, 8, 3)
    assert views.dtype == jnp.float32
    assert np.isfinite(views).all()
    # 32 views of one picture: each has its own draw.
    assert np.unique(np.asarray(views).reshape(32, -1).round(4), axis=0).shape[0] == 32
    again = two_views(jax.random.key(7), jnp.asarray(repeated), EVERYTHING, MEAN, STD)
    np.testing.assert_array_equal(views, again)
    other = two_views(jax.random.key(8), jnp.asarray(repeated), EVERYTHING, MEAN, STD)
    assert np.all(np.any(np.asarray(views) != np.asarray(other), axis=(2, 3, 4)))
    restored = np.asarray(views) * STD + MEAN
    assert restored.min() > -1e-5
    assert restored.max() < 1 + 1e-5


def test_no_augmentation_is_the_normalisation_of_evaluation(images):
    want = (images / 255.0 - MEAN) / STD
    np.testing.assert_allclose(policies.normalize(images, MEAN, STD), want, atol=1e-5)
    views = two_views(jax.random.key(0), jnp.asarray(images), policies.NONE, MEAN, STD)
    np.testing.assert_allclose(views, np.repeat(want[:, None], 2, 1), atol=1e-5)
    grey = images[..., :1]
    np.testing.assert_allclose(
        policies.normalize(grey, 0.5, 0.25), (grey / 255.0 - 0.5) / 0.25, atol=1e-5
    )


@pytest.mark.parametrize("policy", [policies.SIMCLR_GRAY, policies.DIGITS])
def test_one_channel_policies_run_and_change_the_images(images, policy):
    grey = jnp.asarray(images[..., :1])
    views = np.asarray(two_views(jax.random.key(0), grey, policy, (0.5,), (0.25,)))
    assert views.shape == (16, 2, 8, 8, 1)
    assert np.isfinite(views).all()
    plain = np.asarray(policies.normalize(grey, 0.5, 0.25))[:, None]
    assert np.all(np.any(np.abs(views - plain) > 1e-3, axis=(2, 3, 4)))


def test_float_images_are_refused(images):
    with pytest.raises(ValueError, match=r"must be uint8 in 0\.\.255, these are float32"):
        policies.normalize(images.astype(np.float32), MEAN, STD)


def test_policy_of_each_data_set():
    assert policies.default_policy("digits", (8, 8, 1)) == policies.DIGITS
    assert policies.default_policy("mnist", (28, 28, 1)).flip_prob == 0
    assert policies.default_policy("emnist/letters", (28, 28, 1)) == policies.DIGITS
    assert policies.default_policy("fashion_mnist", (28, 28, 1)) == policies.SIMCLR_GRAY
    small = policies.default_policy("cifar10", (32, 32, 3))
    assert (small.crop_scale, small.jitter_prob, small.grayscale_prob) == ((0.08, 1.0), 0.8, 0.2)
    assert small.blur_prob == 0
    assert policies.default_policy("folder", (64, 64, 3)).blur_prob == 0
    assert policies.default_policy("stl10", (96, 96, 3)).blur_prob == 0.5
    with pytest.raises(ValueError, match="'moco': choose from simclr, simclr_gray, digits, none"):
        policies.named_policy("moco", (32, 32, 3))


def test_policies_are_static_arguments():
    assert hash(Policy(hue=0.2)) == hash(Policy(hue=0.2))
    assert Policy(hue=0.2) == Policy(hue=0.2) != Policy(hue=0.1)


def test_override_changes_the_named_fields_only():
    changed = policies.override(
        policies.SIMCLR, " cutout_prob=0.5, noise_std=5e-2,crop_scale=0.2:1 "
    )
    want = dataclasses.replace(
        policies.SIMCLR, cutout_prob=0.5, noise_std=0.05, crop_scale=(0.2, 1.0)
    )
    assert changed == want
    assert policies.override(policies.DIGITS, "") == policies.DIGITS


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("cut_prob=0.5", "unknown augmentation field 'cut_prob': choose from crop_prob, "),
        ("cutout_prob", "setting 'cutout_prob': write field=value"),
        ("hue=lots", "hue=lots: one number is needed"),
        ("hue=0.1:0.2", "hue=0.1:0.2: one number is needed"),
        ("crop_scale=0.2", r"crop_scale=0.2: a range such as 0.2:1.0 is needed"),
        ("hue=0.1,hue=0.2", "'hue' is set twice"),
        ("flip_prob=1.5", r"flip_prob=1.5: a probability lies in \[0, 1\]"),
        ("flip_prob=nan", r"flip_prob=nan: a probability lies in \[0, 1\]"),
        ("crop_scale=1:0.2", r"crop_scale=\(1.0, 0.2\): give a range 0 < low <= high"),
        ("crop_scale=0.2:2", r"crop_scale=\(0.2, 2.0\): a share of the area is at most 1"),
        ("crop_ratio=0:1", "crop_ratio=.*0 < low <= high"),
        ("noise_std=-1", "noise_std=-1.0: must be finite and not negative"),
        ("hue=0.6", "hue=0.6: at most 0.5"),
    ],
)
def test_override_says_what_is_wrong(settings, message):
    with pytest.raises(ValueError, match=message):
        policies.override(policies.SIMCLR, settings)
