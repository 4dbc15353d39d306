"""What sits on top of an encoder: projectors, predictors, a part of the features."""

from typing import Any, Literal, get_args

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from alphacl_jax.errors import ArgumentError

BatchNormKind = Literal["none", "affine", "no_affine"]


class Projector(nn.Module):
    """MLP from features h `[batch, in]` to embeddings z `[batch, dim]`, in float32.

        depth 2 (SimCLR's):  z = W₂ relu(norm(W₁ h)) + b₂

    ReLU stands between layers, with none after the last; norm is BatchNorm on the hidden layers
    (momentum 0.9, ε = 1e-5) or nothing. A hidden layer has a bias where nothing normalises it
    away.

    Attributes:
        hidden: width of the hidden layers.
        depth: number of linear layers. 1 is a linear projector; 0 is none, z = h, and `hidden`,
            `dim`, `batch_norm` and `output_norm` have no effect.
        dim: width of the output.
        batch_norm: "none", "affine" (with a learned scale and bias) or "no_affine".
        output_norm: the same of the output.
        dtype: of the computation; parameters and output are float32.

    Raises:
        ValueError: a width below 1, a negative depth, an unknown `batch_norm` or `output_norm`.

    References:
        Chen et al. 2020, "SimCLR" (arXiv:2002.05709), section 2.1.
    """

    hidden: int
    depth: int = 2
    dim: int = 128
    batch_norm: BatchNormKind = "none"
    output_norm: BatchNormKind = "none"
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        if self.depth < 0:
            raise ArgumentError("depth", self.depth, "must be 0 (no projector) or more layers")
        for name in ("hidden", "dim"):
            if getattr(self, name) < 1:
                raise ArgumentError(name, getattr(self, name), "must be at least 1")
        for name in ("batch_norm", "output_norm"):
            kind = getattr(self, name)
            if kind not in get_args(BatchNormKind):
                known = ", ".join(get_args(BatchNormKind))
                raise ArgumentError(name, repr(kind), f"must be one of {known}")
        super().__post_init__()

    @nn.compact
    def __call__(self, h: jax.Array, train: bool) -> jax.Array:
        """Embeddings `[batch, dim]` of features `[batch, in]`; `train` as in `ResNet`."""
        chex.assert_rank(h, 2)
        if self.depth == 0:
            return h.astype(jnp.float32)
        for _ in range(self.depth - 1):
            h = nn.relu(self._layer(h, self.hidden, self.batch_norm, train))
        return self._layer(h, self.dim, self.output_norm, train).astype(jnp.float32)

    def _layer(self, h: jax.Array, width: int, norm: BatchNormKind, train: bool) -> jax.Array:
        h = nn.Dense(width, use_bias=norm == "none", dtype=self.dtype)(h)
        if norm == "none":
            return h
        affine = norm == "affine"
        return nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            use_scale=affine,
            use_bias=affine,
            dtype=self.dtype,
        )(h)


class Predictor(nn.Module):
    """From embeddings `[batch, dim]` to the same width, in float32: a `Projector`, or a matrix.

    Attributes:
        hidden: as in `Projector`.
        depth: 2, or 1 for a linear predictor, which has no bias.
        batch_norm: as in `Projector`.
        dtype: as in `Projector`.

    References:
        Grill et al. 2020, "Bootstrap Your Own Latent", section 3.
    """

    hidden: int
    depth: int = 2
    batch_norm: BatchNormKind = "none"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z: jax.Array, train: bool) -> jax.Array:
        """Predictions `[batch, dim]`; `train` as in `ResNet`."""
        if self.depth == 1:
            matrix: jax.Array = nn.Dense(z.shape[-1], use_bias=False, dtype=self.dtype)(z)
            return matrix.astype(jnp.float32)
        projector = Projector(
            self.hidden, self.depth, z.shape[-1], self.batch_norm, dtype=self.dtype
        )
        found: jax.Array = projector(z, train)
        return found


class Subvector(nn.Module):
    """The first `size` coordinates of the features `[batch, in]`, in float32: DirectCLR's.

    Raises:
        ValueError: features of fewer coordinates.

    References:
        Jing et al. 2022, "Understanding dimensional collapse in contrastive self-supervised
        learning" (arXiv:2110.09348), section 6.
    """

    size: int

    @nn.compact
    def __call__(self, h: jax.Array, train: bool) -> jax.Array:
        """Embeddings `[batch, size]`."""
        del train
        chex.assert_rank(h, 2)
        if not 1 <= self.size <= h.shape[1]:
            problem = f"must be between 1 and the number of features, {h.shape[1]}"
            raise ArgumentError("subvector", self.size, problem)
        return h[:, : self.size].astype(jnp.float32)
