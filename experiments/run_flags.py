"""The flags of a training run, and how a run folder remembers them."""

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from absl import flags

from alphacl_jax.errors import RunError
from alphacl_jax.files import write_text_atomically
from alphacl_jax.runs.settings import LARGEST_SEED
from alphacl_jax.training.hosts import Cluster
from alphacl_jax.training.optim import OPTIMIZERS
from experiments.objectives import LOSSES

_CLUSTER = ("coordinator_address", "num_processes", "process_id")
# Where a run lies, where it runs and what it shows do not change what it computes.
_NOT_PART_OF_A_RUN = (
    "workdir",
    "preview",
    "seeds_as",
    "distributed",
    *_CLUSTER,
    "join_timeout",
    "heartbeat_timeout",
)


def define_run_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines every flag of a training run on `values`."""

    def string(name: str, default: str | None, text: str) -> None:
        flags.DEFINE_string(name, default, text, flag_values=values)

    def integer(name: str, default: int | None, text: str, lower: int = 0) -> None:
        flags.DEFINE_integer(name, default, text, lower, LARGEST_SEED, flag_values=values)

    def number(name: str, default: float | None, text: str) -> None:
        flags.DEFINE_float(name, default, text, flag_values=values)

    def choice(name: str, default: str, options: tuple[str, ...], text: str) -> None:
        flags.DEFINE_enum(name, default, list(options), text, flag_values=values)

    string(
        "workdir", None, "The run folder. Default: runs/DATASET-LOSS-HASH, the hash of all flags."
    )
    string("preview", None, "Write a grid of augmented pairs to this PNG file, and stop.")
    integer("seed", 0, "Of the initial weights, the order of the data and the augmentation.")
    integer(
        "num_seeds",
        1,
        "Train this many runs, of --seed and the seeds after it, each in WORKDIR/seed-K, and "
        "report the mean and standard deviation over them.",
        1,
    )
    choice(
        "seeds_as",
        "auto",
        ("auto", "vmap", "sequential"),
        "How --num_seeds runs train: as one vmapped program, which takes the memory of all of "
        "them, or one after the other. auto: vmap on accelerators, sequential on a CPU.",
    )

    string(
        "dataset",
        "digits",
        "digits (ships with scikit-learn), folder, or a TFDS image classification data set: "
        "cifar10, cifar100, stl10, fashion_mnist, ...",
    )
    string(
        "data_dir",
        None,
        "For folder: the folder with train/CLASS/* and test/CLASS/*, or with unlabelled images. "
        "For TFDS: where it keeps its data sets; its own default otherwise.",
    )
    integer("image_size", None, "Resize and crop images to this side. Default: as they are.", 1)
    integer(
        "memory_limit_mb",
        2048,
        "Data sets of up to this size live on the devices; larger ones are streamed.",
    )
    string(
        "augmentation",
        None,
        "simclr, simclr_gray, digits or none. Default: what suits the data set.",
    )
    string(
        "augmentation_overrides",
        "",
        "Changes to the augmentation, such as 'cutout_prob=0.5,crop_scale=0.2:1,sobel_prob=0.1'; "
        "the fields are those of alphacl_jax.data.policies.Policy.",
    )

    choice("loss", "alpha_direct", LOSSES, "The loss family, or alpha_ and the rule for alpha.")
    number("temperature", 0.5, "tau > 0 of the losses and rules that have one.")
    number("power", 4.0, "p > 1 of alpha_direct: alpha ~ exp(-d^p / tau).")
    number("gamma", 2.0, "The exponent of alpha_inverse (> 1) and alpha_reference_inverse (> 0).")
    number("eps", 1.0, "epsilon >= 0 of info_nce: the weight of the positive in the denominator.")
    number("margin", None, "Of triplet, soft_triplet and lifted_structured. Default: the family's.")
    number("sigmoid_c", 1.0, "c > 0 of the sigmoid loss.")
    choice(
        "negatives",
        "both_views",
        ("both_views", "same_view", "cross_view"),
        "Which embeddings are an anchor's negatives.",
    )
    flags.DEFINE_bool(
        "stop_gradient",
        True,
        "Hold alpha fixed in the gradient. --nostop_gradient is 'backprop alpha(theta)'.",
        flag_values=values,
    )
    string("block_size", "auto", "Anchors compared at a time: a number, or auto.")

    choice(
        "encoder",
        "small",
        ("small", "resnet18", "resnet34", "resnet50"),
        "small is one block per stage, for little images.",
    )
    flags.DEFINE_list(
        "widths", ["32", "64", "128"], "Channels of each stage of --encoder=small.", values
    )
    choice(
        "stem",
        "auto",
        ("auto", "small", "large"),
        "small is a 3x3 convolution, large ImageNet's 7x7 and pooling; auto takes small up to "
        "64 pixels. --encoder=small always has the small one.",
    )
    integer("projector_hidden", 256, "Width of the projector's hidden layers.", 1)
    integer("projector_depth", 2, "Layers of the projector: 2 is SimCLR's, 1 linear, 0 none.")
    integer("projector_dim", 128, "Width of the embedding that the loss sees.", 1)
    choice(
        "projector_norm",
        "affine",
        ("none", "affine", "no_affine"),
        "BatchNorm on the projector's hidden layers.",
    )
    choice("dtype", "float32", ("float32", "bfloat16"), "Of the model's computation.")

    integer("batch_size", 128, "Images per step, over all devices.", 2)
    integer("epochs", 60, "Passes over the data.", 1)
    choice("optimizer", "adamw", OPTIMIZERS, "From optax.")
    number("learning_rate", 2e-3, "The peak, after warm-up and before the cosine.")
    integer(
        "warmup_epochs",
        None,
        "Of linear warm-up, part of --epochs. Default: a tenth of them, at most 5.",
    )
    number("weight_decay", 1e-4, "On weights alone: norms and biases are spared.")
    number("momentum", 0.9, "Of sgd and lars.")
    number("clip_norm", None, "Clip the gradient at this global norm. Default: no clipping.")
    flags.DEFINE_bool(
        "distributed",
        False,
        "Train on several hosts: start the same command on each. Where JAX does not detect the "
        "cluster (it knows SLURM, Open MPI, Kubernetes and TPU pods), --coordinator_address, "
        "--num_processes and --process_id say who takes part.",
        flag_values=values,
    )
    string("coordinator_address", None, "host:port at which process 0 listens for the others.")
    integer("num_processes", None, "Of the run; --batch_size is over all of them.", 1)
    integer("process_id", None, "Of this process, from 0; process 0 writes records and evaluates.")
    integer("join_timeout", 120, "Seconds that --distributed waits for all processes to start.", 1)
    integer(
        "heartbeat_timeout",
        15,
        "Seconds without a sign of life after which a process of --distributed counts as lost and "
        "the others stop.",
        2,
    )
    integer("log_every", 10, "Steps between records in metrics.jsonl and TensorBoard.", 1)
    integer("save_every", 100, "Steps between checkpoints.", 1)


def settings(values: flags.FlagValues = flags.FLAGS) -> dict[str, Any]:
    """The run's flags by name, those that do not change what it computes left out."""
    reference = flags.FlagValues()
    define_run_flags(reference)
    return {
        name: values[name].value for name in sorted(reference) if name not in _NOT_PART_OF_A_RUN
    }


def cluster_of(values: flags.FlagValues = flags.FLAGS) -> Cluster | None:
    """Who takes part in a run on several hosts, or None for a run of this process alone.

    Raises:
      RunError: for flags that are incomplete, contradict each other, or would have no effect.
    """
    if not values.distributed:
        for name in (*_CLUSTER, "join_timeout", "heartbeat_timeout"):
            if values[name].value != values[name].default:
                raise RunError(f"--{name} is set, and only --distributed reads it")
        return None
    missing = [f"--{name}" for name in _CLUSTER if values[name].value is None]
    if 0 < len(missing) < len(_CLUSTER):
        raise RunError(
            f"--distributed needs {', '.join(missing)} too: give all of "
            f"{', '.join(f'--{name}' for name in _CLUSTER)}, or none where JAX detects the cluster"
        )
    if not missing and values.process_id >= values.num_processes:
        raise RunError(
            f"--process_id={values.process_id} must be less than "
            f"--num_processes={values.num_processes}"
        )
    if values.num_seeds > 1:
        raise RunError(
            f"--num_seeds={values.num_seeds} is for one process. With --distributed, start a run "
            "for each --seed"
        )
    return Cluster(
        values.coordinator_address,
        values.num_processes,
        values.process_id,
        values.join_timeout,
        values.heartbeat_timeout,
    )


def with_flags(values: flags.FlagValues, **changes: Any) -> flags.FlagValues:
    """A copy of a run's flags, with some of them changed."""
    changed = flags.FlagValues()
    define_run_flags(changed)
    for name in list(changed):
        changed[name].value = changes.get(name, values[name].value)
    changed.mark_as_parsed()
    return changed


def flag_file(values: flags.FlagValues = flags.FLAGS) -> str:
    """The run's flags in absl's flag file format; `--flagfile` of it repeats the run."""
    lines = []
    for name, value in settings(values).items():
        if value is None:
            continue
        if isinstance(value, bool):
            lines.append(f"--{name}" if value else f"--no{name}")
        else:
            text = ",".join(value) if isinstance(value, list) else str(value)
            lines.append(f"--{name}={text}")
    return "\n".join(lines) + "\n"


def default_workdir(values: flags.FlagValues = flags.FLAGS) -> Path:
    """`runs/` plus data set, loss and a hash of all flags."""
    digest = hashlib.sha256(flag_file(values).encode()).hexdigest()[:8]
    dataset = values.dataset.replace("/", "_")
    return Path("runs") / f"{dataset}-{values.loss}-{digest}"


def read_run(workdir: Path) -> flags.FlagValues:
    """The flags that the run in `workdir` was made with.

    Raises:
      RunError: where there is no run, or its flags cannot be read.
    """
    path = workdir / "flags.txt"
    if not path.is_file():
        raise RunError(f"{workdir} holds no run: {path} is missing. Check --workdir")
    values = flags.FlagValues()
    define_run_flags(values)
    try:
        others = values(["run", f"--flagfile={path}"])[1:]
    except (flags.Error, UnicodeDecodeError, OSError) as error:
        raise RunError(f"{path} cannot be read as flags: {error}") from error
    if others:
        raise RunError(f"{path} cannot be read as flags: it holds {others[0]!r}")
    return values


@contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Keeps a run folder for this process; the system lets go of it when the process ends.

    Raises:
      RunError: where another process holds it.
    """
    with (workdir / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(
                f"another process is training in {workdir}. Wait for it, or use another --workdir"
            ) from error
        yield


def claim_workdir(workdir: Path, values: flags.FlagValues = flags.FLAGS) -> None:
    """Makes the run folder, or checks that the run in it has the same flags.

    Raises:
      RunError: where it holds a run with other flags, naming those that differ, or cannot be made.
    """
    if (workdir / "flags.txt").exists():
        there, here = settings(read_run(workdir)), settings(values)
        differing = [
            f"--{name} is {there[name]!r} there and {here[name]!r} here"
            for name in here
            if there[name] != here[name]
        ]
        if differing:
            raise RunError(
                f"{workdir} holds a run with other flags: {'; '.join(differing)}. Use another "
                f"--workdir, or go on with that run by --flagfile={workdir / 'flags.txt'} "
                f"--workdir={workdir}"
            )
        return
    # A process that was killed while it made the folder may have left the file half written.
    if workdir.is_dir() and any(p.name != "flags.txt.partial" for p in workdir.iterdir()):
        raise RunError(
            f"{workdir} is not empty and holds no run (no flags.txt). Use another --workdir"
        )
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        write_text_atomically(workdir / "flags.txt", flag_file(values))
    except OSError as error:
        raise RunError(f"the run folder {workdir} cannot be made: {error}") from error
