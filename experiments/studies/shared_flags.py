"""The flags of every study: what its runs share, and how many there are."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from alphacl_jax.cli.compilation import define_cache_flag
from alphacl_jax.cli.run_flags import define_setting, from_anywhere
from alphacl_jax.runs.common_settings import LARGEST_SEED
from alphacl_jax.runs.flag_file import fields_of
from alphacl_jax.runs.settings import EvaluationSettings, RunSettings
from experiments.studies.own_flags import Own, define_own, value_of

# What a study varies nothing of, it makes smaller than `alphacl pretrain`: it trains many runs.
_DEFAULTS: dict[str, Any] = {"epochs": 20, "widths": (16, 32, 64), "num_seeds": 3}
_QUICK: dict[str, Any] = {
    "epochs": 1, "widths": (4, 8), "num_seeds": 1, "batch_size": 64, "projector_dim": 16,
}  # fmt: skip
_OWN = ("seed", "num_seeds")
_START = "init_from"  # all rows of a study start alike


def define_study_flags(
    values: flags.FlagValues,
    name: str,
    varies: Sequence[str] = (),
    defaults: Mapping[str, Any] | None = None,
    own: Own | None = None,
) -> None:
    """Defines the flags of a study.

    Args:
      values: where.
      name: of the study, for its folder.
      varies: settings that its variants set, which are no flags.
      defaults: of settings, where they are not those of all studies.
      own: the settings that this study alone has.
    """
    if own is not None:
        define_own(values, own)
    flags.DEFINE_string("output", f"runs/studies/{name}", "Folder for figures and runs.", values)
    define_cache_flag(values)
    flags.DEFINE_bool("quick", False, "As small as can be: to see that it runs.", values)
    flags.DEFINE_integer("seed", 0, "The first seed.", 0, LARGEST_SEED, flag_values=values)
    flags.DEFINE_integer("num_seeds", _DEFAULTS["num_seeds"], "How many.", 1, flag_values=values)
    flags.DEFINE_integer(
        "num_images", None, "Labelled training images, drawn at random; all by default.", 2,
        flag_values=values,
    )  # fmt: skip
    fields = fields_of("contrastive")
    for setting in _shared(varies):
        define_setting(values, setting, *fields[setting])
    for setting, value in {**_DEFAULTS, **(defaults or {})}.items():
        if setting in values:
            values.set_default(setting, value)


def shared_settings(values: flags.FlagValues, varies: Sequence[str], quick: bool) -> dict[str, Any]:
    """The settings that all runs share, by name."""
    names = (*_shared(varies), *_OWN, "num_images")
    given = {name: value_of(values, name, _QUICK if quick else {}) for name in names}
    given["data_dir"] = from_anywhere(given["data_dir"])
    if given["encoder"] != "small" and values["widths"].using_default_value:
        del given["widths"]  # the studies' own default is of the small encoder
    return given


def _shared(varies: Sequence[str]) -> list[str]:
    """The settings of data, augmentation, network and optimiser that are flags of a study."""
    return [
        name
        for name, (owner, _) in fields_of("contrastive").items()
        if owner not in (RunSettings, EvaluationSettings)
        and name not in {*varies, *_of_method(), _START}
    ]


def _of_method() -> set[str]:
    method = type(RunSettings().method)
    return {field.name for field in dataclasses.fields(method)}
