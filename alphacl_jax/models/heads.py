"""What sits on top of an encoder: the projector whose output the contrastive loss sees."""

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
            `dim` and `batch_norm` have no effect.
        dim: width of the output.
        batch_norm: "none", "affine" (with a learned scale and bias) or "no_affine".
        dtype: of the computation; parameters and output are float32.

    Raises:
        ValueError: a width below 1, a negative depth, an unknown `batch_norm`.

    References:
        Chen et al. 2020, "SimCLR" (arXiv:2002.05709), section 2.1.
    """

    hidden: int
    depth: int = 2
    dim: int = 128
    batch_norm: BatchNormKind = "none"
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        if self.depth < 0:
            raise ArgumentError("depth", self.depth, "must be 0 (no projector) or more layers")
        for name in ("hidden", "dim"):
            if getattr(self, name) < 1:
                raise ArgumentError(name, getattr(self, name), "must be at least 1")
        if self.batch_norm not in get_args(BatchNormKind):
            raise ArgumentError(
                "batch_norm",
                repr(self.batch_norm),
                f"must be one of {', '.join(get_args(BatchNormKind))}",
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, h: jax.Array, train: bool) -> jax.Array:
        """Embeddings `[batch, dim]` of features `[batch, in]`; `train` as in `ResNet`."""
        chex.assert_rank(h, 2)
        if self.depth == 0:
            return h.astype(jnp.float32)
        normalised = self.batch_norm != "none"
        affine = self.batch_norm == "affine"
        for _ in range(self.depth - 1):
            h = nn.Dense(self.hidden, use_bias=not normalised, dtype=self.dtype)(h)
            if normalised:
                h = nn.BatchNorm(
                    use_running_average=not train,
                    momentum=0.9,
                    epsilon=1e-5,
                    use_scale=affine,
                    use_bias=affine,
                    dtype=self.dtype,
                )(h)
            h = nn.relu(h)
        return nn.Dense(self.dim, dtype=self.dtype)(h).astype(jnp.float32)
