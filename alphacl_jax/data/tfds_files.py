"""The files of a prepared TFDS set: which Python classes they may name, and reading its records."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from alphacl_jax.data.images import UnreadableImage
from alphacl_jax.errors import ArgumentError

# Where the feature classes lie that TFDS itself has.
_FEATURES = "tensorflow_datasets.core.features."
# What array_record says of a file that was read and does not hold what it should.
_DAMAGED = "Corrupted"


@contextlib.contextmanager
def own_feature_classes(name: str, instead: Mapping[str, type] | None = None) -> Iterator[None]:
    """Has TFDS take no Python class but its own from the files of a prepared set.

    They name the class of each feature, and TFDS imports the module of one that it does not know,
    which runs whatever lies there. All of them pass through this one method of TFDS.

    Args:
      name: of the set.
      instead: the class to take in place of one of TFDS's, by the name of that.

    Raises:
      ArgumentError: within the block, where the files of the set `name` name another class.
    """
    import tensorflow_datasets as tfds

    connector = tfds.features.FeatureConnector
    of_tfds = vars(connector)["cls_from_name"]

    def own(class_name: str) -> Any:
        if not class_name.startswith(_FEATURES):
            raise ArgumentError(
                "dataset",
                name,
                f"was prepared with a feature of the class {class_name!r}, which is none of TFDS's "
                "own, and is not imported. Prepare it again with the features of TFDS, or save its "
                "images in class folders, and give dataset=folder with data_dir",
            )
        if instead is not None and class_name in instead:
            return instead[class_name]
        return of_tfds.__get__(None, connector)(class_name)

    connector.cls_from_name = staticmethod(own)
    try:
        yield
    finally:
        connector.cls_from_name = of_tfds


class Records:
    """TFDS's random access to the records of a split."""

    def __init__(self, open_records: Callable[[], Any]):
        self._open, self._records = open_records, open_records()

    def __len__(self) -> int:
        return len(self._records)

    def read(self, index: int, name: str) -> dict[str, Any]:
        """One record.

        Args:
          index: of it.
          name: what an error calls it.

        Raises:
          UnreadableImage: where it is damaged.
          OSError: where it cannot be read.
        """
        try:
            record: dict[str, Any] = self._records[index]
            return record
        except RuntimeError as error:  # array_record has no other
            if _DAMAGED in str(error):
                raise UnreadableImage(f"{name} ({error})") from error
            # A reader that could not open its file is kept, and cannot later either.
            self._records = self._open()
            raise OSError(f"{name}: {error}") from error
