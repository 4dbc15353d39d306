"""What the processes of a run on several hosts compare before they train together."""

import functools
import hashlib
import importlib.metadata
import platform
from pathlib import Path
from typing import Any

import jax
import numpy as np

import alphacl_jax
from alphacl_jax.runs.any_run import AnyRun
from alphacl_jax.runs.description import AnyDescription
from alphacl_jax.runs.flag_file import as_mapping
from alphacl_jax.runs.settings import PLACES

# What computes, or decides what is computed. Where a plug-in is not installed it has no version.
_PACKAGES = (
    "jax", "jaxlib", "jax-cuda12-plugin", "jax-cuda12-pjrt", "jax-cuda13-plugin",
    "jax-cuda13-pjrt", "libtpu", "flax", "optax", "orbax-checkpoint", "chex", "numpy", "grain",
    "pillow", "dm-pix", "tensorflow-datasets",
)  # fmt: skip
_JAX_OPTIONS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
)


def to_compare(run: AnyRun, data: AnyDescription, start: Any) -> dict[str, Any]:
    """Settings, versions and data by name, as JSON can hold them.

    The places of data and of other runs may differ from host to host; what lies there may not.

    Args:
      run: what is about to be trained.
      data: what it is trained on.
      start: the weights that it starts from, or None where it draws them.
    """
    settings = {k: v for k, v in as_mapping(run.settings).items() if k not in PLACES}
    found = {
        **{name: list(v) if isinstance(v, tuple) else v for name, v in settings.items()},
        **_versions(),
        **{f"JAX's {name}": getattr(jax.config, name) for name in _JAX_OPTIONS},
        "kind of device": jax.local_devices()[0].device_kind,
    }
    described = data.to_json()
    policy, _ = described.pop("policy", {}), described.pop("data")
    return {
        **found,
        **{f"{name} of the augmentation": value for name, value in policy.items()},
        **{f"{name} of the data": value for name, value in described.items()},
        **run.sample(),
        "weights to start from": None if start is None else digest_of_arrays(start),
    }


def _versions() -> dict[str, str | None]:
    python = ".".join(platform.python_version_tuple()[:2])
    found: dict[str, str | None] = {"version of Python": python}
    for name in _PACKAGES:
        try:
            found[f"version of {name}"] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[f"version of {name}"] = None
    return {**found, "code of alphacl_jax": _digest_of_code()}


@functools.cache
def _digest_of_code() -> str:
    """Hosts may have other states of one repository, whose version is the same."""
    root, digest = Path(alphacl_jax.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def digest_of_arrays(tree: Any) -> str:
    """Hexadecimal digits that change with the names and the bytes of arrays."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        digest.update(jax.tree_util.keystr(path).encode() + np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:12]
