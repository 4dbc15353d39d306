"""Images in folders: class folders under train/ and test/, or any folder, whole and as it is."""

import dataclasses
import functools
import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from alphacl_jax.data import images
from alphacl_jax.data.errors import MissingDataError, NotAFolderError
from alphacl_jax.data.outages import Patience, raise_if_away
from alphacl_jax.errors import ArgumentError

# The held-out part is test/; other common layouts call it one of the rest.
_TEST_NAMES = ("test", "val", "valid", "validation")


@dataclasses.dataclass(frozen=True, eq=False)
class FolderSource:
    """Image files with their labels, decoded one by one when indexed.

    Attributes:
      paths: the files, in a fixed order.
      names: the files as seen from the data folder, such as "train/cat/1.png".
      labels: int32 [len(paths)], -1 where there is no class.
      image_shape: (height, width, channels) of every image returned.
    """

    paths: Sequence[str]
    names: Sequence[str]
    labels: np.ndarray
    image_shape: tuple[int, int, int]

    def fingerprint(self) -> str:
        """Of the names and sizes of the files, wherever the folder lies."""
        digest, patience = hashlib.sha256(), Patience()
        for path, name in zip(self.paths, self.names, strict=True):
            size = patience.read(functools.partial(_size, path))
            digest.update(f"{name}\0{size}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path = self.paths[index]
        return {
            "image": images.decode(path, self.image_shape, path),
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
) -> tuple[FolderSource, FolderSource | None, tuple[str, ...]]:
    """Opens `data_dir/train/CLASS/*` with `data_dir/test/CLASS/*`, or a flat folder of images.

    Without a train/ folder, `data_dir` itself is taken for it. Test images may also lie in val/,
    valid/ or validation/. Class folders are searched to any depth; hidden files and files whose
    ending is not an image's are ignored.

    Args:
      data_dir: the folder.
      size: (height, width) of the images returned, or None to keep the size they have, which must
        then be the same for all.
      channels: 1 or 3, or None for what the training images have: 1 where all of them are
        greyscale (`images.all_grey`), else 3. Test images get the same.

    Returns:
      (train, test or None, class names in the order of the labels); with no class folders the
      class names are empty, and train holds all images, unlabelled.

    Raises:
      MissingDataError: for a folder that does not exist or holds no images.
      ArgumentError: for a single class, or test classes that are not the train classes.
      MixedSizesError: for sizes that differ with no `size`.
    """
    root = _root(data_dir)
    test_root = next((root / name for name in _TEST_NAMES if (root / name).is_dir()), None)
    if (root / "train").is_dir():
        train_root = root / "train"
        _report_left_out(_image_files(root, deep=False), root, "beside train/")
    elif test_root is not None:
        raise MissingDataError(
            "data_dir", root, f"has {test_root.name}/ but no train/. Add train/CLASS/..."
        )
    else:
        train_root = root

    train = _by_class(train_root)
    if train:
        class_names = tuple(train)
        _report_left_out(_image_files(train_root, deep=False), train_root, "beside class folders")
        if len(train) == 1:
            only = class_names[0]
            raise ArgumentError(
                "data_dir",
                root,
                f"holds one class only, {only!r}: there is nothing to tell apart. Add class "
                f"folders, or give data_dir={train_root / only} to pretrain without labels",
            )
        test = {} if test_root is None else _test_by_class(root, test_root, class_names)
    else:
        class_names, test = (), {}
        train = {"": _image_files(train_root, deep=False)}
        if not train[""]:
            raise _nothing_in(root, train_root)
        if test_root is not None:
            logging.warning("%s has no class folders, so %s is not used", train_root, test_root)

    train_files, test_files = (
        [path for paths in part.values() for path in paths] for part in (train, test)
    )
    size = size or images.common_size([*train_files, *test_files], str(root))
    shape = (*size, channels or _channels(root, train_files, test_files))
    return (
        _source(root, train, shape, labelled=bool(class_names)),
        _source(root, test, shape, labelled=True) if test else None,
        class_names,
    )


def open_any(
    data_dir: str | os.PathLike[str], image_shape: tuple[int, int, int]
) -> tuple[FolderSource, tuple[str, ...]]:
    """Opens all images in a folder and below it, without a split and with or without classes.

    An image's class is the folder of `data_dir` that it lies in, to any depth; where there is a
    train/, also the folder of train/ or test/ (or val/, valid/, validation/) that it lies in.

    Args:
      data_dir: the folder.
      image_shape: (height, width, channels) of the images returned; each is brought to it as by
        `images.decode`.

    Returns:
      (the images, sorted by path, with label -1 where they lie in no class folder; class names in
      the order of the labels).

    Raises:
      MissingDataError: for a folder that does not exist or holds no images.
    """
    root = _root(data_dir)
    paths = _image_files(root, deep=True)
    if not paths:
        raise _nothing_in(root, root)
    names = [os.path.relpath(path, root) for path in paths]
    parts = ("train", *_TEST_NAMES) if (root / "train").is_dir() else ()
    classes = [_class_folder(Path(name).parts[:-1], parts) for name in names]
    class_names = tuple(sorted({name for name in classes if name is not None}))
    number = {name: label for label, name in enumerate(class_names)}
    labels = np.array([-1 if name is None else number[name] for name in classes], np.int32)
    return FolderSource(paths, names, labels, image_shape), class_names


def _class_folder(folders: tuple[str, ...], parts: tuple[str, ...]) -> str | None:
    if folders and folders[0] in parts:
        folders = folders[1:]
    return folders[0] if folders else None


def open_files(
    paths: Sequence[str | os.PathLike[str]], image_shape: tuple[int, int, int]
) -> FolderSource:
    """Opens these image files, in this order and without labels; their names are `paths`.

    Raises:
      MissingDataError: where one of them is no file.
    """
    names = [os.fspath(path) for path in paths]
    found = [os.path.expanduser(name) for name in names]
    missing = [name for name, path in zip(names, found, strict=True) if not os.path.isfile(path)]
    if missing:
        raise MissingDataError("paths", ",".join(missing), "is no file. Give paths of images")
    return FolderSource(found, names, np.full(len(found), -1, np.int32), image_shape)


def _root(data_dir: str | os.PathLike[str]) -> Path:
    root = Path(data_dir).expanduser()
    if not root.exists():
        raise MissingDataError("data_dir", root, "does not exist. Give the folder of the images")
    if not root.is_dir():
        raise NotAFolderError("data_dir", root, "is a file. Give the folder of the images")
    return root


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
    root: Path, files: dict[str, list[str]], shape: tuple[int, int, int], labelled: bool
) -> FolderSource:
    counts = [len(paths) for paths in files.values()]
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    paths = [path for group in files.values() for path in group]
    names = [os.path.relpath(path, root) for path in paths]
    return FolderSource(paths, names, labels if labelled else np.full_like(labels, -1), shape)


def _by_class(root: Path) -> dict[str, list[str]]:
    """Image files by class folder, both sorted by name; folders without images are no classes."""
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not _is_hidden(p.name))
    found = {folder.name: _image_files(folder, deep=True) for folder in folders}
    empty = [name for name, files in found.items() if not files]
    found = {name: files for name, files in found.items() if files}
    if found and empty:
        logging.warning("%s: no images in %s, so not a class", root, ", ".join(empty))
    return found


def _test_by_class(
    root: Path, test_root: Path, class_names: tuple[str, ...]
) -> dict[str, list[str]]:
    test = _by_class(test_root)
    loose = _image_files(test_root, deep=False)
    if not test and not loose:
        raise _nothing_in(root, test_root)
    _report_left_out(loose, test_root, "beside class folders")
    if set(test) != set(class_names):
        missing, extra = set(class_names) - set(test), set(test) - set(class_names)
        parts = [
            f"{verb} {', '.join(sorted(names)[:10])}"
            for verb, names in (("lacks", missing), ("has besides", extra))
            if names
        ]
        raise ArgumentError(
            "data_dir",
            root,
            f"has class folders in {test_root.name}/ that differ from the {len(class_names)} of "
            f"the training set: it {' and '.join(parts)}. Give both the same folders",
        )
    return {name: test[name] for name in class_names}


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))


def _image_files(root: Path, *, deep: bool) -> list[str]:
    """The image files in `root`, and below it where `deep`, sorted."""
    return sorted(
        path for path in _files(root, deep) if Path(path).suffix.lower() in images.suffixes()
    )


def _files(root: Path, deep: bool) -> list[str]:
    def unreadable(error: OSError) -> None:  # os.walk would pass over the folder in silence
        raise PermissionError(f"cannot read {error.filename}: {error.strerror}. Check its rights")

    found = []
    for folder, subfolders, names in os.walk(root, onerror=unreadable, followlinks=True):
        subfolders[:] = [name for name in subfolders if deep and not _is_hidden(name)]
        found += [os.path.join(folder, name) for name in names if not _is_hidden(name)]
    return found


def _report_left_out(paths: list[str], root: Path, where: str) -> None:
    if paths:
        logging.warning(
            "%s: %d images %s have no class and are left out, such as %s",
            root,
            len(paths),
            where,
            os.path.basename(paths[0]),
        )


def _nothing_in(root: Path, part: Path) -> MissingDataError:
    """For the data folder `root`, in whose folder `part` images were looked for."""
    other = Counter(Path(path).suffix or "no ending" for path in _files(part, deep=True))
    shown = ", ".join(f"{suffix} ({count})" for suffix, count in other.most_common(5))
    return MissingDataError(
        "data_dir",
        root,
        f"has no images in {part}: {'files of type ' + shown if other else 'it is empty'}. "
        "Put image files into it (.jpg, .png, or any other that Pillow reads)"
        + (", or remove it" if part != root else ""),
    )
