"""Residual encoders for images, NHWC, ending in the global average of the last stage.

The structure (strides, padding, projection shortcuts, initialisation) is torchvision's, so that
figures published for its ResNets carry over; bottlenecks are of the v1.5 kind, with the stride in
the 3×3 convolution.

References:
    He et al. 2016, "Deep Residual Learning for Image Recognition" (arXiv:1512.03385);
    Chen et al. 2020, "SimCLR" (arXiv:2002.05709), appendix B.9, for the stem of small images.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from alphacl_jax.errors import ArgumentError
from alphacl_jax.models.conv import conv2d

NORMS = ("batch", "group", "layer")
_MOST_GROUPS = 32


def _conv(features: int, kernel: int, stride: int, dtype: Any) -> nn.Conv:
    """The one place where a convolution of this file is made."""
    # Padding is spelled out: with stride 2, "SAME" pads an even input on one side only.
    half = kernel // 2
    return nn.Conv(
        features,
        kernel_size=(kernel, kernel),
        strides=(stride, stride),
        padding=((half, half), (half, half)),
        use_bias=False,
        kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
        dtype=dtype,
        param_dtype=jnp.float32,
        conv_general_dilated=_conv2d,
    )


def _conv2d(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Any, **fixed: Any
) -> jax.Array:
    """`conv2d` under the signature that Flax calls; the layers here use nothing of `fixed`."""
    del fixed
    (top, bottom), (left, right) = padding
    vertical, horizontal = strides
    return conv2d(x, kernel, (vertical, horizontal), ((top, bottom), (left, right)))


def _make_norm(kind: str, train: bool, dtype: Any, **overrides: Any) -> Callable[..., Any]:
    """The one place where a norm of this file is made; it is applied to images at once.

    BatchNorm's statistics are those of the whole batch under a global-view `jax.jit`, sharded or
    not.
    """
    fixed = {"epsilon": 1e-5, "dtype": dtype, "param_dtype": jnp.float32, **overrides}
    if kind == "batch":
        return nn.BatchNorm(use_running_average=not train, momentum=0.9, **fixed)
    most = _MOST_GROUPS if kind == "group" else 1

    def by_groups(x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        groups = max(n for n in range(1, most + 1) if channels % n == 0)
        normalised: jax.Array = nn.GroupNorm(num_groups=groups, **fixed)(x)
        return normalised

    return by_groups


class BasicBlock(nn.Module):
    """Two 3×3 convolutions, [batch, h, w, c] → [batch, ⌈h/stride⌉, ⌈w/stride⌉, width]."""

    width: int
    stride: int
    zero_init_residual: bool
    dtype: Any
    norm: str = "batch"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        norm = partial(_make_norm, self.norm, train, self.dtype)
        y = nn.relu(norm()(_conv(self.width, 3, self.stride, self.dtype)(x)))
        y = norm(scale_init=_last_scale(self))(_conv(self.width, 3, 1, self.dtype)(y))
        return nn.relu(y + _shortcut(x, self.width, self.stride, norm, self.dtype))


class BottleneckBlock(nn.Module):
    """1×1, 3×3, 1×1 convolutions, [batch, h, w, c] → [batch, ⌈h/stride⌉, ⌈w/stride⌉, 4·width]."""

    width: int
    stride: int
    zero_init_residual: bool
    dtype: Any
    norm: str = "batch"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        norm = partial(_make_norm, self.norm, train, self.dtype)
        y = nn.relu(norm()(_conv(self.width, 1, 1, self.dtype)(x)))
        y = nn.relu(norm()(_conv(self.width, 3, self.stride, self.dtype)(y)))
        y = norm(scale_init=_last_scale(self))(_conv(4 * self.width, 1, 1, self.dtype)(y))
        return nn.relu(y + _shortcut(x, 4 * self.width, self.stride, norm, self.dtype))


def _last_scale(block: BasicBlock | BottleneckBlock) -> Callable[..., Any]:
    return nn.initializers.zeros if block.zero_init_residual else nn.initializers.ones


def _shortcut(
    x: jax.Array, features: int, stride: int, norm: Callable[[], Callable[..., Any]], dtype: Any
) -> jax.Array:
    """The identity where shapes allow it, else a strided 1×1 convolution with a norm."""
    if stride == 1 and x.shape[-1] == features:
        return x
    return norm()(_conv(features, 1, stride, dtype)(x))


class ResNet(nn.Module):
    """ResNet without its classifier: images [batch, h, w, channels] → features [batch, dim].

    Stage s has `stage_sizes[s]` blocks of `widths[s]` channels (four times as many come out of a
    bottleneck) and halves the resolution, except the first. Any number of channels goes in.
    Parameters are float32; BatchNorm's statistics are in the collection "batch_stats"
    (momentum 0.9, ε = 1e-5).

    Attributes:
        stage_sizes: number of blocks of each stage.
        block: `BasicBlock` or `BottleneckBlock`.
        widths: channels of each stage; the stem has `widths[0]`.
        small_stem: a 3×3 convolution of stride 1 without max-pooling (for images of up to 64
            pixels), in place of the 7×7 one of stride 2 with it.
        zero_init_residual: start each residual branch at 0 through its last norm's scale
            (SimCLR does; torchvision, and so the default here, does not).
        dtype: of the computation (`jnp.bfloat16` is possible); the features are float32.
        norm: "batch"; "group", GroupNorm of 32 groups or of the most below that divide the
            channels; or "layer", GroupNorm of one group, which is all channels and positions of an
            image. The last two have no statistics, and no collection "batch_stats".
    """

    stage_sizes: Sequence[int]
    block: type[BasicBlock] | type[BottleneckBlock]
    widths: Sequence[int]
    small_stem: bool
    zero_init_residual: bool = False
    dtype: Any = jnp.float32
    norm: str = "batch"

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ArgumentError("norm", repr(self.norm), f"must be one of {', '.join(NORMS)}")
        if not self.stage_sizes or len(self.stage_sizes) != len(self.widths):
            raise ValueError(
                "stage_sizes and widths need one entry for each stage, at least one; "
                f"got {tuple(self.stage_sizes)} and {tuple(self.widths)}"
            )
        if min(*self.stage_sizes, *self.widths) < 1:
            raise ValueError(
                "stage_sizes and widths must be positive; "
                f"got {tuple(self.stage_sizes)} and {tuple(self.widths)}"
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Features of a batch of images.

        Args:
            x: `[batch, h, w, channels]`, scaled to about unit variance.
            train: normalise by this batch and update "batch_stats", which must then be mutable;
                otherwise normalise by the running averages.

        Returns:
            `[batch, dim]` in float32, averaged over space.
        """
        chex.assert_rank(x, 4)
        kernel, stride = (3, 1) if self.small_stem else (7, 2)
        x = _conv(self.widths[0], kernel, stride, self.dtype)(x)
        x = nn.relu(_make_norm(self.norm, train, self.dtype)(x))
        if not self.small_stem:
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for stage, (blocks, width) in enumerate(zip(self.stage_sizes, self.widths, strict=True)):
            for i in range(blocks):
                stride = 2 if stage > 0 and i == 0 else 1
                options = self.zero_init_residual, self.dtype, self.norm
                x = self.block(width, stride, *options)(x, train)
        return jnp.mean(x, axis=(1, 2), dtype=jnp.float32)


_WIDTHS = (64, 128, 256, 512)


def resnet18(
    small_stem: bool,
    *,
    zero_init_residual: bool = False,
    dtype: Any = jnp.float32,
    norm: str = "batch",
) -> ResNet:
    """ResNet-18: 512 features."""
    return ResNet((2, 2, 2, 2), BasicBlock, _WIDTHS, small_stem, zero_init_residual, dtype, norm)


def resnet34(
    small_stem: bool,
    *,
    zero_init_residual: bool = False,
    dtype: Any = jnp.float32,
    norm: str = "batch",
) -> ResNet:
    """ResNet-34: 512 features."""
    return ResNet((3, 4, 6, 3), BasicBlock, _WIDTHS, small_stem, zero_init_residual, dtype, norm)


def resnet50(
    small_stem: bool,
    *,
    zero_init_residual: bool = False,
    dtype: Any = jnp.float32,
    norm: str = "batch",
) -> ResNet:
    """ResNet-50: 2048 features."""
    return ResNet(
        (3, 4, 6, 3), BottleneckBlock, _WIDTHS, small_stem, zero_init_residual, dtype, norm
    )


def small_resnet(
    widths: Sequence[int] = (32, 64, 128),
    *,
    zero_init_residual: bool = False,
    dtype: Any = jnp.float32,
    norm: str = "batch",
) -> ResNet:
    """One basic block per stage behind the 3×3 stem, for little images: `widths[-1]` features."""
    stage_sizes = (1,) * len(widths)
    return ResNet(stage_sizes, BasicBlock, tuple(widths), True, zero_init_residual, dtype, norm)
