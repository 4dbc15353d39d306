"""Images in folders: class folders under train/ and test/, or any folder, whole and as it is."""

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from alphacl_jax.data import class_folders, images, look_alikes, tree
from alphacl_jax.data.class_folders import Classes
from alphacl_jax.data.decoding import PLAIN, Decoding
from alphacl_jax.data.errors import MissingDataError
from alphacl_jax.data.outages import Patience, raise_if_away
from alphacl_jax.data.parts import find_parts, names_of_parts
from alphacl_jax.data.places import existing_folder
from alphacl_jax.data.ranges import measured

# The name, which no folder has, of the only class of images without classes.
_UNLABELLED = ""


@dataclasses.dataclass(frozen=True, eq=False)
class FolderSource:
    """Image files with their labels, decoded one by one when indexed.

    Attributes:
      paths: the files, in a fixed order.
      names: the files as seen from the data folder, such as "train/cat/1.png".
      labels: int32 [len(paths)], -1 where there is no class.
      image_shape: (height, width, channels) of every image returned.
      decoding: how files are decoded.
    """

    paths: Sequence[str]
    names: Sequence[str]
    labels: np.ndarray
    image_shape: tuple[int, int, int]
    decoding: Decoding = PLAIN

    def fingerprint(self) -> str:
        """Of the names and sizes of the files, wherever the folder lies."""
        digest, patience = hashlib.sha256(), Patience()
        for path, name in zip(self.paths, self.names, strict=True):
            size = patience.read(_size, path)
            line = f"{tree.composed(name)}\0{size}\n"
            digest.update(line.encode(errors="surrogateescape"))
        return digest.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path = self.paths[index]
        return {
            "image": images.decode(path, self.image_shape, path, self.decoding),
            "label": int(self.labels[index]),
        }


def _size(path: str) -> int:
    """In bytes; -1 of a link that leads nowhere, which is left out as a damaged image is."""
    try:
        return os.path.getsize(path)
    except OSError as error:
        raise_if_away(error, path)
        return -1


def open_folder(
    data_dir: str | os.PathLike[str],
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    decoding: Decoding = PLAIN,
) -> tuple[FolderSource, FolderSource | None, tuple[str, ...]]:
    """Opens `data_dir/train/CLASS/*` with `data_dir/test/CLASS/*`, or a flat folder of images.

    Without a train/ folder, `data_dir` itself is taken for it. Both parts may have other usual
    names, such as Training/ and val/ (`parts`). Class folders are searched to any depth and through
    links; hidden files are ignored, files whose ending is not an image's are left out and counted
    in the log. Names are compared as they are read, in whichever encoding they are stored.

    Args:
      data_dir: the folder.
      size: (height, width) of the images returned, or None to keep the size they have, which must
        then be the same for all.
      channels: 1 or 3, or None for what the training images have: 1 where all of them are
        greyscale (`images.all_grey`), else 3. Test images get the same.
      decoding: how; where its range is "auto", that of the training images is measured, and stands
        in `decoding` of the sources.

    Returns:
      (train, test or None, class names in the order of the labels); with no class folders the
      class names are empty, and train holds all images, unlabelled.

    Raises:
      MissingDataError: for a folder that does not exist or holds no images.
      ArgumentError: for a single class, class folders that are rather parts of a split, test
        classes that are not the train classes, or a range that cannot be measured.
      MixedSizesError: for sizes that differ with no `size`.
    """
    root = existing_folder(data_dir, "the folder of the images")
    train, test = _parts(root)
    train_files, test_files = (
        [file.path for files in part.values() for file in files] for part in (train, test)
    )
    decoding = measured(decoding, train_files, str(root), others=test_files)
    size = size or images.common_size([*train_files, *test_files], str(root))
    shape = (*size, channels or _channels(root, train_files, test_files))
    class_names = tuple(train) if _UNLABELLED not in train else ()
    return (
        _source(root, train, shape, decoding),
        _source(root, test, shape, decoding) if test else None,
        class_names,
    )


def _parts(root: Path) -> tuple[Classes, Classes]:
    """Training and held-out images by class; the latter empty where there are none."""
    parts = find_parts(root)
    found = tree.search(parts.train)
    if not found.images:
        raise class_folders.nothing_in(root, found)
    tree.report(found)
    if parts.train != root:
        top = tree.search(root, deep=False)
        tree.report(top)
        class_folders.report_left_out(top.images, root, f"beside {parts.train.name}/")
    train, loose = class_folders.by_class(found)
    class_folders.check_links(root, found, train)
    held_out, beside = (list(map(tree.search, some)) for some in (parts.held_out, parts.beside))
    if not train:
        class_folders.check_train_is_no_class(root, parts.train, beside)
        for part in parts.held_out:
            logging.warning("%s has no class folders, so %s is not used", parts.train, part)
        class_folders.report_unread(root, [parts.train], beside)
        return {_UNLABELLED: loose}, {}
    class_folders.report_left_out(loose, parts.train, "beside class folders")
    look_alikes.check_class_folders(root, parts, train)
    class_folders.check_several(root, parts.train, train)
    test, chosen = class_folders.held_out_by_class(root, held_out, tuple(train))
    read = [found] if chosen is None else [found, chosen]
    others = [part for part in (*held_out, *beside) if part is not chosen]
    class_folders.report_unread(root, [part.folder for part in read], others)
    class_folders.report_shared(root, train, test)
    return train, test


def open_any(
    data_dir: str | os.PathLike[str],
    image_shape: tuple[int, int, int],
    decoding: Decoding = PLAIN,
) -> tuple[FolderSource, tuple[str, ...]]:
    """Opens all images in a folder and below it, without a split and with or without classes.

    An image's class is the folder of `data_dir` that it lies in, to any depth; where there is a
    train/, or nothing but parts of a split, the folder of the part that it lies in (`parts`).

    Args:
      data_dir: the folder.
      image_shape: (height, width, channels) of the images returned; each is brought to it as by
        `images.decode`.
      decoding: how; for an encoder with the range of its `preprocessing`.

    Returns:
      (the images, sorted by path, with label -1 where they lie in no class folder; class names in
      the order of the labels).

    Raises:
      MissingDataError: for a folder that does not exist or holds no images.
    """
    root = existing_folder(data_dir, "the folder of the images")
    found = tree.search(root)
    if not found.images:
        raise class_folders.nothing_in(root, found)
    tree.report(found)
    paths = [file.path for file in found.images]
    decoding = measured(decoding, paths, str(root))
    names = [file.inside for file in found.images]
    parts = names_of_parts(root)
    if not parts:
        class_folders.report_links(found)
        look_alikes.warn_of_class_folders(root, class_folders.by_class(found)[0])
    classes = [_class_folder(Path(name).parts[:-1], parts) for name in names]
    class_names = tuple(sorted({name for name in classes if name is not None}))
    number = {name: label for label, name in enumerate(class_names)}
    labels = np.array([-1 if name is None else number[name] for name in classes], np.int32)
    return FolderSource(paths, names, labels, image_shape, decoding), class_names


def _class_folder(folders: tuple[str, ...], parts: tuple[str, ...]) -> str | None:
    if folders and folders[0] in parts:
        folders = folders[1:]
    return tree.composed(folders[0]) if folders else None


def open_files(
    paths: Sequence[str | os.PathLike[str]],
    image_shape: tuple[int, int, int],
    decoding: Decoding = PLAIN,
) -> FolderSource:
    """Opens these image files, in this order and without labels; their names are `paths`.

    Args:
      paths: of the files.
      image_shape, decoding: see `open_any`.

    Raises:
      MissingDataError: where one of them is no file.
    """
    names = [os.fspath(path) for path in paths]
    found = [os.path.expanduser(name) for name in names]
    missing = [name for name, path in zip(names, found, strict=True) if not os.path.isfile(path)]
    if missing:
        raise MissingDataError("paths", ",".join(missing), "is no file. Give paths of images")
    decoding = measured(decoding, found, "paths")
    return FolderSource(found, names, np.full(len(found), -1, np.int32), image_shape, decoding)


def _channels(root: Path, train_files: list[str], test_files: list[str]) -> int:
    if not images.all_grey(train_files):
        return 3
    if test_files and not images.all_grey(test_files):
        logging.warning(
            "%s: the training images are greyscale, so the colours of the test images are dropped",
            root,
        )
    return 1


def _source(
    root: Path, classes: Classes, shape: tuple[int, int, int], decoding: Decoding
) -> FolderSource:
    labels = np.repeat(
        np.arange(len(classes), dtype=np.int32), [len(files) for files in classes.values()]
    )
    paths = [file.path for files in classes.values() for file in files]
    names = [os.path.relpath(path, root) for path in paths]
    if _UNLABELLED in classes:
        labels = np.full_like(labels, -1)
    return FolderSource(paths, names, labels, shape, decoding)
