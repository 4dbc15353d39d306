"""Images in folders: class folders under train/ and test/, or one folder without classes."""

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from alphacl_jax.data import images

# The held-out part is test/; other common layouts call it one of the rest.
_TEST_NAMES = ("test", "val", "valid", "validation")


@dataclasses.dataclass(frozen=True, eq=False)
class FolderSource:
    """Image files with their labels, decoded one by one when indexed.

    Attributes:
      paths: the files, in a fixed order.
      labels: int32 [len(paths)], -1 where there is no class.
      image_shape: (height, width, channels) of every image returned.
    """

    paths: Sequence[str]
    labels: np.ndarray
    image_shape: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path = self.paths[index]
        return {
            "image": images.decode(path, self.image_shape, path),
            "label": int(self.labels[index]),
        }


def open_folder(
    data_dir: str | os.PathLike[str], image_size: int | None
) -> tuple[FolderSource, FolderSource | None, tuple[str, ...]]:
    """Opens `data_dir/train/CLASS/*` with `data_dir/test/CLASS/*`, or a flat folder of images.

    Without a train/ folder, `data_dir` itself is taken for it. Test images may also lie in val/,
    valid/ or validation/. Class folders are searched to any depth; hidden files and files whose
    ending is not an image's are ignored. Every image becomes RGB.

    Args:
      data_dir: the folder.
      image_size: height and width of the images returned, or None to keep the size they have,
        which must then be the same for all.

    Returns:
      (train, test or None, class names in the order of the labels); with no class folders the
      class names are empty, and train holds all images, unlabelled.

    Raises:
      FileNotFoundError: for a folder that does not exist or holds no images.
      ValueError: for a single class, test classes that are not the train classes, or sizes that
        differ with no `image_size`.
    """
    root = Path(data_dir).expanduser()
    if not root.exists():
        raise FileNotFoundError(f"data_dir={root} does not exist. Give the folder of the images")
    if not root.is_dir():
        raise NotADirectoryError(f"data_dir={root} is a file. Give the folder of the images")
    test_root = next((root / name for name in _TEST_NAMES if (root / name).is_dir()), None)
    if (root / "train").is_dir():
        train_root = root / "train"
        _report_left_out(_image_files(root, deep=False), root, "beside train/")
    elif test_root is not None:
        raise FileNotFoundError(f"{root} has {test_root.name}/ but no train/. Add train/CLASS/...")
    else:
        train_root = root

    train = _by_class(train_root)
    if train:
        class_names = tuple(train)
        _report_left_out(_image_files(train_root, deep=False), train_root, "beside class folders")
        if len(train) == 1:
            only = class_names[0]
            raise ValueError(
                f"{train_root} holds one class only, {only!r}: there is nothing to tell apart. Add "
                f"class folders, or give data_dir={train_root / only} to pretrain without labels"
            )
        test = None if test_root is None else _test_by_class(test_root, class_names)
    else:
        class_names, test = (), None
        train = {"": _image_files(train_root, deep=False)}
        if not train[""]:
            raise FileNotFoundError(_nothing_in(train_root))
        if test_root is not None:
            logging.warning("%s has no class folders, so %s is not used", train_root, test_root)

    everything = [path for part in (train, test or {}) for paths in part.values() for path in paths]
    size = (image_size,) * 2 if image_size else images.common_size(everything, str(root))
    shape = (*size, 3)
    return (
        _source(train, shape, labelled=bool(class_names)),
        _source(test, shape, labelled=True) if test else None,
        class_names,
    )


def _source(
    files: dict[str, list[str]], shape: tuple[int, int, int], labelled: bool
) -> FolderSource:
    counts = [len(paths) for paths in files.values()]
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    paths = [path for group in files.values() for path in group]
    return FolderSource(paths, labels if labelled else np.full_like(labels, -1), shape)


def _by_class(root: Path) -> dict[str, list[str]]:
    """Image files by class folder, both sorted by name; folders without images are no classes."""
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not _is_hidden(p.name))
    found = {folder.name: _image_files(folder, deep=True) for folder in folders}
    empty = [name for name, files in found.items() if not files]
    found = {name: files for name, files in found.items() if files}
    if found and empty:
        logging.warning("%s: no images in %s, so not a class", root, ", ".join(empty))
    return found


def _test_by_class(root: Path, class_names: tuple[str, ...]) -> dict[str, list[str]]:
    test = _by_class(root)
    loose = _image_files(root, deep=False)
    if not test and not loose:
        raise FileNotFoundError(_nothing_in(root) + ", or remove the folder")
    _report_left_out(loose, root, "beside class folders")
    if set(test) != set(class_names):
        missing, extra = set(class_names) - set(test), set(test) - set(class_names)
        parts = [
            f"{verb} {', '.join(sorted(names)[:10])}"
            for verb, names in (("lacks", missing), ("has besides", extra))
            if names
        ]
        raise ValueError(
            f"the class folders of {root} differ from the {len(class_names)} of the training set: "
            f"it {' and '.join(parts)}. Give both the same folders"
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


def _nothing_in(root: Path) -> str:
    other = Counter(Path(path).suffix or "no ending" for path in _files(root, deep=True))
    shown = ", ".join(f"{suffix} ({count})" for suffix, count in other.most_common(5))
    return (
        f"no images in {root}: {'files of type ' + shown if other else 'it is empty'}. "
        "Put image files into it (.jpg, .png, or any other that Pillow reads)"
    )
