"""Pixel operations against NumPy and SciPy oracles of torchvision's formulas."""

import colorsys
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from alphacl_jax.data import augment

ORDERS = np.array(list(itertools.permutations(range(3)))).T  # [3, 6]
BATCH = ORDERS.shape[1]
LUMA = np.array([0.2989, 0.587, 0.114])

# Compiled whole: eager calls would compile each primitive on its own.
adjust_colors = jax.jit(augment.adjust_colors)
random_color_jitter = jax.jit(augment.random_color_jitter, static_argnums=(2, 3, 4, 5, 6))
random_grayscale = jax.jit(augment.random_grayscale)
random_solarize = jax.jit(augment.random_solarize)
gaussian_blur = jax.jit(augment.gaussian_blur, static_argnums=2)
random_gaussian_blur = jax.jit(augment.random_gaussian_blur)
random_gaussian_noise = jax.jit(augment.random_gaussian_noise)
random_sobel = jax.jit(augment.random_sobel)
random_cutout = jax.jit(augment.random_cutout, static_argnums=(3, 4))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    rng = np.random.default_rng(0)
    out = rng.random((BATCH, 10, 9, 3), np.float32)
    out[:, 0] = out[:, 0, :, :1]  # grey pixels: hue undefined
    out[:, 1, :, 1] = out[:, 1, :, 0]  # two equal channels: on an edge of the hue circle
    out[:, 2] = 0.0
    out[:, 3] = 1.0
    return out


def grey(image: np.ndarray) -> np.ndarray:
    return (image * (LUMA if image.shape[-1] == 3 else 1.0)).sum(-1, keepdims=True)


def oracle_jitter(image, brightness, contrast, saturation, hue, order, hue_place):
    def clip(x):
        return np.clip(x, 0, 1)

    def shift_hue(x):
        if x.shape[-1] == 1:
            return x
        out = np.empty_like(x)
        for place in np.ndindex(x.shape[:2]):
            h, s, v = colorsys.rgb_to_hsv(*x[place])
            out[place] = colorsys.hsv_to_rgb((h + hue) % 1.0, s, v)
        return out

    linear = [
        lambda x: clip(brightness * x),
        lambda x: clip(contrast * x + (1 - contrast) * grey(x).mean()),
        lambda x: clip(saturation * x + (1 - saturation) * grey(x)),
    ]
    steps = [linear[i] for i in order]
    steps.insert(hue_place, shift_hue)
    image = image.astype(float)
    for step in steps:
        image = step(image)
    return image


@pytest.mark.parametrize("channels", [3, 1])
def test_jitter_equals_torchvisions_formulas_in_every_order(images, channels):
    images = images[..., :channels]
    rng = np.random.default_rng(1)
    brightness, contrast, saturation = rng.uniform(0.3, 1.7, (3, BATCH))
    hue = np.array([0.0, 0.5, -0.5, 0.1, -0.1, 0.3])
    for hue_place in range(4):
        got = adjust_colors(
            jnp.asarray(images),
            *(jnp.asarray(v, jnp.float32) for v in (brightness, contrast, saturation, hue)),
            jnp.asarray(ORDERS),
            hue_place,
        )
        for n in range(BATCH):
            want = oracle_jitter(
                images[n],
                brightness[n],
                contrast[n],
                saturation[n],
                hue[n],
                ORDERS[:, n],
                hue_place,
            )
            np.testing.assert_allclose(got[n], want, atol=3e-6)


def test_jitter_draws_within_torchvisions_ranges_per_image():
    count = 2000
    # On one pixel of one colour, brightness alone scales the value.
    flat = jnp.full((count, 1, 1, 3), 0.5)
    out = np.asarray(random_color_jitter(jax.random.key(0), flat, 0.7, 0.4, 0.0, 0.0, 0.0))
    factor = out[:, 0, 0, 0] / 0.5
    still = np.abs(factor - 1) < 1e-5
    assert still.mean() == pytest.approx(0.3, abs=0.04)
    drawn = factor[~still]
    assert 0.6 <= drawn.min() < 0.61
    assert 1.39 < drawn.max() <= 1.4 + 1e-5
    assert drawn.mean() == pytest.approx(1.0, abs=0.02)
    # A strength above 1 starts at 0 and not below.
    out = random_color_jitter(jax.random.key(1), flat, 1.0, 1.5, 0.0, 0.0, 0.0)
    assert float(out.min()) < 0.01
    # On pure red, the hue alone moves the colour: by at most 0.1 turn = 0.6 of the ramp.
    red = jnp.tile(jnp.asarray([1.0, 0.0, 0.0]), (count, 1, 1, 1))
    out = np.asarray(random_color_jitter(jax.random.key(2), red, 1.0, 0.0, 0.0, 0.0, 0.1))[:, 0, 0]
    np.testing.assert_allclose(out[:, 0], 1.0, atol=1e-5)
    assert 0.59 < out[:, 1].max() <= 0.6 + 1e-5
    assert 0.59 < out[:, 2].max() <= 0.6 + 1e-5
    assert (out[:, 1] > 0).mean() == pytest.approx(0.5, abs=0.04)


def test_colour_operations_refuse_other_channel_counts(images):
    with pytest.raises(ValueError, match="1 or 3 channels, these images have 2"):
        augment.random_grayscale(jax.random.key(0), jnp.asarray(images[..., :2]))


def share_changed(out: np.ndarray, before: np.ndarray) -> float:
    return float(np.any(np.asarray(out) != before, axis=(1, 2, 3)).mean())


def test_grayscale_and_solarize(images):
    many = np.tile(images[:1], (400, 1, 1, 1))
    out = np.asarray(random_grayscale(jax.random.key(0), jnp.asarray(many), 0.2))
    assert share_changed(out, many) == pytest.approx(0.2, abs=0.06)
    changed = out[np.any(out != many, axis=(1, 2, 3))][0]
    np.testing.assert_allclose(changed, np.broadcast_to(grey(images[0]), changed.shape), atol=1e-6)
    one = jnp.asarray(images[..., :1])
    np.testing.assert_array_equal(random_grayscale(jax.random.key(0), one, 1.0), one)

    out = np.asarray(random_solarize(jax.random.key(0), jnp.asarray(many), 0.3, 0.6))
    assert share_changed(out, many) == pytest.approx(0.3, abs=0.07)
    changed = out[np.any(out != many, axis=(1, 2, 3))][0]
    np.testing.assert_array_equal(changed, np.where(images[0] < 0.6, images[0], 1 - images[0]))


def test_blur_is_the_mirrored_convolution_with_each_images_own_kernel(images):
    sigma = np.array([0.1, 0.5, 1.0, 2.0, 0.0, 1.5])
    got = gaussian_blur(jnp.asarray(images), jnp.asarray(sigma, jnp.float32), 5)
    for n in range(BATCH):
        kernel = np.exp(-0.5 * (np.arange(-2, 3) / max(sigma[n], 1e-3)) ** 2)
        kernel /= kernel.sum()
        want = images[n].astype(float)
        for axis in (0, 1):
            want = ndimage.correlate1d(want, kernel, axis=axis, mode="mirror")
        np.testing.assert_allclose(got[n], want, atol=1e-6)
    assert [augment.blur_kernel_size(s) for s in (8, 32, 96, 224)] == [3, 3, 9, 23]


@pytest.mark.parametrize("kernel_size", [4, 21])
def test_blur_refuses_kernels_it_cannot_centre(images, kernel_size):
    with pytest.raises(ValueError, match=f"kernel_size={kernel_size} must be odd, .* 10x9"):
        augment.gaussian_blur(jnp.asarray(images), jnp.ones(BATCH), kernel_size)


def test_random_blur_applies_with_its_probability(images):
    many = jnp.tile(images[:1], (400, 1, 1, 1))
    out = np.asarray(random_gaussian_blur(jax.random.key(0), many, 0.4, (0.5, 2.0)))
    changed = np.abs(out - images[0]).max((1, 2, 3)) > 1e-4
    assert changed.mean() == pytest.approx(0.4, abs=0.08)


def test_noise_has_its_spread_and_stays_in_range():
    middle = jnp.full((200, 8, 8, 1), 0.5)
    out = np.asarray(random_gaussian_noise(jax.random.key(0), middle, 0.5, 0.05))
    noisy = np.any(out != 0.5, axis=(1, 2, 3))
    assert noisy.mean() == pytest.approx(0.5, abs=0.1)
    assert (out[noisy] - 0.5).mean() == pytest.approx(0.0, abs=0.003)
    assert (out[noisy] - 0.5).std() == pytest.approx(0.05, rel=0.03)
    out = np.asarray(random_gaussian_noise(jax.random.key(0), middle, 1.0, 5.0))
    assert out.min() == 0
    assert out.max() == 1


def test_sobel_is_scipys(images):
    out = np.asarray(random_sobel(jax.random.key(0), jnp.asarray(images), 1.0))
    for n in range(BATCH):
        plane = grey(images[n].astype(float))[..., 0]
        along = [ndimage.sobel(plane, axis, mode="nearest") / 4 for axis in (0, 1)]
        want = np.sqrt((along[0] ** 2 + along[1] ** 2) / 2)
        np.testing.assert_allclose(out[n], np.repeat(want[..., None], 3, -1), atol=1e-6)


def test_cutout_fills_one_clipped_box_per_image():
    count, height, width = 1000, 8, 10
    ones = jnp.ones((count, height, width, 2))
    fill = jnp.asarray([0.25, 0.5])
    out = np.asarray(random_cutout(jax.random.key(0), ones, fill, 0.6, 0.5))
    hole = out[..., 0] == 0.25
    np.testing.assert_array_equal(hole, out[..., 1] == 0.5)
    assert np.all(hole | (out[..., 0] == 1.0))
    cut = hole.any((1, 2))
    assert cut.mean() == pytest.approx(0.6, abs=0.05)
    rows, columns = hole.any(2)[cut], hole.any(1)[cut]
    np.testing.assert_array_equal(hole[cut], rows[:, :, None] & columns[:, None, :])  # a box
    assert rows.sum(1).max() == 4
    assert rows.sum(1).min() == 2  # the centre is on the border
    assert columns.sum(1).max() == 5
    for lines in (rows, columns):  # contiguous
        assert np.all((np.diff(lines.astype(int), axis=1) == 1).sum(1) <= 1)
