"""Which folders are the parts of a data set, training and held-out images, by their names."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from alphacl_jax.data.errors import MissingDataError
from alphacl_jax.data.tree import subfolders
from alphacl_jax.errors import ArgumentError

# What parts are called, in any case and with any of the endings; of held-out ones the first wins.
_TRAIN = ("train", "training")
_HELD_OUT = (
    ("test", "testing"),
    ("val", "valid", "validation"),
    ("eval", "evaluation"),
    ("dev",),
    ("holdout", "heldout"),
)
_ENDINGS = "set|data|dataset|image|images|img|imgs|split"
_NAMES = (*_TRAIN, *(name for names in _HELD_OUT for name in names))


class Parts(NamedTuple):
    """The parts of a data folder.

    Attributes:
      train: where the training images are: the data folder itself where there are no parts.
      held_out: where held-out images may be, the first choice first.
      beside: the other folders beside `train`.
    """

    train: Path
    held_out: list[Path]
    beside: list[Path]


def find_parts(root: Path) -> Parts:
    """The parts of the data folder `root`.

    Raises:
      MissingDataError: for a held-out part without a training part.
      ArgumentError: for two folders that look like the same part.
    """
    folders = subfolders(root)
    train = _only(root, _called(folders, _TRAIN))
    held_out = [name for names in _HELD_OUT for name in _only(root, _called(folders, names))]
    if not train and held_out:
        raise MissingDataError(
            "data_dir",
            root,
            f"has {held_out[0]}/ but no train/. Add train/CLASS/..., or give {held_out[0]}/ "
            "another name where it is a class",
        )
    if not train:
        return Parts(root, [], [])
    beside = [root / name for name in folders if name not in (*train, *held_out)]
    return Parts(root / train[0], [root / name for name in held_out], beside)


def names_of_parts(root: Path) -> tuple[str, ...]:
    """The folders in `root` that are parts: none where there is no training part among others."""
    folders = subfolders(root)
    held_out = [name for names in _HELD_OUT for name in _called(folders, names)]
    train = _called(folders, _TRAIN)
    return (*train, *held_out) if train or set(held_out) == set(folders) else ()


def check_class_names(root: Path, part: Path, class_names: Sequence[str]) -> None:
    """Refuses class folders in `part` that are rather parts of the data folder `root`.

    Raises:
      ArgumentError: for a name such as "train2" or "Validation".
    """
    suspect = [
        name
        for name in class_names
        if _is_called(re.sub(r"\d+", "", name), _NAMES)
        or re.fullmatch(r"(fold|split)[\W_]*\d+", name.casefold())
    ]
    if suspect:
        raise ArgumentError(
            "data_dir",
            root,
            f"has class folders in {part} that look like parts of a split: {', '.join(suspect)}. "
            "Call the parts train/ and test/, with the same class folders in both; give a class "
            "that is really called so another name",
        )


def _called(folders: Sequence[str], names: Sequence[str]) -> list[str]:
    return [folder for folder in folders if _is_called(folder, names)]


def _is_called(folder: str, names: Sequence[str]) -> bool:
    plain = re.sub(r"[\W_]+", "", folder).casefold()
    return re.fullmatch(rf"({'|'.join(names)})({_ENDINGS})?", plain) is not None


def _only(root: Path, same: list[str]) -> list[str]:
    if len(same) > 1:
        raise ArgumentError(
            "data_dir",
            root,
            f"has {' and '.join(f'{name}/' for name in same)}, which look like the same part of "
            "the data. Keep one of them there",
        )
    return same
