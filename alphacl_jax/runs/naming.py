"""The names of files and folders that a run chooses by itself."""

import dataclasses
import hashlib
from pathlib import Path

from alphacl_jax.runs.common_settings import AnyRunSettings
from alphacl_jax.runs.description import AnyDescription, is_described, read_any_description
from alphacl_jax.runs.flag_file import to_text
from alphacl_jax.runs.folder import of_seeds, read_settings

_LONGEST = 100  # bytes, of the 255 that a file's name may have


def as_file_name(title: str) -> str:
    """The title of a data set as part of a file's name."""
    name = title.replace("/", "_").encode(errors="surrogateescape")[:_LONGEST]
    return name.decode(errors="ignore")


def default_workdir(
    settings: AnyRunSettings, title: str, data: AnyDescription | None = None
) -> Path:
    """`runs/` plus data set, loss and a hash of all settings but those of the evaluation.

    Where the data lies is no part of it, so that a run whose images were moved finds its folder;
    but where the folder of that name is taken by a run on other images from another place, or a
    run was named by its place before, that place is part of the hash.

    Args:
      settings: of the run.
      title: of the data set.
      data: what it is to be trained on; None does not look at what is in the folder.
    """
    kept = dataclasses.replace(settings, evaluation=type(settings.evaluation)())
    anywhere = dataclasses.replace(kept, data=dataclasses.replace(kept.data, data_dir=None))
    plain, placed = (_named(named, title) for named in (anywhere, kept))
    if placed.exists() or (data is not None and _is_of_other_data(plain, settings, data)):
        return placed
    return plain


def _named(settings: AnyRunSettings, title: str) -> Path:
    digest = hashlib.sha256(to_text(settings).encode(errors="surrogateescape")).hexdigest()[:8]
    return Path("runs") / f"{as_file_name(title)}-{settings.method.label}-{digest}"


def _is_of_other_data(workdir: Path, settings: AnyRunSettings, data: AnyDescription) -> bool:
    """Whether a folder has a run on images of another place, which are not these."""
    begun = [folder for folder in of_seeds(workdir) if is_described(folder)]
    if not begun or read_settings(workdir).data.data_dir == settings.data.data_dir:
        return False
    return any(read_any_description(folder).changes(data) for folder in begun)
