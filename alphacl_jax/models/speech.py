"""Encoders of a signal step by step, and what sums up its past: the networks of CPC.

References:
    van den Oord et al. 2018, "Representation Learning with Contrastive Predictive Coding"
    (arXiv:1807.03748), section 3.1;
    Rivière et al. 2020, "Unsupervised pretraining transfers well across languages"
    (arXiv:2002.02848), for the norm over the channels of a step.
"""

from collections.abc import Sequence
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from alphacl_jax.errors import ArgumentError
from alphacl_jax.models.conv import conv2d

STEP_NORMS = ("layer", "none")


class StepEncoder(nn.Module):
    """Convolutions over time, `[batch, time, channels]` → `[batch, steps, width]`.

    Each is followed by a norm and a ReLU. A layer of stride s makes ⌊time / s⌋ steps of its input,
    give or take one; a layer of kernel 1 and stride 1 sees each moment by itself. Parameters are
    float32.

    Attributes:
        kernels: moments that each layer sees.
        strides: moments that each layer moves on by, none of them above its kernel.
        width: channels of each layer, and of the steps.
        norm: "layer", over the channels of a step, so that no step knows of another; or "none".
        dtype: of the computation (`jnp.bfloat16` is possible); the steps are float32.

    Raises:
        ValueError: no layer, another number of strides, one that leaves moments out, a number
            below 1, an unknown norm.
    """

    kernels: Sequence[int]
    strides: Sequence[int]
    width: int
    norm: str = "layer"
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        if not self.kernels or len(self.kernels) != len(self.strides):
            problem = f"need one entry for each layer, at least one, and strides={self.strides}"
            raise ArgumentError("kernels", self.kernels, problem)
        if any(not 1 <= s <= k for k, s in zip(self.kernels, self.strides, strict=True)):
            problem = f"must be at least 1, and at most those of kernels={self.kernels}"
            raise ArgumentError("strides", self.strides, problem)
        if self.width < 1:
            raise ArgumentError("width", self.width, "must be at least 1")
        if self.norm not in STEP_NORMS:
            raise ArgumentError("norm", repr(self.norm), f"must be one of {', '.join(STEP_NORMS)}")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Steps `[batch, steps, width]` of signals; `train` makes no difference."""
        del train
        chex.assert_rank(x, 3)
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            around = (kernel - stride + 1) // 2
            x = nn.Conv(
                self.width,
                kernel_size=(kernel,),
                strides=(stride,),
                padding=((around, around),),
                use_bias=self.norm == "none",
                kernel_init=nn.initializers.he_normal(),
                dtype=self.dtype,
                param_dtype=jnp.float32,
                conv_general_dilated=_conv1d,
            )(x)
            if self.norm == "layer":
                x = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, param_dtype=jnp.float32)(x)
            x = nn.relu(x)
        return x.astype(jnp.float32)


def _conv1d(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Any, **fixed: Any
) -> jax.Array:
    """`conv2d` along the height of images one pixel wide, under the signature that Flax calls."""
    del fixed  # nothing of it is used here
    # Of the forms of a wave encoder of width 512 on two cores, value and gradient of 8 windows of
    # 20,480 moments take 1.04 s in this one, 1.12 s as XLA's 1-D convolution, 1.40 s or more as
    # matrix products of patches; of three networks side by side, of width 128, 0.21, 0.28, 0.22 s.
    found = conv2d(x[:, :, None], kernel[:, None], (strides[0], 1), (padding[0], (0, 0)))
    return found[:, :, 0]


class GRUContext(nn.Module):
    """A gated recurrent unit from past to future: c_t of z_1 ... z_t, at every step t.

    Attributes:
        width: numbers of a context.
        dtype: of the computation; parameters and contexts are float32.
    """

    width: int
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ArgumentError("width", self.width, "must be at least 1")
        super().__post_init__()

    @nn.compact
    def __call__(self, z: jax.Array, train: bool) -> jax.Array:
        """Contexts `[batch, steps, width]` of steps `[batch, steps, dim]`."""
        del train
        chex.assert_rank(z, 3)
        return jnp.asarray(nn.RNN(nn.GRUCell(self.width, dtype=self.dtype))(z), jnp.float32)


def wave_encoder(width: int = 512, *, norm: str = "layer", dtype: Any = jnp.float32) -> StepEncoder:
    """The encoder of raw waves: one step for each 160 moments, 10 ms at 16 kHz.

    A step sees 465 moments, so neighbouring ones share some of them.
    """
    return StepEncoder((10, 8, 4, 4, 4), (5, 4, 2, 2, 2), width, norm, dtype)


def feature_encoder(
    width: int = 64, layers: int = 2, *, norm: str = "layer", dtype: Any = jnp.float32
) -> StepEncoder:
    """A small encoder of features, such as cepstra: each moment by itself is a step."""
    if layers < 1:
        raise ArgumentError("layers", layers, "must be at least 1")
    return StepEncoder((1,) * layers, (1,) * layers, width, norm, dtype)
