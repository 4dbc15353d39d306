"""From flags to the parts of a run: data, model, method, step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from absl import flags
from jax import Array
from jax.sharding import Mesh

from alphacl_jax.data import policies, sources, views
from alphacl_jax.data.batches import Batches, open_batches
from alphacl_jax.methods.contrastive import contrastive_method
from alphacl_jax.methods.method import Method
from alphacl_jax.models import heads, resnet
from alphacl_jax.training.loop import Schedule, TrainStep
from alphacl_jax.training.optim import make_optimizer, warmup_cosine
from alphacl_jax.training.state import TrainState
from alphacl_jax.training.step import data_mesh, make_init, make_train_step
from experiments.objectives import make_objective

_LARGE_STEM_ABOVE = 64


@dataclass(frozen=True)
class Run:
    """What the flags of a run stand for.

    Attributes:
      values: the flags.
      dataset: opened, not yet decoded.
      policy: the augmentation.
      mesh: the devices.
      method: what is trained.
      features: compiled `(params, method_state, uint8 images) -> [batch, dim]`, for evaluation.
    """

    values: flags.FlagValues
    dataset: sources.Dataset
    policy: policies.Policy
    mesh: Mesh
    method: Method
    features: Callable[[Any, Any, Any], Array]

    def flag(self, name: str) -> Any:
        return self.values[name].value

    @property
    def memory_limit_bytes(self) -> int:
        return int(self.flag("memory_limit_mb")) * 2**20

    def views(self, key: Array, images: Array) -> Array:
        """Two augmented views of uint8 images, `[batch, 2, height, width, channels]`."""
        return views.make_views(key, images, self.policy, self.dataset.mean, self.dataset.std)


@dataclass(frozen=True)
class Training:
    """The parts that the loop is given.

    Attributes:
      optimizer: that `init` and `step` are made with.
      init: the state before the first step, by seed.
      batches: in the order of the run's seed.
    """

    optimizer: optax.GradientTransformation
    init: Callable[[int], TrainState]
    step: TrainStep
    batches: Batches
    schedule: Schedule
    learning_rate: optax.Schedule


def open_run(values: flags.FlagValues) -> Run:
    """Opens the data and builds the method that the flags describe.

    Raises:
      ValueError, FileNotFoundError: where flags or data cannot be used; the message says why.
    """
    objective = make_objective(values)
    dataset = sources.load(values.dataset, values.data_dir, values.image_size)
    name = values.augmentation
    policy = (
        policies.default_policy(dataset.name, dataset.image_shape)
        if name is None
        else policies.named_policy(name, dataset.image_shape)
    )
    policy = policies.override(policy, values.augmentation_overrides)
    mesh = data_mesh()
    method = contrastive_method(
        make_encoder(values, dataset.image_shape),
        make_projector(values),
        objective,
        mesh,
        negatives=values.negatives,
        stop_gradient=values.stop_gradient,
        block_size=parse_block_size(values.block_size),
    )

    def features(params: Any, method_state: Any, images: Array) -> Array:
        inputs = views.normalize(images, dataset.mean, dataset.std)
        return method.features(params, method_state, inputs)

    return Run(values, dataset, policy, mesh, method, jax.jit(features))


def prepare_training(run: Run) -> Training:
    """The parts that train a run.

    Raises:
      ValueError: where the flags do not fit each other or the data.
    """
    batches = open_batches(
        run.dataset.pretrain,
        run.flag("batch_size"),
        run.mesh,
        run.flag("seed"),
        run.memory_limit_bytes,
    )
    total = run.flag("epochs") * batches.steps_per_epoch
    optimizer, learning_rate = _optimizer(run, batches.steps_per_epoch)
    return Training(
        optimizer=optimizer,
        init=_init(run, optimizer),
        step=make_train_step(run.method, optimizer, run.views, run.mesh),
        batches=batches,
        schedule=Schedule(total, run.flag("log_every"), run.flag("save_every")),
        learning_rate=learning_rate,
    )


def untrained_state(run: Run) -> tuple[TrainState, int]:
    """The state that a run starts from, and its number of steps, without reading its images."""
    steps_per_epoch = len(run.dataset.pretrain.source) // run.flag("batch_size")
    optimizer, _ = _optimizer(run, steps_per_epoch)
    return _init(run, optimizer)(run.flag("seed")), run.flag("epochs") * steps_per_epoch


def _init(run: Run, optimizer: optax.GradientTransformation) -> Callable[[int], TrainState]:
    return make_init(run.method, optimizer, run.dataset.image_shape, run.mesh)


def _optimizer(
    run: Run, steps_per_epoch: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    warmup, epochs = run.flag("warmup_epochs"), run.flag("epochs")
    if warmup is None:
        warmup = min(5, epochs // 10)
    if warmup >= epochs:
        raise ValueError(
            f"--warmup_epochs={warmup} is part of --epochs={epochs} and must be less than it"
        )
    if run.flag("optimizer") not in ("sgd", "lars"):
        _require_default(run.values, "momentum", "--optimizer=sgd and lars")
    learning_rate = warmup_cosine(
        run.flag("learning_rate"), epochs * steps_per_epoch, warmup * steps_per_epoch
    )
    optimizer = make_optimizer(
        run.flag("optimizer"),
        learning_rate,
        weight_decay=run.flag("weight_decay"),
        momentum=run.flag("momentum"),
        clip_norm=run.flag("clip_norm"),
    )
    return optimizer, learning_rate


def _require_default(values: flags.FlagValues, name: str, readers: str) -> None:
    """Refuses a setting that would have no effect."""
    if values[name].value != values[name].default:
        raise ValueError(f"--{name} is set, and only {readers} read it")


def parse_block_size(text: str) -> int | str:
    """The number of --block_size, or "auto".

    Raises:
      ValueError: for anything else.
    """
    if text == "auto":
        return text
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise ValueError(f"--block_size={text} must be a whole number >= 1, or auto")
    return number


def make_encoder(values: flags.FlagValues, image_shape: tuple[int, int, int]) -> nn.Module:
    """The encoder that the flags describe.

    Raises:
      ValueError: for widths or a stem that it does not have.
    """
    dtype = jnp.dtype(values.dtype)
    name, stem = values.encoder, values.stem
    if name == "small":
        try:
            widths = tuple(int(width) for width in values.widths)
        except ValueError:
            widths = ()
        if not widths or min(widths) < 1:
            raise ValueError(
                f"--widths={','.join(values.widths)} must be whole numbers >= 1, such as 32,64,128"
            )
        if stem == "large":
            raise ValueError("--stem=large needs --encoder=resnet18, resnet34 or resnet50")
        return resnet.small_resnet(widths, dtype=dtype)
    _require_default(values, "widths", "runs with --encoder=small")
    small = stem == "small" or (stem == "auto" and min(image_shape[:2]) <= _LARGE_STEM_ABOVE)
    make = {"resnet18": resnet.resnet18, "resnet34": resnet.resnet34, "resnet50": resnet.resnet50}
    return make[name](small_stem=small, dtype=dtype)


def make_projector(values: flags.FlagValues) -> heads.Projector:
    """The projector that the flags describe.

    Raises:
      ValueError: for a width or a norm that a projector of this depth does not have.
    """
    if values.projector_depth < 2:
        for name in ("projector_hidden", "projector_norm"):
            _require_default(values, name, "projectors of --projector_depth=2 or more")
    if values.projector_depth < 1:
        _require_default(values, "projector_dim", "projectors of --projector_depth=1 or more")
    return heads.Projector(
        hidden=values.projector_hidden,
        depth=values.projector_depth,
        dim=values.projector_dim,
        batch_norm=values.projector_norm,
        dtype=jnp.dtype(values.dtype),
    )
