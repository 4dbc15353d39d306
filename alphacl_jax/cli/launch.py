"""The flags that say where a run lies and on which hosts; none changes what it computes."""

from typing import TYPE_CHECKING

from absl import flags

from alphacl_jax.errors import RunError
from alphacl_jax.runs.common_settings import LARGEST_SEED

if TYPE_CHECKING:
    from alphacl_jax.training.hosts import Cluster

_WHO = ("coordinator_address", "num_processes", "process_id")
HOSTS = ("distributed", *_WHO, "join_timeout", "heartbeat_timeout")
LAUNCH = ("workdir", "allow_changed_data", "preview", "seeds_as")


def define_launch_flags(values: flags.FlagValues) -> None:
    """Defines them on `values`."""

    def string(name: str, text: str) -> None:
        flags.DEFINE_string(name, None, text, flag_values=values)

    def integer(name: str, default: int | None, text: str, lower: int) -> None:
        flags.DEFINE_integer(name, default, text, lower, LARGEST_SEED, flag_values=values)

    string(
        "workdir",
        "The run folder. Default: runs/DATA-LOSS-HASH, the hash of all settings but those of the "
        "evaluation and where the data lies.",
    )
    flags.DEFINE_bool(
        "allow_changed_data",
        False,
        "Go on with the run in the folder although its data are others than those it began with.",
        flag_values=values,
    )
    string("preview", "Write a grid of augmented pairs to this PNG file, and stop.")
    flags.DEFINE_enum(
        "seeds_as",
        "auto",
        ["auto", "vmap", "sequential"],
        "How --num_seeds runs train: as one vmapped program, which takes the memory of all of "
        "them, or one after the other. auto: vmap on accelerators, sequential on a CPU.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "distributed",
        False,
        "Train on several hosts: start the same command on each. Where JAX does not detect the "
        "cluster (it knows SLURM, Open MPI, Kubernetes and TPU pods), --coordinator_address, "
        "--num_processes and --process_id say who takes part.",
        flag_values=values,
    )
    string("coordinator_address", "host:port at which process 0 listens for the others.")
    integer("num_processes", None, "Of the run; --batch_size is over all of them.", 1)
    integer(
        "process_id", None, "Of this process, from 0; process 0 writes records and evaluates.", 0
    )
    integer("join_timeout", 120, "Seconds that --distributed waits for all processes to start.", 1)
    integer(
        "heartbeat_timeout",
        15,
        "Seconds without a sign of life after which a process of --distributed counts as lost and "
        "the others stop.",
        2,
    )


def cluster_of(values: flags.FlagValues) -> "Cluster | None":
    """Who takes part in a run on several hosts, or None for a run of this process alone.

    Raises:
      RunError: for flags that are incomplete, contradict each other, or would have no effect.
    """
    if not values["distributed"].value:
        for name in HOSTS[1:]:
            if values[name].value != values[name].default:
                raise RunError(f"--{name} is set, and only --distributed reads it")
        return None
    missing = [f"--{name}" for name in _WHO if values[name].value is None]
    if 0 < len(missing) < len(_WHO):
        raise RunError(
            f"--distributed needs {', '.join(missing)} too: give all of "
            f"{', '.join(f'--{name}' for name in _WHO)}, or none where JAX detects the cluster"
        )
    process_id, num_processes = values.process_id, values.num_processes
    if not missing and process_id >= num_processes:
        raise RunError(
            f"--process_id={process_id} must be less than --num_processes={num_processes}"
        )
    if values.num_seeds > 1:
        raise RunError(
            f"--num_seeds={values.num_seeds} is for one process. With --distributed, start a run "
            "for each --seed"
        )
    from alphacl_jax.training.hosts import Cluster

    timeouts = values.join_timeout, values.heartbeat_timeout
    return Cluster(values.coordinator_address, num_processes, process_id, *timeouts)
