"""The flags of commands that apply an encoder to images, its own run's or others."""

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from alphacl_jax.data.decoding import Decoding
from alphacl_jax.errors import RunError
from alphacl_jax.runs.settings import DataSettings

if TYPE_CHECKING:
    from alphacl_jax.data.sources import Dataset
    from alphacl_jax.runs.encoder import Encoder

DATA = ("dataset", "data_dir", "pixel_range", "max_megapixels", "memory_limit_mb")


def define_encoder_flag(values: flags.FlagValues, name: str = "workdir") -> None:
    """Defines --workdir, or the flag of another name that says which encoder."""
    flags.DEFINE_string(
        name, None, "The run folder, or an export of one (needed).", flag_values=values
    )


def define_decoding_flags(values: flags.FlagValues) -> None:
    """Defines the flags of how image files are decoded."""
    flags.DEFINE_string(
        "pixel_range",
        None,
        "LOW:HIGH, the values of pixels of more than 8 bits that become 0 and 255, or auto. "
        "Default: as the run, with the range that it measured.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "max_megapixels",
        None,
        "Image files of more pixels than this, in millions, are left out. Default: as the run.",
        flag_values=values,
    )


def define_data_flags(values: flags.FlagValues, encoder: str = "workdir") -> None:
    """Defines the flag that says which encoder, and those of other data than its run's own."""
    define_encoder_flag(values, encoder)
    flags.DEFINE_string(
        "dataset",
        None,
        "Other data than the run's own: digits, folder, or a TFDS set. Images are scaled and "
        "cropped to what the encoder takes.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "data_dir",
        None,
        "Where that data is; or where the run's own has been moved to.",
        flag_values=values,
    )
    define_decoding_flags(values)
    flags.DEFINE_integer(
        "memory_limit_mb",
        None,
        "What images may take of the memory. Default: as the run.",
        0,
        flag_values=values,
    )


def workdir_of(values: flags.FlagValues, name: str = "workdir") -> Path:
    """The folder that --workdir, or the flag of another name, stands for.

    Raises:
      RunError: where it is not given.
    """
    given = values[name].value
    if not given:
        raise RunError(f"--{name} is needed: give the run folder, such as --{name}=runs/NAME")
    return Path(given).expanduser()


def is_transfer(values: flags.FlagValues, data: DataSettings, own: DataSettings) -> bool:
    """Whether the flags ask for other data than the run's own, or for those in another place."""
    return data.dataset != own.dataset or values["data_dir"].value is not None


def data_settings_of(values: flags.FlagValues, own: DataSettings) -> DataSettings:
    """Which data the flags ask for: the run's own, moved or not, or another.

    Raises:
      RunError: where the run's own are asked for, and were arrays in memory.
    """
    from alphacl_jax.data.sources import ARRAYS

    name, data_dir = values["dataset"].value, values["data_dir"].value
    limit = values["memory_limit_mb"].value
    if name is None and own.dataset == ARRAYS:
        if data_dir is None:
            raise RunError(
                "the run was trained on images in memory, which are not kept: say what to look at, "
                "by --dataset=folder --data_dir=PATH or another --dataset"
            )
        name = "folder"
    return dataclasses.replace(
        own,
        dataset=own.dataset if name is None else name,
        data_dir=data_dir if name is not None or data_dir is not None else own.data_dir,
        image_size=own.image_size if name is None else None,
        memory_limit_mb=own.memory_limit_mb if limit is None else limit,
        **_decoding_flags(values, own),
    )


def folder_settings_of(values: flags.FlagValues, own: DataSettings) -> DataSettings:
    """A folder of images to be looked at whole: the one that --data_dir names, or the run's own.

    Raises:
      RunError: where neither is there.
    """
    data_dir = values["data_dir"].value or own.data_dir
    if data_dir is None:
        raise RunError("--data_dir is needed: the run's own data is no folder of images")
    return DataSettings(dataset="folder", data_dir=data_dir, **_decoding_flags(values, own))


def _decoding_flags(values: flags.FlagValues, own: DataSettings) -> dict[str, Any]:
    limit = values["max_megapixels"].value
    return {
        "pixel_range": values["pixel_range"].value,
        "max_megapixels": own.max_megapixels if limit is None else limit,
    }


def decoding_for(encoder: "Encoder", data: DataSettings) -> Decoding:
    """How image files are decoded for an encoder: if not said, with the range it was trained on."""
    if data.pixel_range is not None:
        return data.decoding
    return dataclasses.replace(data.decoding, pixel_range=encoder.preprocessing.pixel_range)


def open_data(encoder: "Encoder", data: DataSettings) -> "Dataset":
    """The data, brought to the images that the encoder takes.

    Where they are the run's own and not those that it was trained on, a note says so.
    """
    from alphacl_jax.data import sources

    dataset = sources.load(
        data.dataset,
        data.data_dir,
        data.image_size,
        image_shape=encoder.preprocessing.image_shape,
        decoding=decoding_for(encoder, data),
    )
    _note_changed(encoder, data, dataset)
    return dataset


def _note_changed(encoder: "Encoder", data: DataSettings, dataset: "Dataset") -> None:
    from alphacl_jax.data.reading import fingerprint_of

    own, then = encoder.settings.data, encoder.description.fingerprint
    if then is None or (data.dataset, data.data_dir) != (own.dataset, own.data_dir):
        return
    if fingerprint_of(dataset.pretrain.source) != then:
        print(
            f"note: the images in {dataset.title} are not those that the run was trained on, by "
            "their names and sizes",
            file=sys.stderr,
        )
