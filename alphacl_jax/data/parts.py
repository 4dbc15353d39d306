"""Which folders are the parts of a data set, training and held-out images, by their names."""

import re
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from absl import logging

from alphacl_jax.data.errors import MissingDataError
from alphacl_jax.data.tree import search, subfolders
from alphacl_jax.errors import ArgumentError

# What parts are called, in any case and with any of the endings; of held-out ones the first wins.
TRAIN = ("train", "training")
_HELD_OUT_PARTS = (
    ("test", "testing"),
    ("val", "valid", "validation"),
    ("eval", "evaluation"),
    ("dev",),
    ("holdout", "heldout"),
)
HELD_OUT = tuple(name for names in _HELD_OUT_PARTS for name in names)
_ENDINGS = "(data)?sets?|data|images?|imgs?|splits?"


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


def find_parts(root: Path, endings: Collection[str] | None = None) -> Parts:
    """The parts of the data folder `root`.

    Args:
      endings: of the files that count, in lower case; None for those of images.

    Raises:
      MissingDataError: for a held-out part without a training part.
      ArgumentError: for two folders that look like the same part.
    """
    folders = subfolders(root)
    train = _only(root, _called(folders, TRAIN), endings)
    held_out = [
        name for names in _HELD_OUT_PARTS for name in _only(root, _called(folders, names), endings)
    ]
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
    """The folders in `root` that are parts: none where there is no training part among others.

    Several folders may be called like one part; that is said in the log.
    """
    folders = subfolders(root)
    held_out = _called(folders, HELD_OUT)
    train = _called(folders, TRAIN)
    if not train and set(held_out) != set(folders):
        return ()
    for names in (TRAIN, *_HELD_OUT_PARTS):
        if len(same := _called(folders, names)) > 1:
            logging.warning(
                "%s: %s are called like the same part of the data, and are read as one",
                root,
                " and ".join(f"{name}/" for name in same),
            )
    return (*train, *held_out)


def is_called(folder: str, names: Sequence[str]) -> bool:
    """Whether a folder has one of these names, in any case and with any of the usual endings."""
    plain = re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", folder)).casefold()
    return re.fullmatch(rf"({'|'.join(names)})({_ENDINGS})?", plain) is not None


def _called(folders: Sequence[str], names: Sequence[str]) -> list[str]:
    return [folder for folder in folders if is_called(folder, names)]


def _only(root: Path, same: list[str], endings: Collection[str] | None) -> list[str]:
    """Of folders that are called like one part the one that holds files that count."""
    if len(same) < 2:
        return same
    holding = [name for name in same if search(root / name, endings=endings).images]
    if len(holding) > 1:
        raise ArgumentError(
            "data_dir",
            root,
            f"has {' and '.join(f'{name}/' for name in holding)}, which look like the same part of "
            "the data. Keep one of them there",
        )
    chosen = (holding or same)[:1]
    empty = ", ".join(f"{name}/" for name in same if name not in chosen)
    logging.warning("%s: nothing to read in %s, so %s/ alone is that part", root, empty, chosen[0])
    return chosen
