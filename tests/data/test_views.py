"""Views of a batch: augmented on one and on eight devices, or normalised as they are."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from alphacl_jax.data import policies
from alphacl_jax.data.policies import Policies, Policy
from alphacl_jax.data.views import make_views, normalize

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
compiled_views = jax.jit(make_views, static_argnums=(2, 3, 4, 5))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), np.uint8)


@functools.cache
def compiled_on_eight_devices(policy: Policies):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    everywhere = NamedSharding(mesh, PartitionSpec())
    function = jax.jit(
        lambda key, images: make_views(key, images, policy, MEAN, STD),
        in_shardings=(everywhere, rows),
        out_shardings=rows,
    )
    return (
        function.lower(jax.random.key(0), jax.ShapeDtypeStruct((16, 8, 8, 3), jnp.uint8)).compile(),
        everywhere,
        rows,
    )


@pytest.mark.slow
@pytest.mark.parametrize("policy", [EVERYTHING, (EVERYTHING, policies.SIMCLR)], ids=["one", "two"])
def test_eight_devices_give_what_one_gives_without_moving_images(images, policy):
    compiled, everywhere, rows = compiled_on_eight_devices(policy)
    key = jax.random.key(7)
    sharded = compiled(jax.device_put(key, everywhere), jax.device_put(images, rows))
    assert len(sharded.sharding.device_set) == 8
    single = compiled_views(key, jnp.asarray(images), policy, MEAN, STD)
    np.testing.assert_allclose(sharded, single, atol=2e-5)
    text = compiled.as_text()
    for collective in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
        assert collective not in text


def test_views_are_independent_keyed_and_repeatable(images):
    repeated = np.repeat(images[:1], 16, axis=0)
    views = compiled_views(jax.random.key(7), jnp.asarray(repeated), EVERYTHING, MEAN, STD)
    assert views.shape == (16, 2, 8, 8, 3)
    assert views.dtype == jnp.float32
    assert np.isfinite(views).all()
    # 32 views of one picture: each has its own draw.
    assert np.unique(np.asarray(views).reshape(32, -1).round(4), axis=0).shape[0] == 32
    again = compiled_views(jax.random.key(7), jnp.asarray(repeated), EVERYTHING, MEAN, STD)
    np.testing.assert_array_equal(views, again)
    other = compiled_views(jax.random.key(8), jnp.asarray(repeated), EVERYTHING, MEAN, STD)
    assert np.all(np.any(np.asarray(views) != np.asarray(other), axis=(2, 3, 4)))
    restored = np.asarray(views) * STD + MEAN
    assert restored.min() > -1e-5
    assert restored.max() < 1 + 1e-5


def test_no_augmentation_is_the_normalisation_of_evaluation(images):
    want = (images / 255.0 - MEAN) / STD
    np.testing.assert_allclose(normalize(images, MEAN, STD), want, atol=1e-5)
    views = compiled_views(jax.random.key(0), jnp.asarray(images), policies.NONE, MEAN, STD)
    np.testing.assert_allclose(views, np.repeat(want[:, None], 2, 1), atol=1e-5)
    grey = images[..., :1]
    np.testing.assert_allclose(normalize(grey, 0.5, 0.25), (grey / 255.0 - 0.5) / 0.25, atol=1e-5)


@pytest.mark.parametrize("policy", [policies.SIMCLR_GRAY, policies.DIGITS])
def test_one_channel_policies_run_and_change_the_images(images, policy):
    grey = jnp.asarray(images[..., :1])
    views = np.asarray(compiled_views(jax.random.key(0), grey, policy, (0.5,), (0.25,)))
    assert views.shape == (16, 2, 8, 8, 1)
    assert np.isfinite(views).all()
    plain = np.asarray(normalize(grey, 0.5, 0.25))[:, None]
    assert np.all(np.any(np.abs(views - plain) > 1e-3, axis=(2, 3, 4)))


def test_float_images_are_refused(images):
    with pytest.raises(ValueError, match=r"must be uint8 in 0\.\.255, these are float32"):
        normalize(images.astype(np.float32), MEAN, STD)


def test_as_many_views_as_asked_each_with_a_draw_of_its_own(images):
    cheap = Policy(cutout_prob=1.0, cutout_size=0.25)
    repeated = jnp.asarray(np.repeat(images[:1], 4, axis=0))
    views = compiled_views(jax.random.key(0), repeated, cheap, MEAN, STD, 3)
    assert views.shape == (4, 3, 8, 8, 3)
    in_a_row = np.asarray(views).reshape(12, 8, 8, 3)
    assert len(np.unique(in_a_row, axis=0)) >= 10  # of 64 places for the hole
    # The views of one image lie beside each other: those of the next are drawn after them.
    single = compiled_views(jax.random.key(0), jnp.repeat(repeated, 3, axis=0), cheap, MEAN, STD, 1)
    assert single.shape == (12, 1, 8, 8, 3)
    np.testing.assert_array_equal(single[:, 0], in_a_row)
    with pytest.raises(ValueError, match="views=0 must be at least 1"):
        make_views(jax.random.key(0), repeated, cheap, MEAN, STD, 0)


def test_each_view_by_its_own_policy(images):
    pair = (policies.NONE, Policy(crop_prob=1.0, grayscale_prob=1.0))
    views = np.asarray(compiled_views(jax.random.key(0), jnp.asarray(images), pair, MEAN, STD))
    np.testing.assert_allclose(views[:, 0], normalize(images, MEAN, STD), atol=1e-5)
    second = views[:, 1] * STD + MEAN
    np.testing.assert_allclose(second, np.repeat(second[..., :1], 3, axis=-1), atol=1e-5)
    with pytest.raises(ValueError, match="views=3 must be 2, one for each policy"):
        make_views(jax.random.key(0), jnp.asarray(images), pair, MEAN, STD, views=3)


def test_views_by_different_policies_are_drawn_apart(images):
    # They differ in nothing that is done.
    pair = Policy(noise_std=0.1), Policy(noise_std=0.1, cutout_size=0.25)
    views = compiled_views(jax.random.key(0), jnp.asarray(images), pair, MEAN, STD)
    assert np.mean(np.asarray(views[:, 0]) != np.asarray(views[:, 1])) > 0.9
