"""The libraries of the installation's extras, and a sentence where one is missing."""

import functools
import importlib.util

# What the extra [train] brings, by the names that are imported.
TRAIN = (
    "PIL",
    "dm_pix",
    "flatbuffers",
    "flax",
    "grain",
    "importlib_resources",
    "matplotlib",
    "optax",
    "orbax",
    "safetensors",
    "scipy",
    "sklearn",
    "tensorboardX",
    "tensorflow_datasets",
    "threadpoolctl",
    "tqdm",
)

# The libraries of the extra [sequences], each for one kind of file.
SEQUENCES = ("aeon", "pyarrow", "soundfile")


@functools.cache
def missing_from_train() -> str:
    """What is missing of the extra [train], and what to do, as a sentence; "" where nothing is."""
    missing = [name for name in TRAIN if importlib.util.find_spec(name) is None]
    if not missing:
        return ""
    return (
        f"{', '.join(missing)} cannot be imported: training and evaluation need the extra "
        "[train]. Install it by: pip install 'alphacl_jax[train]'"
    )


def require_train(package: str) -> None:
    """Has a package say at once what it needs.

    Args:
      package: its name.

    Raises:
      ModuleNotFoundError: where something of the extra [train] is missing.
    """
    if problem := missing_from_train():
        raise ModuleNotFoundError(f"{package}: {problem}", name=package)


def require_of_sequences(library: str, what: str) -> None:
    """Has what needs a library of the extra [sequences] say so before it begins.

    Args:
      library: one of `SEQUENCES`.
      what: needs it.

    Raises:
      ModuleNotFoundError: where it is missing.
    """
    assert library in SEQUENCES, library
    if importlib.util.find_spec(library) is None:
        raise ModuleNotFoundError(
            f"{what} needs {library}, of the extra [sequences]. Install it by: "
            "pip install 'alphacl_jax[sequences]'",
            name=library,
        )
