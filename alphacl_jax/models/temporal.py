"""Encoders of the window around a moment: the networks of CEBRA.

References:
    Schneider, Lee and Mathis 2023, "Learnable latent embeddings for joint behavioural and neural
    analysis" (doi:10.1038/s41586-023-06031-6), whose package has networks of these layers.
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from alphacl_jax.errors import ArgumentError

# By the moments that an embedding sees: the kernel of the first layer, how many layers of three
# moments with a skip connection follow, and the kernel of the last.
_LAYERS = {5: (2, 1, 2), 10: (2, 3, 3), 36: (2, 16, 3)}
RECEPTIVE_FIELDS = (1, *_LAYERS)


class WindowEncoder(nn.Module):
    """Convolutions over time, `[batch, time, channels]` → `[batch, time − r + 1, dim]`, without
    padding: with the receptive field r, so that of windows of r moments there is one embedding.

    A receptive field of 1 is a network of three hidden layers, of `width`, `width` and half of it,
    of each moment by itself. The others have a layer of `width` channels, layers of three moments
    that are added to what they were given, and a last one of `dim` channels. Between layers is a
    GELU. Weights and biases are uniform within ±1/√fan-in, as the published network's are.

    The window of moment t is [t − before, t + after).

    Attributes:
        receptive_field: r, one of 1, 5, 10, 36 moments.
        width: channels of the hidden layers.
        dim: of the embeddings, which are not normalised here.

    Raises:
        ValueError: another receptive field, a width below 2, a dim below 1.
    """

    receptive_field: int = 10
    width: int = 32
    dim: int = 8

    def __post_init__(self) -> None:
        if self.receptive_field not in RECEPTIVE_FIELDS:
            problem = f"must be one of {', '.join(map(str, RECEPTIVE_FIELDS))}"
            raise ArgumentError("receptive_field", self.receptive_field, problem)
        for name, value, least in (("width", self.width, 2), ("dim", self.dim, 1)):
            if value < least:
                raise ArgumentError(name, value, f"must be at least {least}")
        super().__post_init__()

    @property
    def before(self) -> int:
        """How many moments of a window come before its own."""
        return self.receptive_field // 2

    @property
    def after(self) -> int:
        """How many do not, its own among them."""
        return self.receptive_field - self.before

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Embeddings of windows, or of each moment of a longer signal that has a whole window;
        `train` makes no difference."""
        del train
        chex.assert_rank(x, 3)
        if x.shape[1] < self.receptive_field:
            problem = f"is longer than the signal, which has {x.shape[1]} moments"
            raise ArgumentError("receptive_field", self.receptive_field, problem)
        if self.receptive_field == 1:
            for width in (self.width, self.width, self.width // 2):
                x = _gelu(_convolved(x, width, 1))
            return _convolved(x, self.dim, 1)
        first, middle, last = _LAYERS[self.receptive_field]
        x = _gelu(_convolved(x, self.width, first))
        for _ in range(middle):
            x = x[:, 1:-1] + _gelu(_convolved(x, self.width, 3))
        return _convolved(x, self.dim, last)


def _gelu(x: jax.Array) -> jax.Array:
    return nn.gelu(x, approximate=False)


def _convolved(x: jax.Array, width: int, kernel: int) -> jax.Array:
    """A convolution over time as one product of matrices.

    XLA's convolutions are many times slower within a loop on a CPU than outside of it, and a whole
    training is one loop; in windows of a few moments this is the faster form outside as well.
    """
    time = x.shape[1] - kernel + 1
    patches = jnp.concatenate([x[:, i : i + time] for i in range(kernel)], axis=-1)
    initial = _uniform(patches.shape[-1])
    return nn.Dense(width, kernel_init=initial, bias_init=initial)(patches)


def _uniform(fan_in: int) -> nn.initializers.Initializer:
    def initial(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -1, 1) / fan_in**0.5

    return initial
