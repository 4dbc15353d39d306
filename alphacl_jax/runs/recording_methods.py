"""From settings to networks, methods and batches of recordings."""

import functools
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from alphacl_jax.data.batches import Shapes
from alphacl_jax.data.drawn_batches import DrawnBatches
from alphacl_jax.data.positive_batches import positive_batches
from alphacl_jax.data.positives import Positives
from alphacl_jax.data.sequences import Recordings
from alphacl_jax.data.window_batches import one_window_each, window_batches
from alphacl_jax.errors import ArgumentError
from alphacl_jax.methods.cebra import MOMENTS, Similarity, cebra_embeddings, cebra_method
from alphacl_jax.methods.cpc import cpc_contexts, cpc_method
from alphacl_jax.methods.method import Batch, Method
from alphacl_jax.models.speech import GRUContext, StepEncoder, feature_encoder, wave_encoder
from alphacl_jax.models.temporal import WindowEncoder
from alphacl_jax.runs.method_settings import MethodSettings
from alphacl_jax.runs.recording_settings import CEBRASettings, CPCSettings
from alphacl_jax.training.step import MakeBatch

# One channel at this rate is a wave, and not a feature.
_RATE_OF_WAVES = 2000.0
# What depends on the encoder where it is not given.
_DEFAULTS = {
    "wave": {
        "encoder_width": 512, "context_width": 256, "window": 20480, "prediction_steps": 12
    },
    "features": {
        "encoder_width": 128, "context_width": 128, "window": 12, "prediction_steps": 3
    },
}  # fmt: skip
_SETTINGS = {
    "steps": "prediction_steps",
    "rule": "positives",
    "offset": "time_offset",
    "labels": "positives",
    "context": "positives",
    "kind": "similarity",
    "minimum": "min_temperature",
    "dim": "output_dim",
    "width": "encoder_width",
}


@dataclass(frozen=True)
class RecordingMethod:
    """What a run's settings stand for, of recordings with so many channels.

    Attributes:
      method: what is trained.
      over_time: `(params, state, signal [batch, time, channels]) -> [batch, steps, width]`.
      before, after: how a recording is continued beyond its borders for it, as in `with_borders`.
      stride: moments from one step to the next.
      steps: how many steps a recording of so many moments has.
      shapes: of what initialising reads of a batch of two.
      open_batches: what draws batches of recordings, `(recordings, batch_size, mesh, seed)`.
      held_out_batches: what draws those that are measured and not trained on, on one device and of
        `batch_size` at most, `(recordings, batch_size, mesh, seed)`.
    """

    method: Method
    over_time: Callable[[Any, Any, Array], Array]
    before: int
    after: int
    stride: int
    steps: Callable[[int], int]
    shapes: Shapes
    open_batches: Callable[[Recordings, int, Mesh, int], DrawnBatches]
    held_out_batches: Callable[[Recordings, int, Mesh, int], Iterator[Batch]]


def resolved(own: CPCSettings, channels: int, rate: float | None) -> CPCSettings:
    """The settings of CPC with what follows from the recordings filled in."""
    encoder = own.encoder
    if encoder == "auto":
        is_wave = channels == 1 and rate is not None and rate >= _RATE_OF_WAVES
        encoder = "wave" if is_wave else "features"
    filled: dict[str, Any] = {
        name: default if getattr(own, name) is None else getattr(own, name)
        for name, default in _DEFAULTS[encoder].items()
    }
    return replace(own, encoder=encoder, **filled)


def make_recording_method(
    settings: MethodSettings, channels: int, rate: float | None, mesh: Mesh
) -> RecordingMethod:
    """The networks and the method that the settings describe.

    Args:
      settings: of the method.
      channels: of the recordings.
      rate: moments per second; None where it is unknown.
      mesh: the devices, with an axis "data".

    Raises:
      ArgumentError: naming the setting that cannot be used.
    """
    with named_by_settings():
        if isinstance(settings, CPCSettings):
            return _cpc(resolved(settings, channels, rate), channels, mesh)
        assert isinstance(settings, CEBRASettings)
        return _cebra(settings, channels, mesh)


@contextmanager
def named_by_settings() -> Iterator[None]:
    """Has errors of methods and batches name the setting that an argument comes from."""
    try:
        yield
    except ArgumentError as error:
        if error.argument not in _SETTINGS:
            raise
        name = _SETTINGS[error.argument]
        raise ArgumentError(name, error.value, error.problem) from error


def _cpc(own: CPCSettings, channels: int, mesh: Mesh) -> RecordingMethod:
    """Of settings that are `resolved`."""
    assert own.encoder_width is not None
    assert own.context_width is not None
    assert own.prediction_steps is not None
    assert own.window is not None
    window = own.window
    dtype, options = jnp.dtype(own.dtype), {"norm": own.encoder_norm}
    encoder = (
        wave_encoder(own.encoder_width, dtype=dtype, **options)
        if own.encoder == "wave"
        else feature_encoder(own.encoder_width, own.encoder_layers, dtype=dtype, **options)
    )
    if not _steps_of(encoder, window):
        raise ArgumentError("window", window, "is too short: the encoder makes no step of it")
    context = GRUContext(own.context_width, dtype=dtype)
    method = cpc_method(
        encoder,
        context,
        mesh,
        steps=own.prediction_steps,
        negatives=own.negatives,
        temperature=own.temperature,
        block_size=own.block_size,
    )

    def open_batches(recordings: Recordings, batch: int, mesh: Mesh, seed: int) -> DrawnBatches:
        return window_batches(recordings, window, batch, mesh, seed)

    def held_out_batches(
        recordings: Recordings, batch: int, mesh: Mesh, seed: int
    ) -> Iterator[Batch]:
        del mesh
        for number in itertools.count():
            yield one_window_each(recordings, window, (seed, number), most=batch)

    return RecordingMethod(
        method=method,
        over_time=cpc_contexts(encoder, context),
        before=0,
        after=1,
        stride=_stride(encoder),
        steps=functools.partial(_steps_of, encoder),
        shapes={
            "windows": jax.ShapeDtypeStruct((2, window, channels), jnp.float32),
            **{name: jax.ShapeDtypeStruct((2,), jnp.int32) for name in ("recordings", "labels")},
        },
        open_batches=open_batches,
        held_out_batches=held_out_batches,
    )


def _stride(encoder: StepEncoder) -> int:
    stride = 1
    for of_layer in encoder.strides:
        stride *= of_layer
    return stride


def _steps_of(encoder: StepEncoder, time: int) -> int:
    """How many steps the encoder makes of so many moments, 0 where they are too few."""
    for kernel, stride in zip(encoder.kernels, encoder.strides, strict=True):
        around = (kernel - stride + 1) // 2
        time = max(0, (time + 2 * around - kernel) // stride + 1)
    return time


def _cebra(own: CEBRASettings, channels: int, mesh: Mesh) -> RecordingMethod:
    encoder = WindowEncoder(own.receptive_field, own.encoder_width, own.output_dim)
    similarity = Similarity(own.similarity, own.temperature, own.min_temperature)
    positives = Positives(
        rule=own.positives,
        offset=own.time_offset,
        spread=own.spread,
        prior=own.prior,
        within_labels=own.within_labels,
        hybrid=own.hybrid,
    )

    def open_batches(recordings: Recordings, batch: int, mesh: Mesh, seed: int) -> DrawnBatches:
        return positive_batches(
            recordings, positives, encoder.before, encoder.after, batch, mesh, seed
        )

    return RecordingMethod(
        method=cebra_method(encoder, mesh, similarity, block_size=own.block_size),
        over_time=cebra_embeddings(encoder, similarity),
        before=encoder.before,
        after=encoder.after,
        stride=1,
        steps=lambda time: time,
        shapes={
            name: jax.ShapeDtypeStruct((2, own.receptive_field, channels), jnp.float32)
            for name in MOMENTS
        },
        open_batches=open_batches,
        held_out_batches=open_batches,
    )


def make_batch_of(mean: tuple[float, ...], std: tuple[float, ...]) -> MakeBatch:
    """What makes the method's batch of raw windows: `(x − mean)/std` of each channel."""
    shift, scale = (np.array(of, np.float32)[None, None] for of in (mean, std))

    def make_batch(key: Array, raw: Batch) -> Batch:
        del key
        # Of what is drawn, only windows `[batch, time, channels]` are signals.
        return {name: (x - shift) / scale if x.ndim == 3 else x for name, x in raw.items()}

    return make_batch
