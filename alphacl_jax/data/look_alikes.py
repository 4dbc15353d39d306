"""Class folders that are rather parts of a split, by their names and by what they hold.

A name such as "seg_train" says so where "seg_test" is beside it: the two are equal without the
words for parts. What names leave open, the folders inside tell: parts hold the same classes.
"""

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from absl import logging

from alphacl_jax.data.class_folders import Classes
from alphacl_jax.data.parts import HELD_OUT, TRAIN, Parts, is_called
from alphacl_jax.data.tree import composed, subfolders
from alphacl_jax.errors import ArgumentError

_TRAIN_WORDS = (*TRAIN, "trn")
_HELD_OUT_WORDS = (*HELD_OUT, "tst")
# Longer ones first: "testing" is no "test" with something behind it.
_WORDS = re.compile(
    "|".join(sorted((*_TRAIN_WORDS, *_HELD_OUT_WORDS), key=len, reverse=True)), re.IGNORECASE
)
_ONE_OF_SEVERAL = r"(fold|split|partition)([\W_]*\d+|[\W_]+[a-z])"
_UNLABELLED = frozenset(("unlabeled", "unlabelled", "Unlabeled", "Unlabelled"))


class _Word(NamedTuple):
    """A word for a part in a name.

    Attributes:
      trained: whether it is one for training images.
      apart: whether it is a word of its own, as in "seg_train" and "trainA", not in "strain".
      rest: the letters of the name without it.
    """

    trained: bool
    apart: bool
    rest: str


def check_class_folders(root: Path, parts: Parts, classes: Classes) -> None:
    """Refuses class folders that are rather parts of the data folder `root`, or hold such parts.

    In a train/ that is beside others, a class may be called like a part where that says nothing:
    where the held-out images have it too, or where it is one among others.

    Raises:
      ArgumentError: naming them.
    """
    folders = _folders_in(classes)
    _check_no_parts_inside(root, parts.train, folders)
    suspect = _suspects(folders)
    if any(set(suspect) <= set(map(composed, subfolders(part))) for part in parts.held_out):
        return
    told_apart = parts.train != root and len(suspect) < len(classes) and not _of_both(suspect)
    if suspect and not told_apart:
        raise ArgumentError(
            "data_dir",
            root,
            f"has class folders in {parts.train} that look like parts of a split: "
            f"{', '.join(suspect)}. Call the parts train/ and test/, with the same class folders "
            "in both; give a class that is really called so another name",
        )
    _warn(parts.train, folders, suspect)


def warn_of_class_folders(folder: Path, classes: Classes) -> None:
    """Says in the log which class folders may be parts of a split."""
    folders = _folders_in(classes)
    _warn(folder, folders, _suspects(folders))


def _warn(folder: Path, folders: dict[str, frozenset[str]], suspect: list[str]) -> None:
    inside = sorted(next(iter(folders.values()), ()))
    alike = len(folders) > 1 and len(set(folders.values())) == 1
    # In any folder of images a class may hold parts; the names of classes are others.
    alike = alike and sum(not is_called(one, (*TRAIN, *HELD_OUT)) for one in inside) > 1
    doubtful = set(suspect).union(_UNLABELLED & folders.keys(), *_pairs(folders))
    if alike:
        logging.warning(
            "%s: the classes %s all hold the same folders: %s. If these are the classes, call the "
            "folders that hold them train/ and test/",
            folder,
            _some(sorted(folders)),
            _some(inside),
        )
    elif doubtful:
        logging.warning(
            "%s: read as classes, though they look like parts of the data: %s. If they are, call "
            "them train/ and test/, or take them out",
            folder,
            _some(sorted(doubtful)),
        )


def _folders_in(classes: Classes) -> dict[str, frozenset[str]]:
    """The folders with images in each class folder."""
    return {
        name: frozenset(
            composed(levels[1])
            for levels in (file.inside.split("/", 2) for file in files)
            if len(levels) == 3
        )
        for name, files in classes.items()
    }


def _check_no_parts_inside(root: Path, part: Path, folders: dict[str, frozenset[str]]) -> None:
    holding = [
        name
        for name, inside in folders.items()
        if all(any(is_called(one, names) for one in inside) for names in (TRAIN, HELD_OUT))
    ]
    if holding:
        raise ArgumentError(
            "data_dir",
            root,
            f"has class folders in {part} that hold parts of a split themselves: {_some(holding)}. "
            "Sort the images into train/CLASS and test/CLASS, or, where each is a data set of its "
            f"own, give one of them: data_dir={part / holding[0]}",
        )


def _suspects(folders: dict[str, frozenset[str]]) -> list[str]:
    """The class folders that look like parts by their names, or by names and what they hold."""
    found = {name for name in folders if _is_like_a_part(name)}
    for pair in _pairs(folders):
        apart = all(any(word.apart for word in _words(name)) for name in pair)
        one, other = (folders[name] for name in pair)
        if apart or (one == other and len(one) > 1):
            found.update(pair)
    with_a_letter = [
        name for name in folders if any(word.apart and len(word.rest) < 2 for word in _words(name))
    ]
    return sorted(found.union(with_a_letter if len(with_a_letter) > 1 else ()))


def _is_like_a_part(name: str) -> bool:
    plain = unicodedata.normalize("NFKC", name)
    return is_called(re.sub(r"\d+", "", plain), (*TRAIN, *HELD_OUT)) or (
        re.fullmatch(_ONE_OF_SEVERAL, plain.casefold()) is not None
    )


def _pairs(folders: dict[str, frozenset[str]]) -> Iterator[tuple[str, str]]:
    """Names of training and held-out images that are equal without these words."""
    trained: dict[str, str] = {}
    held_out: dict[str, str] = {}
    for name in folders:
        for word in _words(name):
            (trained if word.trained else held_out)[word.rest] = name
    for rest in trained.keys() & held_out.keys():
        yield trained[rest], held_out[rest]


def _words(name: str) -> Iterator[_Word]:
    plain = unicodedata.normalize("NFKC", name)
    for found in _WORDS.finditer(plain):
        before, after = plain[: found.start()], plain[found.end() :]
        word = found[0]
        yield _Word(
            word.casefold() in _TRAIN_WORDS,
            _are_apart(before[-1:], word[0]) and _are_apart(word[-1], after[:1]),
            re.sub(r"[\W\d_]+", "", before + after).casefold(),
        )


def _are_apart(left: str, right: str) -> bool:
    """Whether one word may end and another begin between these characters."""
    return not (left.isalpha() and right.isalpha()) or (left.islower() and right.isupper())


def _of_both(names: list[str]) -> bool:
    """Whether some are names for training images and some for held-out ones."""
    return {word.trained for name in names for word in _words(name)} == {True, False}


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} others" if len(names) > 5 else "")
