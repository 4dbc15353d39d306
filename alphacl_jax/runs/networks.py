"""The networks that a run's settings describe."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from alphacl_jax.errors import ArgumentError
from alphacl_jax.models import heads, resnet
from alphacl_jax.runs.fields import require_default
from alphacl_jax.runs.settings import ModelSettings, SiameseSettings

_LARGE_STEM_ABOVE = 64


def make_encoder(settings: ModelSettings, image_shape: tuple[int, int, int]) -> nn.Module:
    """The encoder, for images `(height, width, channels)`.

    Raises:
      ArgumentError: for widths or a stem that it does not have.
    """
    options: dict[str, Any] = {"norm": settings.encoder_norm, "dtype": jnp.dtype(settings.dtype)}
    if settings.encoder == "small":
        if settings.stem == "large":
            raise ArgumentError("stem", "large", "needs the encoder resnet18, resnet34 or resnet50")
        return resnet.small_resnet(settings.widths, **options)
    require_default(settings, "widths", "runs with the encoder 'small'")
    make = {"resnet18": resnet.resnet18, "resnet34": resnet.resnet34, "resnet50": resnet.resnet50}
    small = has_small_stem(settings, image_shape)
    return make[settings.encoder](small_stem=small, **options)


def has_small_stem(settings: ModelSettings, image_shape: tuple[int, int, int]) -> bool:
    """Whether the encoder begins with a 3×3 convolution in place of ImageNet's 7×7 and pooling."""
    if settings.encoder == "small" or settings.stem == "small":
        return True
    return settings.stem == "auto" and min(image_shape[:2]) <= _LARGE_STEM_ABOVE


def make_projector(settings: ModelSettings) -> heads.Projector:
    """The projector.

    Raises:
      ArgumentError: for a width or a norm that a projector of this depth does not have.
    """
    if settings.projector_depth < 2:
        for name in ("projector_hidden", "projector_norm"):
            require_default(settings, name, "projectors of a depth of 2 or more")
    if settings.projector_depth < 1:
        for name in ("projector_dim", "projector_output_norm"):
            require_default(settings, name, "projectors of a depth of 1 or more")
    return heads.Projector(
        hidden=settings.projector_hidden,
        depth=settings.projector_depth,
        dim=settings.projector_dim,
        batch_norm=settings.projector_norm,  # type: ignore[arg-type]
        output_norm=settings.projector_output_norm,  # type: ignore[arg-type]
        dtype=jnp.dtype(settings.dtype),
    )


def make_predictor(settings: ModelSettings, own: SiameseSettings) -> heads.Predictor:
    """A learned predictor, of one layer or two."""
    return heads.Predictor(
        hidden=own.predictor_hidden,
        depth=2 if own.predictor == "mlp" else 1,
        batch_norm=own.predictor_norm if own.predictor == "mlp" else "none",  # type: ignore[arg-type]
        dtype=jnp.dtype(settings.dtype),
    )
