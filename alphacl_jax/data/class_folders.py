"""Images by class folder: grouped, compared between parts, and said what is left out of them."""

from collections.abc import Sequence
from pathlib import Path

from absl import logging

from alphacl_jax.data import tree
from alphacl_jax.data.errors import MissingDataError
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
    return {name: classes[name] for name in sorted(classes)}, loose


def check_links(root: Path, found: tree.Found, classes: Classes) -> None:
    """Refuses class folders that hold nothing but links to images elsewhere in `found.folder`.

    Folders without images are said in the log.

    Raises:
      ArgumentError: naming these class folders.
    """
    links = _links_elsewhere(found)
    empty = {tree.composed(name) for name in tree.subfolders(found.folder)} - set(classes)
    if linked := sorted(empty & set(links)):
        link = links[linked[0]][0]
        raise ArgumentError(
            "data_dir",
            root,
            f"has class folders in {found.folder} with nothing but links to images elsewhere in "
            f"it, where these count: {', '.join(linked)}; {link.inside} leads to {link.first}. "
            f"Move what they lead to out of {found.folder}",
        )
    if empty and classes:
        logging.warning(
            "%s: no images in %s, so not a class", found.folder, ", ".join(sorted(empty))
        )
    report_links(found)


def report_links(found: tree.Found) -> None:
    """Says which links lead from one folder to images that are read as those of another."""
    links = [link for links in _links_elsewhere(found).values() for link in links]
    if links:
        logging.warning(
            "%s: %d links lead to images that count in another folder, such as %s to %s; an image "
            "has one class only",
            found.folder,
            len(links),
            links[0].inside,
            links[0].first,
        )


def _links_elsewhere(found: tree.Found) -> dict[str, list[tree.Again]]:
    """The links to what is in another folder of `found.folder`, by the folder that they lie in."""
    links: dict[str, list[tree.Again]] = {}
    for link in found.again:
        folder, separator, _ = link.inside.partition("/")
        target, deeper, _ = link.first.partition("/")
        # A link from one class folder to the whole of another is a second name of it.
        second_name = not separator and not deeper
        if link.first and target != folder and not second_name:
            links.setdefault(tree.composed(folder), []).append(link)
    return links


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


def check_train_is_no_class(root: Path, train: Path, beside: Sequence[tree.Found]) -> None:
    """Refuses a train/ without class folders that has other folders of images beside it.

    Raises:
      ArgumentError: naming these.
    """
    if names := [part.folder.name for part in beside if part.images]:
        raise ArgumentError(
            "data_dir",
            root,
            f"has {train.name}/ without class folders, and beside it other folders of images: "
            f"{', '.join(names)}. If {train.name!r} is a class, give its folder another name; to "
            f"pretrain on its images alone, give data_dir={train}",
        )


def held_out_by_class(
    root: Path, parts: Sequence[tree.Found], class_names: Sequence[str]
) -> tuple[Classes, tree.Found | None]:
    """The held-out images by class, in the order of the training classes, and their part.

    Of several held-out parts it is the first that has class folders.

    Raises:
      ArgumentError: for classes that are not those of the training images.
      MissingDataError: where there is a part for them and no image in it.
    """
    if not parts:
        return {}, None
    grouped = [(part, *by_class(part)) for part in parts]
    part, test, loose = next((one for one in grouped if one[1]), grouped[0])
    if not part.images:
        raise nothing_in(root, part)
    check_links(root, part, test)
    name = part.folder.name
    if not test:
        raise ArgumentError(
            "data_dir",
            root,
            f"has no class folders in {name}/, but {len(part.images)} images. Sort them into the "
            f"{len(class_names)} class folders of the training set, or move {name}/ elsewhere",
        )
    tree.report(part)
    report_left_out(loose, part.folder, "beside class folders")
    if set(test) != set(class_names):
        raise ArgumentError(
            "data_dir",
            root,
            f"has class folders in {name}/ that differ from the {len(class_names)} of the training "
            f"set: it {_difference(set(class_names), set(test))}. Give both the same folders",
        )
    return {name: test[name] for name in class_names}, part


def _difference(wanted: set[str], there: set[str]) -> str:
    return " and ".join(
        f"{verb} {', '.join(sorted(names)[:10])}"
        for verb, names in (("lacks", wanted - there), ("has besides", there - wanted))
        if names
    )


def report_unread(root: Path, read: Sequence[Path], others: Sequence[tree.Found]) -> None:
    """Says which folders beside those that are read hold images, or files of other kinds."""
    shown = [
        f"{part.folder.name}/ ({_count(part)})" for part in others if part.images or part.others
    ]
    if shown:
        logging.warning(
            "%s: %s are read; not read are %s",
            root,
            " and ".join(f"{part.name}/" for part in read),
            ", ".join(shown),
        )


def _count(part: tree.Found) -> str:
    """Such as "3 images, .heic (2)"."""
    images = [f"{len(part.images)} images"] if part.images else []
    return ", ".join([*images, *([tree.in_words(part.others)] if part.others else [])])


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
