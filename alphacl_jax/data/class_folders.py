"""Images by class folder: grouped, compared between parts, and said what is left out of them."""

from collections.abc import Sequence
from pathlib import Path

from absl import logging

from alphacl_jax.data import tree
from alphacl_jax.data.errors import MissingDataError
from alphacl_jax.data.parts import Parts
from alphacl_jax.errors import ArgumentError

# The files of a part by class, both in order.
Classes = dict[str, list[tree.File]]


def by_class(found: tree.Found) -> tuple[Classes, list[tree.File]]:
    """The images by the folder of `found.folder` that they lie in, and those beside all folders."""
    classes: Classes = {}
    loose = []
    for file in found.images:
        folder, separator, _ = file.inside.partition("/")
        if separator:
            classes.setdefault(tree.composed(folder), []).append(file)
        else:
            loose.append(file)
    if classes:
        folders = {tree.composed(name) for name in tree.subfolders(found.folder)}
        if empty := sorted(folders - set(classes)):
            logging.warning("%s: no images in %s, so not a class", found.folder, ", ".join(empty))
    return {name: classes[name] for name in sorted(classes)}, loose


def check_several(root: Path, part: Path, classes: Classes) -> None:
    """Refuses a single class.

    Raises:
      ArgumentError: naming it.
    """
    if len(classes) == 1:
        ((only, files),) = classes.items()
        folder = part / Path(files[0].inside).parts[0]  # its name as it is stored
        raise ArgumentError(
            "data_dir",
            root,
            f"holds one class only, {only!r}: there is nothing to tell apart. Add class folders, "
            f"or give data_dir={folder} to pretrain without labels",
        )


def check_train_is_no_class(root: Path, parts: Parts) -> None:
    """Refuses a train/ without class folders that has other folders of images beside it.

    Raises:
      ArgumentError: naming these.
    """
    if beside := [folder.name for folder in parts.beside if tree.search(folder).images]:
        raise ArgumentError(
            "data_dir",
            root,
            f"has {parts.train.name}/ without class folders, and beside it other folders of "
            f"images: {', '.join(beside)}. If {parts.train.name!r} is a class, give its folder "
            f"another name; to pretrain on its images alone, give data_dir={parts.train}",
        )


def held_out_by_class(
    root: Path, parts: Parts, class_names: Sequence[str]
) -> tuple[Classes, Path | None]:
    """The held-out images by class, in the order of the training classes, and their folder.

    Of several held-out parts it is the first that has class folders.

    Raises:
      ArgumentError: for classes that are not those of the training images.
      MissingDataError: where there is a part for them and no image in it.
    """
    if not parts.held_out:
        return {}, None
    searched = [(found, *by_class(found)) for found in map(tree.search, parts.held_out)]
    found, test, loose = next((one for one in searched if one[1]), searched[0])
    if not found.images:
        raise nothing_in(root, found)
    tree.report(found)
    report_left_out(loose, found.folder, "beside class folders")
    if set(test) != set(class_names):
        raise ArgumentError(
            "data_dir",
            root,
            f"has class folders in {found.folder.name}/ that differ from the {len(class_names)} of "
            f"the training set: it {_difference(set(class_names), set(test))}. Give both the same "
            "folders",
        )
    return {name: test[name] for name in class_names}, found.folder


def _difference(wanted: set[str], there: set[str]) -> str:
    return " and ".join(
        f"{verb} {', '.join(sorted(names)[:10])}"
        for verb, names in (("lacks", wanted - there), ("has besides", there - wanted))
        if names
    )


def report_unread(root: Path, parts: Parts, held_out: Path | None) -> None:
    """Says which folders of images beside those that are read are not."""
    others = [part for part in (*parts.held_out, *parts.beside) if part != held_out]
    counts = [(part.name, len(tree.search(part).images)) for part in others]
    if shown := [f"{name}/ ({count} images)" for name, count in counts if count]:
        read = [part.name + "/" for part in (parts.train, held_out) if part is not None]
        logging.warning(
            "%s: %s are read; not read are %s", root, " and ".join(read), ", ".join(shown)
        )


def report_shared(root: Path, train: Classes, test: Classes) -> None:
    """Says which files are training and test images at once, through links."""
    trained = {file.real for files in train.values() for file in files}
    shared = [file.path for files in test.values() for file in files if file.real in trained]
    if shared:
        logging.warning(
            "%s: %d test images are training images too, through links, such as %s. Figures on "
            "test images will be too good",
            root,
            len(shared),
            shared[0],
        )


def report_left_out(files: Sequence[tree.File], folder: Path, where: str) -> None:
    """Says how many images have no class."""
    if files:
        logging.warning(
            "%s: %d images %s have no class and are left out, such as %s",
            folder,
            len(files),
            where,
            files[0].inside,
        )


def nothing_in(root: Path, found: tree.Found) -> MissingDataError:
    """For the data folder `root`, in whose part `found.folder` there is no image."""
    part, others = found.folder, found.others
    return MissingDataError(
        "data_dir",
        root,
        f"has no images in {part}: "
        f"{'files of type ' + tree.in_words(others) if others else 'it is empty'}. Put image files "
        "into it (.jpg, .png, .tif or another format that is read)"
        + (", or remove it" if part != root else ""),
    )
