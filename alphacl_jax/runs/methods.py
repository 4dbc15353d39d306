"""The methods that a run can train, each with what makes it from its settings."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array
from jax.sharding import Mesh

from alphacl_jax.data.policies import Policy
from alphacl_jax.data.preprocessing import Preprocessing
from alphacl_jax.data.views import make_views
from alphacl_jax.methods.contrastive import contrastive_method
from alphacl_jax.methods.method import Batch, Method
from alphacl_jax.runs.fields import require_default
from alphacl_jax.runs.flag_file import method_name
from alphacl_jax.runs.networks import make_encoder, make_projector
from alphacl_jax.runs.objectives import make_objective
from alphacl_jax.runs.settings import ContrastiveSettings, RunSettings
from alphacl_jax.training.step import MakeBatch


class Maker(NamedTuple):
    """How a method is made.

    Attributes:
      method: from the run's settings, the images' shape and the devices.
      make_batch: what makes the batch that the method reads of raw images.
      label: what the table calls a run with these settings.
      unread: settings of the network that the method does not read; one that is set is an error.
    """

    method: Callable[[RunSettings, tuple[int, int, int], Mesh], Method]
    make_batch: Callable[[Policy, Preprocessing], MakeBatch]
    label: Callable[[Any], str]
    unread: tuple[str, ...] = ()


def _contrastive(settings: RunSettings, image_shape: tuple[int, int, int], mesh: Mesh) -> Method:
    own = settings.method
    assert isinstance(own, ContrastiveSettings)
    block_size = str(own.block_size)
    return contrastive_method(
        make_encoder(settings.model, image_shape),
        make_projector(settings.model),
        make_objective(own),
        mesh,
        negatives=own.negatives,
        stop_gradient=own.stop_gradient,
        block_size=block_size if block_size == "auto" else int(block_size),
    )


def _loss(settings: ContrastiveSettings) -> str:
    return settings.loss


def _two_views(policy: Policy, preprocessing: Preprocessing) -> MakeBatch:
    """Two augmented views of each image, and the labels."""

    def make_batch(key: Array, raw: Batch) -> Batch:
        views = make_views(key, raw["images"], policy, preprocessing.mean, preprocessing.std)
        return {"views": views, "labels": raw["labels"]}

    return make_batch


MAKERS: dict[str, Maker] = {"contrastive": Maker(_contrastive, _two_views, _loss)}


def make_method(settings: RunSettings, image_shape: tuple[int, int, int], mesh: Mesh) -> Method:
    """The method of a run.

    Raises:
      ArgumentError: where its settings do not fit each other, or one is set that it does not read.
    """
    name = method_name(settings)
    for unread in MAKERS[name].unread:
        require_default(settings.model, unread, f"other methods than {name}")
    return MAKERS[name].method(settings, image_shape, mesh)


def make_batch_of(settings: RunSettings, policy: Policy, preprocessing: Preprocessing) -> MakeBatch:
    """What makes the batch that a run's method reads of raw images."""
    return MAKERS[method_name(settings)].make_batch(policy, preprocessing)


def label_of(settings: RunSettings) -> str:
    """What tables call a run with these settings."""
    return MAKERS[method_name(settings)].label(settings.method)
