"""What a trained encoder is set beside: where it started, and the same network given the labels."""

import tempfile
from pathlib import Path

import jax
from absl import logging
from jax.sharding import Mesh

from alphacl_jax.data import sources
from alphacl_jax.data.batches import open_batches, raw_shapes
from alphacl_jax.data.policies import Policy
from alphacl_jax.data.preprocessing import Preprocessing
from alphacl_jax.data.views import make_views
from alphacl_jax.methods.classifier import classifier_method
from alphacl_jax.methods.method import Batch
from alphacl_jax.runs.encoder import Encoder, encoder_of, load_encoder
from alphacl_jax.runs.methods import make_batch_of, make_method, parts_of
from alphacl_jax.runs.networks import make_encoder
from alphacl_jax.runs.optimizer import optimizer_of
from alphacl_jax.runs.run import Run, open_run, require_labels
from alphacl_jax.runs.settings import RunSettings
from alphacl_jax.runs.start import encoder_variables
from alphacl_jax.signals import hand_on
from alphacl_jax.training import hosts
from alphacl_jax.training.checkpoint import Checkpoints
from alphacl_jax.training.loop import InterruptedBySignal, NonFiniteLossError, Schedule, train
from alphacl_jax.training.mesh import data_mesh
from alphacl_jax.training.step import MakeBatch, make_init, make_train_step


def untrained_name(settings: RunSettings) -> str:
    """What the table calls the encoder that a run started from."""
    if settings.model.init_from is None:
        return "untrained encoder"
    return f"start: {Path(settings.model.init_from).name}"


def untrained_encoder(encoder: Encoder) -> Encoder:
    """The encoder that a run started from, made again."""
    settings, description = encoder.settings, encoder.description
    if settings.model.init_from is not None:
        return load_encoder(settings.model.init_from)
    preprocessing = description.preprocessing
    mesh = data_mesh(jax.local_devices()[:1])
    init = make_init(
        make_method(settings, preprocessing.image_shape, mesh),
        optimizer_of(settings.optimizer, 1, parts_of(settings))[0],
        make_batch_of(settings, description.policy, preprocessing),
        raw_shapes(preprocessing.image_shape, 2),
        mesh,
    )
    return encoder_of(settings, description, init(settings.seed))


def baselines_of(
    encoder: Encoder, dataset: sources.Dataset, supervised_on: Mesh | None
) -> dict[str, Encoder]:
    """The rows beside a trained encoder on a data set, by their names.

    Args:
      encoder: that was trained.
      dataset: what is evaluated on.
      supervised_on: the devices on which a supervised encoder is trained; None trains none.
    """
    found = {untrained_name(encoder.settings): untrained_encoder(encoder)}
    if supervised_on is not None:
        run = open_run(encoder.settings, supervised_on, dataset)
        found |= supervised_row(run, encoder)
    return found


def supervised_row(run: Run, start: Encoder) -> dict[str, Encoder]:
    """The supervised encoder by the name of its row; nothing where it diverged."""
    trained = train_supervised(run, start)
    return {} if trained is None else {"supervised encoder": trained}


def train_supervised(run: Run, start: Encoder) -> Encoder | None:
    """The run's network trained from scratch on the labels of the training images.

    Cross-entropy of a linear layer on one augmented view, with the run's optimiser, batch size,
    epochs and augmentation; none of these was chosen for it.

    Args:
      run: of the data and the settings.
      start: an encoder of the run, whose projector stays as it is.

    Returns:
      None, after a warning, where it diverged: these settings were chosen for another loss.

    Raises:
      ArgumentError: where the data has no labels.
    """
    dataset, own = run.dataset, run.settings.optimizer
    require_labels(dataset)
    assert dataset.train is not None
    method = classifier_method(
        make_encoder(run.settings.model, dataset.image_shape), len(dataset.class_names)
    )

    make_batch = one_view_of(run.policy, run.preprocessing)
    batches = open_batches(
        dataset.train, own.batch_size, run.mesh, run.settings.seed, run.memory_limit_bytes
    )
    optimizer, learning_rate = optimizer_of(own, batches.steps_per_epoch)
    init = make_init(method, optimizer, make_batch, raw_shapes(dataset.image_shape, 2), run.mesh)
    step = make_train_step(method, optimizer, make_batch, learning_rate, run.mesh)
    total = own.epochs * batches.steps_per_epoch
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder))
        try:
            state = train(
                init(run.settings.seed),
                step,
                batches,
                Schedule(total, log_every=100, save_every=total),
                checkpoints,
                mesh=run.mesh,
            )
        except InterruptedBySignal as error:
            # Of this network nothing is kept, and whoever handles signals outside is to say so.
            hand_on(error.number)
            raise
        except NonFiniteLossError as error:
            logging.warning(
                "the supervised encoder diverged: its %s was %s at step %d, at learning_rate=%g. "
                "The table leaves it out",
                error.name,
                error.value,
                error.step,
                own.learning_rate,
            )
            return None
        finally:
            checkpoints.close()
    return start.with_variables(encoder_variables(hosts.own_copy(state)), total)


def one_view_of(policy: Policy, preprocessing: Preprocessing) -> MakeBatch:
    """What makes the batch of a `classifier_method`: one augmented view of each image, and labels.

    Args:
      policy: the augmentation.
      preprocessing: of the encoder's inputs.
    """

    def make_batch(key: jax.Array, raw: Batch) -> Batch:
        views = make_views(
            key, raw["images"], policy, preprocessing.mean, preprocessing.std, views=1
        )
        return {"views": views, "labels": raw["labels"]}

    return make_batch
