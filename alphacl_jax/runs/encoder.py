"""An encoder that was trained, ready for images: from a run folder, or from an export of one."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh
from numpy.typing import ArrayLike

from alphacl_jax.data.batches import raw_shapes
from alphacl_jax.data.preprocessing import Preprocessing
from alphacl_jax.methods.method import Method
from alphacl_jax.runs.description import Description, read_description_of_images
from alphacl_jax.runs.exported import is_export, read_export
from alphacl_jax.runs.flag_file import of_images
from alphacl_jax.runs.folder import read_settings
from alphacl_jax.runs.methods import make_batch_of, make_method, parts_of
from alphacl_jax.runs.networks import make_encoder
from alphacl_jax.runs.optimizer import optimizer_of
from alphacl_jax.runs.restoring import newest_of, require_one_seed
from alphacl_jax.runs.settings import RunSettings
from alphacl_jax.training.mesh import data_mesh
from alphacl_jax.training.state import TrainState
from alphacl_jax.training.step import init_of

_CHUNK = 500

Function = Callable[[Any, Any, Array | np.ndarray], Array]


@dataclasses.dataclass(frozen=True)
class Encoder:
    """A trained network, applied to images as its run applied it.

    `encoder(images)` gives features h, `encoder.embed(images)` the embeddings z that the loss
    compared.

    Attributes:
      settings: of the run.
      description: what the images must look like, and what was measured on the training images.
      params: the method's parameters.
      state: the method's state, such as BatchNorm statistics.
      step: how many steps it was trained.
    """

    settings: RunSettings
    description: Description
    params: Any
    state: Any
    step: int

    def __repr__(self) -> str:
        height, width, channels = self.preprocessing.image_shape
        return (
            f"Encoder({self.settings.model.encoder} by {self.settings.method.label} on "
            f"{self.description.data}, images {height}x{width}x{channels}, step {self.step})"
        )

    @property
    def module(self) -> nn.Module:
        """The Flax module of the encoder, called as `module.apply(variables, x, train=False)`.

        Its inputs x are those of `preprocessing.normalize(images)`.
        """
        return make_encoder(self.settings.model, self.preprocessing.image_shape)

    @property
    def variables(self) -> dict[str, Any]:
        """Of `module`: its "params" and, with BatchNorm, its "batch_stats"."""
        return {"params": self.params["encoder"], "batch_stats": self.state["encoder"]}

    def with_variables(self, variables: Mapping[str, Any], step: int) -> "Encoder":
        """The encoder with other `variables`, of a training of `step` steps; what lies behind it
        stays as it is."""
        return dataclasses.replace(
            self,
            params={**self.params, "encoder": variables["params"]},
            state={**self.state, "encoder": variables["batch_stats"]},
            step=step,
        )

    @property
    def preprocessing(self) -> Preprocessing:
        return self.description.preprocessing

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.description.class_names

    def __call__(self, images: ArrayLike, *, resize: bool = False) -> np.ndarray:
        """Features of images, a batch at a time.

        Args:
          images: uint8 `[n, height, width]` or `[n, height, width, channels]`, NumPy or JAX, any
            n, none included.
          resize: scale and crop images of another size.

        Returns:
          float32 `[n, dim]`.

        Raises:
          ArgumentError: for images of another type, size or number of channels.
        """
        return self._apply(images, resize, self._compiled()[0])

    def embed(self, images: ArrayLike, *, resize: bool = False) -> np.ndarray:
        """The embeddings `[n, dim]` that the loss compared; arguments as of a call."""
        return self._apply(images, resize, self._compiled()[1])

    def _compiled(self) -> tuple[Function, Function]:
        # Of the settings, these alone change what is computed of an image.
        same = RunSettings(model=self.settings.model, method=self.settings.method)
        return _compiled(same, self.preprocessing)

    def _apply(self, images: ArrayLike, resize: bool, function: Function) -> np.ndarray:
        prepared = np.asarray(self.preprocessing.prepare(images, resize=resize))
        found = []
        for start in range(0, max(len(prepared), 1), _CHUNK):  # of no image [0, dim] is known so
            chunk = prepared[start : start + _CHUNK]
            # One length, so that one compiled function serves any number of images.
            padding = [(0, _CHUNK - len(chunk))] + [(0, 0)] * (chunk.ndim - 1)
            values = function(self.params, self.state, np.pad(chunk, padding))
            found.append(np.asarray(values)[: len(chunk)])
        return np.concatenate(found).astype(np.float32)


def encoder_of(settings: RunSettings, description: Description, state: TrainState) -> Encoder:
    """The encoder in a train state."""
    return Encoder(settings, description, state.params, state.method_state, int(state.step))


@functools.lru_cache(maxsize=8)
def _compiled(settings: RunSettings, preprocessing: Preprocessing) -> tuple[Function, Function]:
    """Features and embeddings of uint8 images, compiled once for all encoders of these settings."""
    method = _method(settings, preprocessing)

    def features(params: Any, state: Any, images: Array) -> Array:
        return method.features(params, state, preprocessing.normalize(images))

    def embed(params: Any, state: Any, images: Array) -> Array:
        return method.embed(params, state, preprocessing.normalize(images))

    return jax.jit(features), jax.jit(embed)


def _method(settings: RunSettings, preprocessing: Preprocessing) -> Method:
    return make_method(settings, preprocessing.image_shape, _one_device())


def _one_device() -> Mesh:
    return data_mesh(jax.local_devices()[:1])


def load_encoder(path: str | Path) -> Encoder:
    """The encoder of a run folder, or of an export of one; neither data nor optimiser is needed.

        encoder = load_encoder("runs/digits-alpha_direct-1234abcd")
        features = encoder(images)  # uint8 [n, h, w, c] -> float32 [n, dim]

    Args:
      path: a run folder, whose newest good checkpoint is read, or a folder that `export_encoder`
        wrote.

    Raises:
      RunError: where there is neither, or it cannot be read.
      UnusableCheckpointsError: where there are checkpoints and all are damaged.
    """
    folder = Path(path).expanduser()
    if is_export(folder):
        return Encoder(*read_export(folder))
    settings = of_images(read_settings(folder))
    require_one_seed(folder, settings)
    state = newest_state(folder, settings)
    return encoder_of(settings, read_description_of_images(folder), state)


def newest_state(folder: Path, settings: RunSettings) -> TrainState:
    """The state in a run's newest good checkpoint.

    Raises:
      RunError: where there is none yet.
    """
    return newest_of(folder, lambda: _init(settings, read_description_of_images(folder)))


def _init(settings: RunSettings, description: Description) -> Callable[[Array], TrainState]:
    preprocessing = description.preprocessing
    return init_of(
        _method(settings, preprocessing),
        optimizer_of(settings.optimizer, 1, parts_of(settings))[0],
        make_batch_of(settings, description.policy, preprocessing),
        raw_shapes(preprocessing.image_shape, 2),
    )
