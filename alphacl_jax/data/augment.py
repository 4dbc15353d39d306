"""Random changes of pixel values in image batches: colour, blur, noise, edges, holes.

Images are float32 in [0, 1], `[batch, height, width, channels]` with 1 or 3 channels; every image
gets its own draw from `key`, and no operation mixes images. Geometry is in `geometry.py`.

Inside, operations that look at channels work on `[batch, height, channels, width]`: the innermost
axis is then long enough for vector instructions. XLA cancels the swaps between operations.
"""

import dm_pix
import jax
import jax.numpy as jnp

from alphacl_jax.errors import ArgumentError

LUMA = (0.2989, 0.587, 0.114)  # torchvision's weights of red, green, blue in a grey value


def _swap(images: jax.Array) -> jax.Array:
    """`[b, h, w, c]` to `[b, h, c, w]` and back."""
    return jnp.swapaxes(images, 2, 3)


def _per_image(values: jax.Array) -> jax.Array:
    return values[:, None, None, None]


def _chosen(key: jax.Array, images: jax.Array, prob: float) -> jax.Array:
    """bool `[batch, 1, 1, 1]`: which images an operation is applied to."""
    return jax.random.bernoulli(key, prob, (images.shape[0], 1, 1, 1))


def _luma_weights(channels: int) -> tuple[float, ...]:
    if channels not in (1, 3):
        raise ValueError(f"colour operations take 1 or 3 channels, these images have {channels}")
    return LUMA if channels == 3 else (1.0,)


def _grey(planar: jax.Array) -> jax.Array:
    """Grey value `[b, h, w]` of planar `[b, h, c, w]`; one channel is its own grey value."""
    weights = _luma_weights(planar.shape[2])
    return sum(w * planar[:, :, i] for i, w in enumerate(weights))  # type: ignore[return-value]


def _shift_hue(planar: jax.Array, shift: jax.Array) -> jax.Array:
    """Adds `shift` (turns) to the hue of RGB `[b, h, 3, w]` by way of HSV, with no gather.

    With V = max, chroma C = V − min and hue h in sixths of a turn, a channel is
    V − C·clip(min(k, 4 − k), 0, 1), k = (n + h) mod 6, n = 5, 3, 1 for red, green, blue.
    """
    red, green, blue = planar[:, :, 0], planar[:, :, 1], planar[:, :, 2]
    value = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
    per_chroma = 1.0 / jnp.where(chroma == 0, 1.0, chroma)
    hue = jnp.where(
        value == red,
        (green - blue) * per_chroma,
        jnp.where(
            value == green, (blue - red) * per_chroma + 2.0, (red - green) * per_chroma + 4.0
        ),
    )
    hue = hue + 6.0 * shift[:, None, None]  # in [-4, 8]
    hue = jnp.where(hue < 0.0, hue + 6.0, jnp.where(hue >= 6.0, hue - 6.0, hue))
    k = hue[:, :, None] + jnp.asarray([5.0, 3.0, 1.0])[None, None, :, None]
    k = jnp.where(k >= 6.0, k - 6.0, k)
    ramp = jnp.clip(jnp.minimum(k, 4.0 - k), 0.0, 1.0)
    return value[:, :, None] - chroma[:, :, None] * ramp


def adjust_colors(
    images: jax.Array,
    brightness: jax.Array,
    contrast: jax.Array,
    saturation: jax.Array,
    hue: jax.Array,
    order: jax.Array,
    hue_place: jax.Array,
) -> jax.Array:
    """torchvision's colour adjustments, one factor of each kind per image.

    Brightness: clip(f·x). Contrast: clip(f·x + (1−f)·mean grey(x)). Saturation:
    clip(f·x + (1−f)·grey(x)). Hue: turned by f in HSV. Clipped to [0, 1] after each. On one
    channel, saturation and hue change nothing.

    Args:
      images: float32 in [0, 1], `[batch, height, width, channels]`.
      brightness, contrast, saturation: `[batch]`, at least 0; 1 changes nothing.
      hue: `[batch]`, turns in [-0.5, 0.5]; 0 changes nothing.
      order: int `[3, batch]`, each column a permutation of 0 (brightness), 1 (contrast) and
        2 (saturation): what is done first, second, third.
      hue_place: int scalar 0..3: how many of those three come before the hue. One for the batch.
    """
    planar = _swap(images)
    batch, height, channels, width = planar.shape
    # Each of the three is clip(own·x + grey·grey(x) + mean·mean grey(x)), so that one loop body
    # serves every order of every image.
    is_contrast, is_saturation = order == 1, order == 2
    own = jnp.where(is_contrast, contrast, jnp.where(is_saturation, saturation, brightness))
    grey = jnp.where(is_saturation, 1.0 - saturation, 0.0)
    mean = jnp.where(is_contrast, 1.0 - contrast, 0.0)
    weights = jnp.asarray(_luma_weights(channels))[None, :, None] / (height * width)
    weights = jnp.broadcast_to(weights, (height, channels, width)).reshape(-1, 1)

    def step(i: jax.Array, x: jax.Array) -> jax.Array:
        # A matrix-vector product sums an image several times faster than XLA's reduction on CPU.
        mean_grey = jnp.matmul(x.reshape(batch, -1), weights, precision=jax.lax.Precision.HIGHEST)
        rest = grey[i][:, None, None] * _grey(x) + (mean[i] * mean_grey[:, 0])[:, None, None]
        return jnp.clip(_per_image(own[i]) * x + rest[:, :, None], 0.0, 1.0)

    # Loops, not unrolled steps: XLA:CPU would fuse unrolled ones and recompute each for every
    # pixel of the next (measured: five times slower).
    planar = jax.lax.fori_loop(0, hue_place, step, planar)
    if channels == 3:
        planar = _shift_hue(planar, hue)
    planar = jax.lax.fori_loop(hue_place, 3, step, planar)
    return _swap(planar)


def random_color_jitter(
    key: jax.Array,
    images: jax.Array,
    prob: float = 0.8,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.1,
) -> jax.Array:
    """torchvision's `ColorJitter` with probability `prob`; see `adjust_colors` for the formulas.

    Factors are uniform in [max(0, 1−s), 1+s], hue in [−hue, hue]. The order of brightness,
    contrast and saturation is drawn per image; the hue's place among them once per batch.
    One channel: brightness and contrast only.
    """
    batch = images.shape[0]
    factor_key, order_key, place_key = jax.random.split(key, 3)
    draws = jax.random.uniform(factor_key, (5, batch))
    applied = draws[4] < prob

    def factor(draw: jax.Array, strength: float) -> jax.Array:
        low, high = max(0.0, 1.0 - strength), 1.0 + strength
        return jnp.where(applied, low + (high - low) * draw, 1.0)

    return adjust_colors(
        images,
        brightness=factor(draws[0], brightness),
        contrast=factor(draws[1], contrast),
        saturation=factor(draws[2], saturation),
        hue=jnp.where(applied, hue * (2.0 * draws[3] - 1.0), 0.0),
        order=jnp.argsort(jax.random.uniform(order_key, (3, batch)), axis=0),
        hue_place=jax.random.randint(place_key, (), 0, 4),
    )


def random_grayscale(key: jax.Array, images: jax.Array, prob: float = 0.2) -> jax.Array:
    """Replaces colours by their grey value with probability `prob`; one channel is unchanged."""
    planar = _swap(images)
    grey = _grey(planar)[:, :, None]
    return _swap(jnp.where(_chosen(key, images, prob), grey, planar))


def blur_kernel_size(size: int) -> int:
    """Odd kernel width of about a tenth of the image's side `size`, at least 3, as in SimCLR."""
    return max(3, 2 * (size // 20) + 1)


def gaussian_blur(images: jax.Array, sigma: jax.Array, kernel_size: int) -> jax.Array:
    """Gaussian blur with one `sigma` (pixels) per image, `[batch]`; borders are mirrored.

    The kernel is exp(−x²/2σ²) at whole pixels, scaled to sum 1, as in torchvision; σ = 0 leaves
    the image as it is. Rows and columns are blurred by one banded matrix each.

    Raises:
      ValueError: for an even `kernel_size`, or one whose half does not fit into the image.
    """
    batch, height, width, channels = images.shape
    half = kernel_size // 2
    if kernel_size % 2 == 0 or half >= min(height, width):
        raise ArgumentError(
            "kernel_size",
            kernel_size,
            f"must be odd, and its half less than the side of images of {height}x{width}",
        )
    offsets = jnp.arange(-half, half + 1)[None, :]
    blurred = sigma[:, None] > 0
    kernel = jnp.exp(-0.5 * (offsets / jnp.where(blurred, sigma[:, None], 1.0)) ** 2)
    kernel = kernel / jnp.sum(kernel, axis=1, keepdims=True)
    kernel = jnp.where(blurred, kernel, jnp.where(offsets == 0, 1.0, 0.0))
    precision = jax.lax.Precision.HIGHEST

    def band(size: int) -> jax.Array:
        pixel = jnp.arange(size)
        source = jnp.abs(pixel[:, None] + offsets)  # mirrored without repeating the border
        source = jnp.where(source >= size, 2 * size - 2 - source, source)
        taps = jnp.where(source[:, :, None] == pixel[None, None, :], 1.0, 0.0)
        return jnp.einsum("nk,oki->noi", kernel, taps, precision=precision)

    rows = band(height)
    columns = rows if width == height else band(width)
    planar = _swap(images).reshape(batch, height * channels, width)
    out = jnp.matmul(planar, jnp.swapaxes(columns, 1, 2), precision=precision)
    out = jnp.matmul(rows, out.reshape(batch, height, channels * width), precision=precision)
    return _swap(out.reshape(batch, height, channels, width))


def random_gaussian_blur(
    key: jax.Array,
    images: jax.Array,
    prob: float = 0.5,
    sigma: tuple[float, float] = (0.1, 2.0),
) -> jax.Array:
    """`gaussian_blur` with probability `prob`, σ uniform in `sigma`, kernel a tenth of the side."""
    draws = jax.random.uniform(key, (2, images.shape[0]))
    widths = jnp.where(draws[1] < prob, sigma[0] + (sigma[1] - sigma[0]) * draws[0], 0.0)
    return gaussian_blur(images, widths, blur_kernel_size(min(images.shape[1:3])))


def random_gaussian_noise(
    key: jax.Array, images: jax.Array, prob: float = 1.0, std: float = 0.05
) -> jax.Array:
    """Adds N(0, std²) to each value with probability `prob` per image, clipped to [0, 1]."""
    noise_key, choice_key = jax.random.split(key)
    noisy = jnp.clip(images + std * jax.random.normal(noise_key, images.shape), 0.0, 1.0)
    return jnp.where(_chosen(choice_key, images, prob), noisy, images)


def random_solarize(
    key: jax.Array, images: jax.Array, prob: float = 0.2, threshold: float = 0.5
) -> jax.Array:
    """Replaces x ≥ threshold by 1 − x with probability `prob` per image."""
    return jnp.where(_chosen(key, images, prob), dm_pix.solarize(images, threshold), images)


def random_sobel(key: jax.Array, images: jax.Array, prob: float = 1.0) -> jax.Array:
    """Replaces an image by the length of its grey value's Sobel gradient with probability `prob`.

    √((s_x² + s_y²)/2) with s_x, s_y the Sobel responses over 4, borders repeated: within [0, 1],
    the values of `skimage.filters.sobel`. Every channel gets the same values, so that filtered and
    unfiltered images share a shape.
    """
    planar = _swap(images)
    grey = jnp.pad(_grey(planar), ((0, 0), (1, 1), (1, 1)), mode="edge")
    smooth_y = (grey[:, :-2] + 2.0 * grey[:, 1:-1] + grey[:, 2:]) / 4.0
    smooth_x = (grey[:, :, :-2] + 2.0 * grey[:, :, 1:-1] + grey[:, :, 2:]) / 4.0
    along_x = smooth_y[:, :, 2:] - smooth_y[:, :, :-2]
    along_y = smooth_x[:, 2:] - smooth_x[:, :-2]
    edges = jnp.sqrt((along_x**2 + along_y**2) / 2.0)[:, :, None]
    return _swap(jnp.where(_chosen(key, images, prob), edges, planar))


def random_cutout(
    key: jax.Array,
    images: jax.Array,
    fill: jax.Array,
    prob: float = 0.5,
    size: float = 0.5,
) -> jax.Array:
    """Fills a box with the colour `fill` `[channels]` with probability `prob`.

    The box's sides are `size` (share, 0..1) of the image's, rounded to pixels, its centre is
    uniform over the pixels: near a border part of it lies outside (DeVries & Taylor 2017).
    """
    batch, height, width, _ = images.shape
    draws = jax.random.uniform(key, (3, batch))

    def covered(draw: jax.Array, length: int) -> jax.Array:
        side = max(1, round(size * length))
        start = jnp.floor(draw * length)[:, None] - side // 2
        pixel = jnp.arange(length, dtype=jnp.float32)[None, :]
        return (pixel >= start) & (pixel < start + side)

    hole = covered(draws[0], height)[:, :, None] & covered(draws[1], width)[:, None, :]
    hole = hole & (draws[2] < prob)[:, None, None]
    return jnp.where(hole[..., None], jnp.asarray(fill, images.dtype)[None, None, None, :], images)
