"""The files below a folder, each once: hidden names and circles of links are passed over."""

import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from absl import logging

from alphacl_jax.data import images

# What operating systems and disk stations leave in folders, beside names that begin with . or @.
_OF_SYSTEMS = frozenset(
    ("__macosx", "thumbs.db", "desktop.ini", "lost+found", "$recycle.bin", "#recycle", "#snapshot",
     "system volume information")
)  # fmt: skip


class File(NamedTuple):
    """A file.

    Attributes:
      path: of it.
      inside: the same as seen from the folder searched.
      real: what it is by any path: its path without links, or its number on the disk where it has
        several names there (hard links).
    """

    path: str
    inside: str
    real: str


class Again(NamedTuple):
    """A link, or another name, of what was found already.

    Attributes:
      path: of the link.
      inside: the same as seen from the folder searched.
      first: what was found, as seen from there; "" where it is a folder that the link lies in.
    """

    path: str
    inside: str
    first: str


class Found(NamedTuple):
    """What lies below a folder.

    Attributes:
      folder: that was searched.
      images: the files whose ending was searched for, an image's by default, sorted by path.
      others: how many other files there are, by their ending.
      again: links to what was found already.
    """

    folder: Path
    images: list[File]
    others: Counter[str]
    again: list[Again]


def composed(name: str) -> str:
    """A name in one encoding: letters with accents may be stored as one character or as two."""
    return unicodedata.normalize("NFC", name)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of the user's images, by its name."""
    return name.startswith((".", "@")) or name.casefold() in _OF_SYSTEMS


def search(folder: Path, *, deep: bool = True, endings: Collection[str] | None = None) -> Found:
    """Finds the files in a folder and, where `deep`, below it, through links too.

    Args:
      endings: in lower case, such as ".wav"; None for those of images.

    Raises:
      OSError: for a folder that cannot be read.
    """
    found, again = _Search(deep).run(os.fspath(folder))
    others: Counter[str] = Counter()
    wanted = []
    endings = images.suffixes() if endings is None else endings
    for file in found:
        ending = os.path.splitext(file.inside)[1].lower()
        if ending in endings:
            wanted.append(file)
        else:
            others[ending if len(ending) > 1 else "no ending"] += 1
    wanted.sort(key=lambda file: composed(file.path))
    return Found(folder, wanted, others, again)


def subfolders(folder: Path) -> list[str]:
    """The names of the folders in `folder` that are not hidden, sorted."""
    return sorted(
        (entry.name for entry in _entries(os.fspath(folder)) if _is_folder(entry)),
        key=composed,
    )


def in_words(others: Counter[str]) -> str:
    """Such as ".heic (12), no ending (1)"."""
    by_count = sorted(others.items(), key=lambda one: (-one[1], one[0]))
    shown = ", ".join(f"{ending} ({count})" for ending, count in by_count[:5])
    return shown + (f" and {len(others) - 5} other endings" if len(others) > 5 else "")


def report(found: Found) -> None:
    """Says in the log which files are left out, and which links are passed over."""
    if found.others:
        logging.warning(
            "%s: %d files are left out, since their endings are not those of images that can be "
            "read: %s",
            found.folder,
            found.others.total(),
            in_words(found.others),
        )
    if found.again:
        logging.warning(
            "%s: %d links lead to files or folders that are read already, such as %s; each file "
            "counts once",
            found.folder,
            len(found.again),
            found.again[0].path,
        )


class _Folder(NamedTuple):
    path: str
    inside: str
    real: str
    # Without links, the folders that hold the links on the way here.
    holders: tuple[str, ...]

    def is_below(self, real: str) -> bool:
        """Whether the way here leads through the folder `real`, or begins below it."""
        below = os.path.join(real, "")
        return any(f"{held}{os.sep}".startswith(below) for held in (*self.holders, self.real))


class _Search:
    """A search that goes where files lie first, and follows links after that.

    So a file that is reached twice goes by the name that is no link; of several such names, and of
    several links, by the first.
    """

    def __init__(self, deep: bool) -> None:
        self._deep = deep
        self._files: dict[str, File] = {}
        self._visited: dict[str, str] = {}
        self._again: list[Again] = []
        self._links: list[_Folder] = []
        self._linked_files: list[File] = []

    def run(self, root: str) -> tuple[list[File], list[Again]]:
        self._walk(_Folder(root, "", os.path.realpath(root), ()))
        for link in self._links:  # grows while links are followed
            self._walk(link)
        for file in self._linked_files:
            self._add(file)
        return list(self._files.values()), self._again

    def _walk(self, start: _Folder) -> None:
        pending = [start]
        while pending:
            folder = pending.pop()
            if folder.real in self._visited:
                first = self._visited[folder.real]
                self._again.append(Again(folder.path, folder.inside, first))
                continue
            self._visited[folder.real] = folder.inside
            pending += reversed(list(self._read(folder)))

    def _read(self, folder: _Folder) -> Iterator[_Folder]:
        """Takes the files of a folder; yields its own folders, and keeps links for later."""
        for entry in _entries(folder.path):
            inside = os.path.join(folder.inside, entry.name)
            if not entry.is_symlink():
                real = os.path.join(folder.real, entry.name)
                if not entry.is_dir():
                    self._add(_file(entry.path, inside, real))
                elif self._deep:
                    yield _Folder(entry.path, inside, real, folder.holders)
                continue
            real = os.path.realpath(entry.path)
            if not _is_folder(entry):
                self._linked_files.append(_file(entry.path, inside, real))
            elif self._deep and folder.is_below(real):
                self._again.append(Again(entry.path, inside, ""))
            elif self._deep:
                holders = (*folder.holders, folder.real)
                self._links.append(_Folder(entry.path, inside, real, holders))

    def _add(self, file: File) -> None:
        if file.real in self._files:
            self._again.append(Again(file.path, file.inside, self._files[file.real].inside))
        else:
            self._files[file.real] = file


def _file(path: str, inside: str, real: str) -> File:
    try:
        status = os.stat(path)
    except OSError:  # of a link that leads nowhere; what else is wrong is said when it is read
        return File(path, inside, real)
    if status.st_nlink > 1:
        # Size and time too, since some network disks give one number to many files.
        own = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        real = f"file {own}"
    return File(path, inside, real)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """What a folder holds that is not hidden, sorted."""
    try:
        with os.scandir(folder) as entries:
            shown = [entry for entry in entries if not is_hidden(entry.name)]
    except OSError as error:
        raise type(error)(f"cannot read {folder}: {error.strerror}. Check its rights") from error
    return sorted(shown, key=lambda entry: composed(entry.name))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Links followed; not so of links that lead to each other, where `entry.is_dir` raises."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()
