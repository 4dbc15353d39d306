"""Image classification sets of tensorflow-datasets (TFDS), read without TensorFlow."""

import contextlib
import dataclasses
import difflib
import hashlib
import importlib.util
import io
import os
import shlex
from typing import Any

import numpy as np
from absl import logging

from alphacl_jax.data import images
from alphacl_jax.data.decoding import PLAIN, Decoding
from alphacl_jax.data.errors import MissingDataError
from alphacl_jax.data.outages import Patience
from alphacl_jax.data.tfds_files import Records, own_feature_classes
from alphacl_jax.errors import ArgumentError

# How many records are looked at to learn whether all images of a set have one size.
_SIZE_SAMPLE = 200


@dataclasses.dataclass(frozen=True, eq=False)
class TfdsSource:
    """Records of one or several TFDS splits, decoded one by one when indexed.

    Attributes:
      records: with the image left encoded.
      name: what errors call it.
      image_shape: (height, width, channels) of every image returned.
      decoding: how records are decoded.
    """

    records: Records
    name: str
    image_shape: tuple[int, int, int]
    decoding: Decoding

    @property
    def names(self) -> None:
        return None

    def fingerprint(self) -> str:
        """Of the name, which has the version where one was asked for, and the number of records."""
        return hashlib.sha256(f"{self.name}\0{len(self)}".encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        name = f"{self.name}, record {index}"
        record = self.records.read(index, name)
        return {
            "image": images.decode(
                io.BytesIO(record["image"]), self.image_shape, name, self.decoding
            ),
            "label": int(record["label"]),
        }


def open_tfds(
    name: str,
    data_dir: str | os.PathLike[str] | None,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    decoding: Decoding = PLAIN,
) -> tuple[TfdsSource, TfdsSource, TfdsSource | None, tuple[str, ...]]:
    """Opens the TFDS set `name`, preparing it first where it is not on disk.

    A set that TFDS has no code for is read from `data_dir/name/VERSION`, if that was prepared.
    Preparing takes TensorFlow; reading does not, since the files are ArrayRecord.

    Args:
      name: a TFDS name, "NAME", "NAME/CONFIG" or "NAME:VERSION".
      data_dir: where TFDS keeps its data sets; None for TFDS's own default.
      size: (height, width) of the images returned, or None to keep the size they have.
      channels: 1 or 3, or None for those that the set has.
      decoding: how; its range of pixels has no effect, since only uint8 is supported.

    Returns:
      (all images to pretrain on: `train`, the same object, or with `unlabelled` where there is such
      a split; `train`; the held-out split: `test`, or `validation` where `test` is absent or has no
      labels, or None; class names).

    Raises:
      ArgumentError: for an unknown name or one of another collection ("huggingface:NAME"), a set
        without image and label, with features of classes that are not TFDS's own, of one class
        only, or in a file format without random access.
      MixedSizesError: for sizes that differ with no `size`.
      MissingDataError: for a set that needs preparing while TensorFlow is missing.
    """
    import tensorflow_datasets as tfds  # here, since it takes half a second

    builder = _builder(name, data_dir)
    own_channels, own_size = _channels_and_size(name, builder.info.features)
    if not builder.data_path.exists():
        _prepare(name, builder, data_dir)
    _require_random_access(name, builder)
    splits = builder.info.splits
    if "train" not in splits:
        raise ArgumentError(
            "dataset", name, f"has no split 'train', only {', '.join(sorted(splits))}"
        )

    def records(split: str) -> Records:
        decoders = {"image": tfds.decode.SkipDecoding()}
        return Records(lambda: builder.as_data_source(split, decoders=decoders))

    def read(of: Records, index: int) -> dict[str, Any]:
        return patience.read(of.read, index, f"{name}, record {index}")

    patience, size = Patience(), size or own_size
    if size is None:
        every = records("train")
        sample = np.linspace(0, len(every) - 1, min(_SIZE_SAMPLE, len(every)), dtype=int)
        size = images.common_size((io.BytesIO(read(every, int(i))["image"]) for i in sample), name)
    shape = (*size, channels or own_channels)

    def source(split: str) -> TfdsSource:
        return TfdsSource(records(split), f"{name} {split}", shape, decoding)

    unlabelled = next((s for s in ("unlabelled", "unlabeled") if s in splits), None)
    held_out = [s for s in ("test", "validation") if s in splits]
    # The test labels of some sets (imagenet2012) were never published; TFDS gives -1.
    held_out = [s for s in held_out if int(read(records(s), 0)["label"]) >= 0]
    train = source("train")
    pretrain = source(f"train+{unlabelled}") if unlabelled else train
    class_names = tuple(builder.info.features["label"].names)  # stl10 learns its when prepared
    return pretrain, train, source(held_out[0]) if held_out else None, class_names


def _builder(name: str, data_dir: str | os.PathLike[str] | None) -> Any:
    """TFDS's builder for `name`; where its newest version is not on disk, of one that is."""
    import tensorflow_datasets as tfds

    folder = None if data_dir is None else os.path.expanduser(data_dir)
    _check_name(name, data_dir)
    with own_feature_classes(name):
        try:
            builder = tfds.builder(name, data_dir=folder)
        except tfds.core.DatasetNotFoundError:  # its message lists every set there is
            raise _unknown(name, data_dir) from None
        except ArgumentError:
            raise
        # Of a version or a configuration that there is not, or a set whose code needs more.
        except (AssertionError, ValueError, ImportError) as error:
            problem = " ".join(str(error).split())
            raise ArgumentError("dataset", name, f"cannot be opened by TFDS: {problem}") from error
        if not builder.data_path.exists():
            with contextlib.suppress(tfds.core.DatasetNotFoundError):
                return tfds.core.read_only_builder.builder_from_files(name, data_dir=folder)
    return builder


def _check_name(name: str, data_dir: str | os.PathLike[str] | None) -> None:
    """Refuses what is not the form of a name, and names that are more than one of TFDS's sets."""
    import tensorflow_datasets as tfds

    try:
        parsed, arguments = tfds.core.naming.parse_builder_name_kwargs(name)
    except ValueError:
        raise _unknown(name, data_dir) from None
    if parsed.namespace is not None:
        raise ArgumentError(
            "dataset",
            name,
            f"is a set of another collection, {parsed.namespace!r}, and only those of TFDS itself "
            "are read. Save its images in class folders, and give dataset=folder with data_dir",
        )
    if unknown := arguments.keys() - {"version", "config"}:
        raise ArgumentError(
            "dataset",
            name,
            f"has arguments that are not read: {', '.join(sorted(unknown))}. Give NAME, "
            "NAME/CONFIG or NAME:VERSION",
        )


def _unknown(name: str, data_dir: str | os.PathLike[str] | None) -> ArgumentError:
    import tensorflow_datasets as tfds

    names = ["digits", "folder", *tfds.list_builders(with_community_datasets=False)]
    close = difflib.get_close_matches(name.lower(), names, n=3)
    where = "" if data_dir is None else f", and {data_dir} holds no prepared set of that name"
    return ArgumentError(
        "dataset",
        name,
        f"is not known{where}. "
        + (f"Did you mean {' or '.join(close)}? " if close else "")
        + "Known are digits, cifar10, cifar100, stl10, fashion_mnist, folder (with data_dir), and "
        "every image classification set of https://www.tensorflow.org/datasets/catalog",
    )


def _channels_and_size(name: str, features: Any) -> tuple[int, tuple[int, int] | None]:
    """(channels, (height, width) or None where they vary) of a set that is fit for use."""
    import tensorflow_datasets as tfds

    # Checked before anything is downloaded.
    features = dict(features.items()) if isinstance(features, tfds.features.FeaturesDict) else {}
    image, label = features.get("image"), features.get("label")
    if not isinstance(image, tfds.features.Image) or not isinstance(
        label, tfds.features.ClassLabel
    ):
        raise ArgumentError(
            "dataset",
            name,
            "is not an image classification set: it needs the features 'image' (an image) and "
            f"'label' (a class), and has {', '.join(sorted(features)) or 'neither'}",
        )
    if image.np_dtype != np.uint8:
        raise ArgumentError(
            "dataset", name, f"has images of type {image.np_dtype}; only uint8 is supported"
        )
    if label.num_classes is None or label.num_classes < 2:
        raise ArgumentError(
            "dataset", name, f"has one class only ({label.names}); there is nothing to tell apart"
        )
    height, width, channels = image.shape
    size = None if height is None or width is None else (height, width)
    return 1 if channels == 1 else 3, size


def _prepare(name: str, builder: Any, data_dir: str | os.PathLike[str] | None) -> None:
    folder = builder.data_path
    option = "" if data_dir is None else f"--data_dir={shlex.quote(str(data_dir))} "
    if not _has_tensorflow():
        raise MissingDataError(
            "dataset",
            name,
            f"is not prepared yet: there is no {folder}. Preparing it takes TensorFlow, once; "
            "training does not. Install it with `pip install -e '.[tfds]'` and repeat this "
            f"command, or run `tfds build {name} {option}--file_format=array_record` "
            "wherever TensorFlow is installed",
        )
    logging.info("preparing %s in %s", name, folder)
    try:
        builder.download_and_prepare(file_format="array_record")
    except AssertionError as error:  # of a set whose files have to be fetched by hand
        raise ArgumentError("dataset", name, f"cannot be prepared by TFDS: {error}") from error


def _has_tensorflow() -> bool:
    return importlib.util.find_spec("tensorflow") is not None


def _require_random_access(name: str, builder: Any) -> None:
    import tensorflow_datasets as tfds

    available = builder.info.available_file_formats()
    if available.isdisjoint(tfds.core.FileFormat.with_random_access()):
        found = ", ".join(sorted(kind.value for kind in available))
        raise ArgumentError(
            "dataset",
            name,
            f"is held in {builder.data_path} as {found}, which cannot be read without TensorFlow. "
            "Prepare it again as ArrayRecord in another folder: "
            f"`tfds build {name} --data_dir=OTHER --file_format=array_record`, "
            "then give data_dir=OTHER",
        )
