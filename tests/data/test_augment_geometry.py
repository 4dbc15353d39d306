"""Crop, flip, turns and affine moves against NumPy, Pillow and SciPy oracles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from alphacl_jax.data import geometry

BATCH, HEIGHT, WIDTH = 6, 12, 16

# Compiled whole: eager calls would compile each primitive on its own.
draw_crops = jax.jit(geometry.draw_crops, static_argnums=(1, 2, 3, 4, 5))
resized_crop = jax.jit(geometry.resized_crop, static_argnums=5)
random_resized_crop = jax.jit(
    geometry.random_resized_crop, static_argnames=("scale", "prob", "flip_prob")
)
random_affine = jax.jit(geometry.random_affine, static_argnames=("prob", "degrees", "translate"))
random_flip = jax.jit(geometry.random_flip)
random_quarter_turns = jax.jit(geometry.random_quarter_turns)
affine = jax.jit(geometry.affine)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).random((BATCH, HEIGHT, WIDTH, 3), np.float32)


def oracle_weights(length: int, out_size: int) -> np.ndarray:
    """[out, length]: antialiased bilinear resizing, as Pillow and torchvision loop over it."""
    scale = length / out_size
    support = max(scale, 1.0)
    weights = np.zeros((out_size, length))
    for i in range(out_size):
        centre = scale * (i + 0.5)
        first = max(int(centre - support + 0.5), 0)
        last = min(int(centre + support + 0.5), length)
        for j in range(first, last):
            weights[i, j] = max(0.0, 1.0 - abs((j - centre + 0.5) / support))
        weights[i] /= weights[i].sum()
    return weights


@pytest.mark.parametrize("size", [(5, 7), (HEIGHT, WIDTH)])
def test_resized_crop_is_the_antialiased_bilinear_resize_of_the_box(images, size):
    top = np.array([0, 3, 2, 5, 0, 11])
    left = np.array([0, 1, 6, 15, 2, 0])
    box_height = np.array([12, 9, 4, 2, 7, 1])
    box_width = np.array([16, 13, 10, 1, 3, 16])
    mirrored = np.array([False, True, False, True, True, False])
    boxes = [jnp.asarray(v, jnp.float32) for v in (top, left, box_height, box_width)]
    got = resized_crop(jnp.asarray(images), *boxes, size, jnp.asarray(mirrored))
    for n in range(BATCH):
        box = images[n, top[n] : top[n] + box_height[n], left[n] : left[n] + box_width[n]]
        rows = oracle_weights(box_height[n], size[0])
        columns = oracle_weights(box_width[n], size[1])
        want = np.einsum("oh,hwc,pw->opc", rows, box, columns)
        pillow = [
            Image.fromarray(np.ascontiguousarray(box[..., c])).resize(
                size[::-1], Image.Resampling.BILINEAR
            )
            for c in range(3)
        ]
        np.testing.assert_allclose(want, np.stack(pillow, -1), atol=1e-5)
        want = want[:, ::-1] if mirrored[n] else want
        np.testing.assert_allclose(got[n], want, atol=2e-6)


def test_crop_boxes_follow_the_scale_and_ratio_distributions():
    count = 40_000
    boxes = draw_crops(jax.random.key(1), count, 200, 100, (0.05, 0.2), (0.5, 2.0))
    top, left, height, width = (np.asarray(v) for v in boxes)
    assert all(np.array_equal(v, np.round(v)) for v in (top, left, height, width))
    assert top.min() == 0
    assert left.min() == 0
    assert (top + height).max() == 200
    assert (left + width).max() == 100
    area = height * width / 20_000
    aspect = np.log(width / height)
    # Uniform area: mean (a+b)/2, variance (b−a)²/12; log-uniform aspect likewise. These boxes
    # always fit, so that no try is rejected; rounding to pixels moves them by about 1 %.
    assert area.mean() == pytest.approx(0.125, rel=0.01)
    assert area.std() == pytest.approx(0.15 / 12**0.5, rel=0.02)
    assert aspect.mean() == pytest.approx(0.0, abs=0.02)
    assert aspect.std() == pytest.approx(2 * np.log(2) / 12**0.5, rel=0.02)
    assert np.corrcoef(area, aspect)[0, 1] == pytest.approx(0.0, abs=0.03)
    share = top / (200 - height)
    assert share.mean() == pytest.approx(0.5, abs=0.01)
    assert share.std() == pytest.approx(1 / 12**0.5, rel=0.02)


def test_rejected_tries_match_torchvisions_loop():
    """Where tries are rejected, the accepted ones are distributed as in the sequential loop."""
    count, height, width = 20_000, 16, 24
    rng = np.random.default_rng(3)
    oracle = np.zeros((4000, 2))
    for n in range(len(oracle)):
        for _ in range(10):
            area = height * width * rng.uniform(0.5, 1.0)
            aspect = np.exp(rng.uniform(np.log(0.75), np.log(4 / 3)))
            w, h = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                oracle[n] = h, w
                break
        else:
            oracle[n] = 16, 21  # 24/16 is wider than 4/3: height kept, width round(16·4/3)
    boxes = draw_crops(jax.random.key(2), count, height, width, (0.5, 1.0), (3 / 4, 4 / 3))
    got = np.stack(boxes[2:], 1)
    np.testing.assert_allclose(got.mean(0), oracle.mean(0), atol=0.1)
    np.testing.assert_allclose(got.std(0), oracle.std(0), atol=0.1)


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [(10, 40, (0, 13, 10, 13)), (40, 10, (13, 0, 13, 10)), (20, 20, (0, 0, 20, 20))],
)
def test_a_box_that_never_fits_falls_back_to_the_centre(height, width, box):
    # Four times the area cannot fit.
    boxes = draw_crops(jax.random.key(0), 3, height, width, (4.0, 4.0), (3 / 4, 4 / 3))
    np.testing.assert_array_equal(np.stack(boxes, 1), np.tile(box, (3, 1)))


def test_flip_and_quarter_turns_draw_per_image_with_their_probability():
    count = 2000
    square = jnp.broadcast_to(jnp.arange(4.0).reshape(1, 2, 2, 1), (count, 2, 2, 1))
    flipped = np.asarray(random_flip(jax.random.key(0), square, 0.3))[..., 0]
    mirrored = (flipped == [[1, 0], [3, 2]]).all((1, 2))
    assert np.all(mirrored | (flipped == [[0, 1], [2, 3]]).all((1, 2)))
    assert mirrored.mean() == pytest.approx(0.3, abs=0.04)
    turned = np.asarray(random_quarter_turns(jax.random.key(0), square, 0.6))[..., 0]
    shares = [(turned == np.rot90([[0, 1], [2, 3]], k)).all((1, 2)).mean() for k in range(4)]
    np.testing.assert_allclose(shares, [0.4, 0.2, 0.2, 0.2], atol=0.04)


def test_quarter_turns_refuse_oblong_images(images):
    with pytest.raises(ValueError, match=r"square images, these are 12x16: set quarter_turn_prob"):
        geometry.random_quarter_turns(jax.random.key(0), jnp.asarray(images))


def test_crop_probability_and_flip_inside_the_crop(images):
    repeated = jnp.tile(images[:1], (600, 1, 1, 1))
    out = np.asarray(
        random_resized_crop(jax.random.key(5), repeated, scale=(0.1, 0.3), prob=0.5, flip_prob=0.5)
    )
    same = np.abs(out - images[0]).max((1, 2, 3)) < 1e-5
    mirrored = np.abs(out - images[0, :, ::-1]).max((1, 2, 3)) < 1e-5
    assert same.mean() == pytest.approx(0.25, abs=0.06)
    assert mirrored.mean() == pytest.approx(0.25, abs=0.06)
    assert np.unique(out.sum((1, 2, 3))).size > 250  # the crops differ from image to image


def test_affine_equals_scipy_on_torchvisions_matrix(images):
    degrees = np.array([0.0, 30.0, -12.0, 90.0, 0.0, 180.0])
    translate = np.array([[0, 0], [2, -1], [0.5, 0.25], [0, 0], [-3, 2], [0, 0]], float)
    scale = np.array([1.0, 1.2, 0.85, 1.0, 1.0, 1.0])
    shear = np.array([0.0, 10.0, -8.0, 0.0, 0.0, 0.0])
    arguments = [jnp.asarray(v, jnp.float32) for v in (degrees, translate, scale, shear)]
    got = np.asarray(affine(jnp.asarray(images), *arguments))
    centre = np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
    for n in range(BATCH):
        r, s = np.deg2rad(degrees[n]), np.deg2rad(shear[n])
        rotation = np.array([[np.cos(r), -np.sin(r)], [np.sin(r), np.cos(r)]])
        inverse = np.linalg.inv(rotation @ np.array([[1, -np.tan(s)], [0, 1]]) * scale[n])
        offset = centre - inverse @ (centre + translate[n])
        for c in range(3):
            # SciPy indexes (y, x): reverse both axes of the (x, y) matrix.
            want = ndimage.affine_transform(
                images[n, ..., c].astype(float),
                inverse[::-1, ::-1],
                offset[::-1],
                order=1,
                mode="grid-constant",
            )
            np.testing.assert_allclose(got[n, ..., c], want, atol=2e-4)
    np.testing.assert_allclose(got[0], images[0], atol=1e-6)
    np.testing.assert_allclose(got[5], images[5, ::-1, ::-1], atol=1e-4)
    np.testing.assert_array_equal(got[4, 2:, :-3], images[4, :-2, 3:])  # moved left 3, down 2


def test_random_affine_stays_within_its_ranges():
    """A dot at a known place shows how far it was moved."""
    count = 400
    dot = jnp.zeros((count, 21, 21, 1)).at[:, 10, 10].set(1.0)
    moved = random_affine(jax.random.key(4), dot, prob=0.5, degrees=15.0, translate=0.1)
    mass = np.asarray(moved)[..., 0]
    total = mass.sum((1, 2))
    y = (mass * np.arange(21)[:, None]).sum((1, 2)) / total - 10
    x = (mass * np.arange(21)).sum((1, 2)) / total - 10
    still = (x == 0) & (y == 0)
    assert still.mean() == pytest.approx(0.5, abs=0.1)
    for shift in (x, y):
        assert 1.9 < np.abs(shift).max() < 2.35  # 0.1·21 = 2.1 pixels; interpolation smears a dot
        assert shift[~still].mean() == pytest.approx(0.0, abs=0.3)
