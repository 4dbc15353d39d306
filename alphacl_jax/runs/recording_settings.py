"""The settings of a run on recordings over time.

    CPCRunSettings(data=RecordingDataSettings(dataset="wav", data_dir="speech"))

Which network is trained follows from the method.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from alphacl_jax.errors import ArgumentError
from alphacl_jax.runs.common_settings import (
    AnyEvaluationSettings,
    AnyOptimizerSettings,
    AnyRunSettings,
)
from alphacl_jax.runs.fields import check_settings, require_default, setting
from alphacl_jax.runs.method_settings import MethodSettings

# The settings of the data that are options of its source, under the same names.
_OPTIONS = (
    *("rate", "label"),
    *("time_column", "signal_columns", "context_columns", "label_column", "recording_column"),
)
_LISTS = ("signal_columns", "context_columns")


@dataclass(frozen=True)
class RecordingDataSettings:
    """What is trained on."""

    dataset: str = setting(
        "japanese_vowels",
        "japanese_vowels (comes with aeon), npz (a file of arrays), wav (a folder of sound), table "
        "(a .csv or Parquet file), or tfds:NAME (a TFDS set of sound).",
        basic=True,
    )
    data_dir: str | None = setting(
        None,
        "The file of npz and table, or the folder of wav, with train/CLASS/* and test/CLASS/* or "
        "CLASS/*. For TFDS: where it keeps its data sets.",
        basic=True,
    )
    train_part: str = setting(
        "train", "What of the source is trained on; of tfds:NAME any split, as train_clean100."
    )
    test_part: str | None = setting(
        None, "What of it is tested on. Default: test, where the source has that."
    )
    held_out: float = setting(
        0.2,
        "Of a source without a test part: the share of recordings that is kept for tests, the same "
        "for any seed and of each class alike; of the method cebra and of a single recording the "
        "last part of the time, of cebra that of each recording where these have classes.",
        above=0,
        below=1,
    )
    normalize: bool = setting(
        True,
        "Bring each channel of the signal to mean 0 and deviation 1 over the training recordings.",
    )
    rate: int | None = setting(
        None, "Samples per second that wav and tfds:NAME are brought to.", lower=1
    )
    label: str | None = setting(
        None, "The feature of tfds:NAME that is the recordings' class. Default: the set's own."
    )
    time_column: str | None = setting(None, "Of table: of the time, in seconds or points in time.")
    signal_columns: str | None = setting(None, "Of table: of the signal, with commas between.")
    context_columns: str | None = setting(
        None, "Of table: of what was measured beside the signal, with commas between."
    )
    label_column: str | None = setting(None, "Of table: of the moments' class.")
    recording_column: str | None = setting(None, "Of table: of which recording a row is.")

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def options(self) -> dict[str, Any]:
        """What is given of the source's own options, as `load_recordings` takes them."""
        given = {name: getattr(self, name) for name in _OPTIONS}
        return {
            name: [part.strip() for part in value.split(",")] if name in _LISTS else value
            for name, value in given.items()
            if value is not None
        }


@dataclass(frozen=True)
class CPCSettings(MethodSettings):
    """The method 'cpc': contexts of the past predict the embeddings of moments to come."""

    encoder: str = setting(
        "auto",
        "wave, strided convolutions that make a step of each 160 moments of one channel; features, "
        "of which each moment is a step. auto: wave of one channel at 2,000 moments per second or "
        "more.",
        choices=("auto", "wave", "features"),
        basic=True,
    )
    encoder_width: int | None = setting(
        None, "Of the steps. Default: 512 of wave, 128 of features.", lower=1
    )
    encoder_layers: int = setting(2, "Of the encoder features.", lower=1)
    encoder_norm: str = setting(
        "layer", "Over the channels of each step.", choices=("layer", "none")
    )
    context_width: int | None = setting(
        None, "Of the contexts. Default: 256 of wave, 128 of features.", lower=1
    )
    window: int | None = setting(
        None,
        "Moments of a window; shorter recordings are not trained on. Default: 20,480 of wave, 12 "
        "of features.",
        lower=2,
        basic=True,
    )
    prediction_steps: int | None = setting(
        None,
        "K: how many steps ahead are predicted. Default: 12 of wave, 3 of features.",
        lower=1,
        basic=True,
    )
    negatives: str = setting(
        "mixed",
        "Which moments of the batch a moment to come is told from: mixed, all, so that windows of "
        "one recording that overlap are each other's negatives, which matters where there are few "
        "recordings; mixed_excluded, of other recordings; same, of recordings with its label; "
        "same_excluded, of others with its label; current, of its own recording.",
        choices=("mixed", "mixed_excluded", "same", "same_excluded", "current"),
    )
    temperature: float = setting(1.0, "tau > 0 of the products.", above=0, basic=True)
    block_size: int | str = setting("auto", "Moments compared at a time: a number, or auto.")
    dtype: str = setting("float32", "Of the model's computation.", choices=("float32", "bfloat16"))

    def __post_init__(self) -> None:
        check_settings(self)
        if self.encoder == "wave":
            require_default(self, "encoder_layers", "the encoder features")

    @property
    def label(self) -> str:
        return "cpc"


@dataclass(frozen=True)
class CEBRASettings(MethodSettings):
    """The method 'cebra': moments near in time, or of similar behaviour, have embeddings alike."""

    positives: str = setting(
        "time",
        "Which moments are drawn together: time, those time_offset apart; label, of one class; "
        "time_delta, whose context differs as it may within time_offset; gaussian, whose context "
        "differs by noise of deviation spread. The last three are the subject of US patent "
        "12,499,131 (2025), of which users must judge for themselves.",
        choices=("time", "label", "time_delta", "gaussian"),
        basic=True,
    )
    time_offset: int = setting(
        10, "Moments from a reference to its positive, of time, time_delta and hybrid.", lower=1
    )
    spread: float = setting(0.1, "Of gaussian, in units of the context.", above=0)
    prior: str = setting(
        "empirical",
        "How references are drawn, of the positives label: all moments alike, or uniform, all "
        "classes alike.",
        choices=("empirical", "uniform"),
    )
    within_labels: bool = setting(
        False, "Draw positives by context within a moment's class, of time_delta and gaussian."
    )
    hybrid: bool = setting(
        False, "Add the loss of positives in time, of label, time_delta and gaussian."
    )
    receptive_field: int = setting(10, "Moments that an embedding sees: 1, 5, 10 or 36.", lower=1)
    encoder_width: int = setting(32, "Of the network's hidden layers.", lower=2)
    output_dim: int = setting(8, "Of the embeddings.", lower=1, basic=True)
    similarity: str = setting(
        "cosine",
        "Of embeddings: of length 1 by cosines, or by squared distances.",
        choices=("cosine", "euclidean"),
    )
    temperature: float = setting(
        1.0, "tau > 0 of the similarity; of a learned one, what it starts from.", above=0
    )
    min_temperature: float | None = setting(
        None, "Learn the temperature, and keep it at this or above. Default: it is fixed.", above=0
    )
    block_size: int | str = setting("auto", "References compared at a time: a number, or auto.")

    def __post_init__(self) -> None:
        check_settings(self)
        by_context = ("time_delta", "gaussian")
        if self.positives in ("label", "gaussian") and not self.hybrid:
            readers = "the positives time and time_delta, and hybrid ones,"
            require_default(self, "time_offset", readers)
        if self.positives != "gaussian":
            require_default(self, "spread", "the positives gaussian")
        if self.positives != "label":
            require_default(self, "prior", "the positives label")
        if self.positives not in by_context:
            require_default(self, "within_labels", "the positives time_delta and gaussian")
        if self.positives == "time":
            require_default(self, "hybrid", "the positives label, time_delta and gaussian")
        if self.min_temperature is not None and self.min_temperature > self.temperature:
            problem = f"is above {self.temperature:g}, the temperature that learning starts from"
            raise ArgumentError("min_temperature", self.min_temperature, problem)

    @property
    def label(self) -> str:
        return f"cebra-{self.positives}{'-hybrid' if self.hybrid else ''}"


@dataclass(frozen=True)
class CPCOptimizerSettings(AnyOptimizerSettings):
    """How a run of the method 'cpc' is trained."""

    batch_size: int = setting(64, "Windows per step, over all devices.", lower=2, basic=True)
    epochs: int = setting(
        60, "An epoch has as many windows as would cover the recordings once.", lower=1, basic=True
    )


@dataclass(frozen=True)
class CEBRAOptimizerSettings(AnyOptimizerSettings):
    """How a run of the method 'cebra' is trained."""

    batch_size: int = setting(
        512, "References per step, and as many negatives, over all devices.", lower=2, basic=True
    )
    epochs: int = setting(
        200, "An epoch has as many references as there are moments.", lower=1, basic=True
    )


@dataclass(frozen=True)
class RecordingRunSettings(AnyRunSettings):
    """The settings of a run on recordings; of which method says the class.

    Attributes:
      seed: of the initial weights and of what is drawn.
      num_seeds: how many runs, of `seed` and the seeds after it, are trained.
      data, method, optimizer, evaluation: the settings by subject.
    """

    data: RecordingDataSettings = RecordingDataSettings()
    evaluation: AnyEvaluationSettings = AnyEvaluationSettings()  # noqa: RUF009 - frozen


@dataclass(frozen=True)
class CPCRunSettings(RecordingRunSettings):
    """All settings of a run of the method 'cpc'."""

    methods: ClassVar[Mapping[str, type[MethodSettings]]] = {"cpc": CPCSettings}

    method: CPCSettings = CPCSettings()
    optimizer: CPCOptimizerSettings = CPCOptimizerSettings()


@dataclass(frozen=True)
class CEBRARunSettings(RecordingRunSettings):
    """All settings of a run of the method 'cebra'."""

    methods: ClassVar[Mapping[str, type[MethodSettings]]] = {"cebra": CEBRASettings}

    method: CEBRASettings = CEBRASettings()
    optimizer: CEBRAOptimizerSettings = CEBRAOptimizerSettings()
