"""What the studies of images share: settings from flags, one data set, cells that survive a kill.

A study trains variants of one run over several seeds. The figures of each (variant, seed) are a
cell, kept in OUTPUT/cells.json as soon as they are known; the run of a cell has a run folder in
OUTPUT/runs, from which a killed one goes on.
"""

import copy
import dataclasses
import functools
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from absl import flags
from matplotlib.figure import Figure

from alphacl_jax.cli.run_flags import define_setting
from alphacl_jax.cli.start import plain_errors, run_main
from alphacl_jax.data import sources
from alphacl_jax.data.arrays import dataset_from_arrays
from alphacl_jax.errors import ArgumentError, RunError
from alphacl_jax.evaluation.pictures import warned_of
from alphacl_jax.evaluation.probes import evaluate_sets
from alphacl_jax.files import write_png_atomically
from alphacl_jax.methods.method import Method
from alphacl_jax.runs import pretraining
from alphacl_jax.runs.baselines import train_supervised
from alphacl_jax.runs.cells import Cell, Cells
from alphacl_jax.runs.encoder import Encoder, encoder_of
from alphacl_jax.runs.flag_file import fields_of, from_mapping
from alphacl_jax.runs.folder import records_of
from alphacl_jax.runs.naming import as_file_name
from alphacl_jax.runs.run import Run, open_run, prepare_training
from alphacl_jax.runs.settings import LARGEST_SEED, EvaluationSettings, RunSettings
from alphacl_jax.runs.start import check_start
from alphacl_jax.training.loop import InterruptedBySignal, NonFiniteLossError
from alphacl_jax.training.mesh import data_mesh
from alphacl_jax.training.records import read_records
from experiments.benchmarks import benchmarking
from experiments.studies.report import Claim, as_bits, shown_claims
from experiments.theory.lab import no_empty_folder

# What a study varies nothing of, it makes smaller than `alphacl pretrain`: it trains many runs.
_DEFAULTS: dict[str, Any] = {"epochs": 20, "widths": (16, 32, 64), "num_seeds": 3}
_QUICK: dict[str, Any] = {
    "epochs": 1, "widths": (4, 8), "num_seeds": 1, "num_images": 256, "batch_size": 64,
    "projector_hidden": 16, "projector_dim": 16,
}  # fmt: skip
_QUICK_TESTS = 100  # test images of --quick
_OWN = ("seed", "num_seeds")
# Of the last record, where a method has them.
_RECORDED = ("loss", "std", "healthy_std", "embedding_rank", "eigenspace_alignment")

Kind = Literal["trained", "cross_entropy", "untrained", "pixels"]
Measure = Callable[["Study", Encoder], Mapping[str, Any]]
# Of a variant and a seed: the encoder, None where it diverged, and what the cell is to say of it.
Train = Callable[["Study", "Variant", int], tuple[Encoder | None, Mapping[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Variant:
    """One row of a study.

    Attributes:
      name: in tables and in the name of its run folders.
      settings: of a run, by name, over those of the flags; "method" among them.
      kind: how the encoder is made: trained by the method, trained by cross-entropy on the labels,
        not at all; "pixels" has none.
      method: made of the run, where what trains is no method that settings name; it trains the
        encoder and the projector of the one that they do.
    """

    name: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    kind: Kind = "trained"
    method: Callable[[Run], Method] | None = None


UNTRAINED = Variant("untrained encoder", kind="untrained")
PIXELS = Variant("raw pixels", kind="pixels")
CROSS_ENTROPY = Variant("cross-entropy", kind="cross_entropy")


class Study:
    """The data, the settings and the cells of one study.

    Attributes:
      output: its folder.
      dataset: in memory.
      seeds: of the runs.
      quick: whether it is to be as small as possible.
      flags: that it was given.
    """

    def __init__(self, values: flags.FlagValues, varies: Sequence[str]):
        """Loads the data.

        Args:
          values: with the flags of `define_study_flags`.
          varies: settings that the variants set.

        Raises:
          RunError: for data without labels or test images, or a folder of another study.
          ArgumentError: for settings that are impossible.
        """
        self.flags = values
        self.quick = bool(values["quick"].value)
        self._base = _given(values, varies, self.quick)
        self.seeds = range(
            self._base["seed"], self._base["seed"] + int(self._base.pop("num_seeds"))
        )
        wanted = self._base.pop("num_images")
        self.settings({})  # impossible ones, before data is looked for
        self.output = Path(str(values["output"].value)).expanduser().absolute()
        self.output.mkdir(parents=True, exist_ok=True)
        self.dataset = _in_memory(self._base, wanted, self.quick)
        varying = ("seed", "data_dir")
        conditions = {
            "data": self.dataset.title,
            "training images": self.dataset.pretrain.source.fingerprint(),
            **{name: value for name, value in self._base.items() if name not in varying},
        }
        self._cells = Cells(self.output / "cells.json", conditions)
        self._marks: dict[str, str] = {}
        # Seeds of a variant are one program.
        jax.config.update("jax_compilation_cache_dir", str(self.output / "compiled"))
        self._started = time.monotonic()

    def settings(self, over: Mapping[str, Any], seed: int | None = None) -> RunSettings:
        """The settings of a run: those of the flags, and others by name over them."""
        own = {} if seed is None else {"seed": seed}
        try:
            made = from_mapping({**self._base, **over, **own})
        except ArgumentError as error:
            # A study's own choice may not fit what the flags say.
            if not over:
                raise
            raise RunError(f"{dict(over)}: {error}") from error
        looks = EvaluationSettings(evaluate="none", save_every=1000, log_every=20)
        return dataclasses.replace(made, evaluation=looks)

    def on(self, dataset: sources.Dataset, seeds: range, images: str) -> "Study":
        """The same study of other images, its cells in the same file.

        Args:
          dataset: in memory.
          seeds: of its runs, other ones than of this study.
          images: what they are, which names the folder of its runs and is kept in its cells.
        """
        other = copy.copy(self)
        other.dataset, other.seeds, other._marks = dataset, seeds, {"images": images}
        other.output = self.output / as_file_name(images)
        return other

    def rows(
        self,
        variants: Sequence[Variant],
        measure: Measure | None = None,
        train: Train | None = None,
    ) -> dict[str, list[Cell]]:
        """The cells of variants, over the seeds, computed where the file has none.

        Args:
          variants: of different names.
          measure: further figures of a trained encoder.
          train: trains those variants that are "trained", in place of `encoder`.

        Returns:
          Variant's name → a cell for each seed. A cell has the probes' accuracies on the test
          images ("linear_all", "knn"), with standard errors and which images were right
          ("correct"), what the last step recorded, and "seconds"; or "diverged".
        """
        todo = [(variant, seed) for seed in self.seeds for variant in variants]
        found: dict[str, list[Cell]] = {variant.name: [] for variant in variants}
        for number, (variant, seed) in enumerate(todo, 1):
            key = {
                "variant": variant.name,
                "seed": seed,
                "kind": variant.kind,
                "settings": json.loads(json.dumps(dict(variant.settings))),
                **self._marks,
            }
            place = f"cell {number} of {len(todo)}: {variant.name}, seed {seed}"
            compute = functools.partial(self._cell, variant, seed, measure, train, place)
            cell, new = self._cells.get(key, compute)
            found[variant.name].append(cell)
            if new:
                to_stderr(f"  {_in_words(cell)}")
        return found

    def _cell(
        self,
        variant: Variant,
        seed: int,
        measure: Measure | None,
        train: Train | None,
        place: str,
    ) -> Cell:
        to_stderr(place)
        started = time.monotonic()
        if variant.kind == "pixels":
            return self._probes(*(_pixels(split) for split in self._splits))
        encoder: Encoder | None
        recorded: Mapping[str, Any]
        if train is not None and variant.kind == "trained":
            encoder, recorded = train(self, variant, seed)
        else:
            encoder, recorded = self.encoder(variant, seed) or (None, {})
        seconds = time.monotonic() - started
        if encoder is None:
            return {"diverged": True, **recorded, "seconds": seconds}
        parts = [(encoder(images), labels) for images, labels in self._splits]
        own = {} if measure is None else measure(self, encoder)
        return {**self._probes(*parts), **recorded, **own, "seconds": seconds}

    @property
    def _splits(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Training and test images with their labels."""
        return [self.train, self.test]

    @property
    def train(self) -> tuple[np.ndarray, np.ndarray]:
        """Training images and labels."""
        return _arrays_of(self.dataset.train)

    @property
    def test(self) -> tuple[np.ndarray, np.ndarray]:
        """Test images and labels."""
        return _arrays_of(self.dataset.test)

    def _probes(self, train: Any, test: Any) -> Cell:
        found = evaluate_sets(
            {"": lambda: (train, test)}, len(self.dataset.class_names), level="quick"
        )
        right = {name: as_bits(values[0]) for name, values in found.correct[""].items()}
        return {**found.rows[""], "correct": right}

    def run_of(self, variant: Variant, seed: int) -> Run:
        """The run of a variant and a seed: its data, its method, not yet trained."""
        run = open_run(self.settings(variant.settings, seed), data_mesh(), self.dataset)
        if variant.method is None:
            return run
        return dataclasses.replace(run, method=variant.method(run))

    def encoder(self, variant: Variant, seed: int) -> tuple[Encoder, dict[str, float]] | None:
        """A variant's encoder, trained where it is not yet; and what its last record had.

        Returns:
          None where training diverged.
        """
        run = self.run_of(variant, seed)
        training = prepare_training(run)
        description = pretraining.describe(run, training)
        if variant.kind in ("untrained", "cross_entropy"):
            start = encoder_of(run.settings, description, training.init(seed))
            if variant.kind == "untrained":
                return start, {}
            trained = train_supervised(run, start)
            return None if trained is None else (trained, {})
        check_start(run)
        folder = self.output / "runs" / f"{as_file_name(variant.name)}-seed{seed}"
        with pretraining.run_folder(folder, run.settings, description):
            try:
                encoder, _ = pretraining.train_run(run, training, folder, announced=False)
            except NonFiniteLossError as error:
                to_stderr(str(error))
                return None
        last = read_records(records_of(folder))[-1]
        return encoder, {name: float(last[name]) for name in _RECORDED if name in last}

    def finish(
        self,
        title: str,
        table: str,
        claims: Sequence[Claim],
        pictures: Mapping[str, Callable[[], Figure]],
    ) -> None:
        """Shows what was found, keeps it beside the cells, and draws.

        Args:
          title: of the table.
          table: as people read it.
          claims: what was asked, with what the figures say to it.
          pictures: file name → what draws it; one that fails is a warning.
        """
        shown = f"{title}\n{self.conditions}\n\n{table}"
        if self.quick:
            shown += "\n\n--quick is too short to say anything of what is claimed"
        elif claims:
            shown += f"\n\n{shown_claims(claims)}"
        summary = {
            **benchmarking.describe(("jax", "jaxlib", "numpy")),
            "table": shown.splitlines(),
            "claims": [dataclasses.asdict(claim) for claim in claims],
        }
        self._cells.write(summary)
        print(shown, flush=True)
        for name, draw in pictures.items():
            with warned_of(str(self.output / name)):
                write_png_atomically(self.output / name, draw())
                print(f"picture: {self.output / name}", flush=True)
        seconds = time.monotonic() - self._started
        print(f"all figures: {self.output / 'cells.json'} ({seconds:.0f} s)", flush=True)

    @property
    def conditions(self) -> str:
        """What all runs share, in a line."""
        own = self._base
        height, width, channels = self.dataset.image_shape
        train, test = self.train, self.test
        network = own["encoder"]
        if network == "small":
            network += f" {'-'.join(map(str, own['widths']))}"
        seeds = f"{len(self.seeds)} seeds" if len(self.seeds) > 1 else f"seed {self.seeds[0]}"
        return (
            f"{self.dataset.title}: {len(train[1]):,} training and {len(test[1]):,} test images of "
            f"{height}x{width}x{channels}; encoder {network}; {seeds}"
        )


def _given(values: flags.FlagValues, varies: Sequence[str], quick: bool) -> dict[str, Any]:
    """The settings that all runs share, by name."""
    given = {}
    for name in (*_shared(varies), *_OWN, "num_images"):
        if quick and name in _QUICK and values[name].using_default_value:
            given[name] = _QUICK[name]
        else:
            given[name] = values[name].value
    if given["data_dir"] is not None:
        given["data_dir"] = str(Path(given["data_dir"]).expanduser().absolute())
    return given


def _shared(varies: Sequence[str]) -> list[str]:
    """The settings of data, augmentation, network and optimiser that are flags of a study."""
    return [
        name
        for name, (owner, _) in fields_of("contrastive").items()
        if owner not in (RunSettings, EvaluationSettings)
        and name not in varies
        and name not in _of_method()
    ]


def _of_method() -> set[str]:
    method = type(RunSettings().method)
    return {field.name for field in dataclasses.fields(method)}


def _in_memory(base: Mapping[str, Any], wanted: int | None, quick: bool) -> sources.Dataset:
    """The data set, decoded, of as many training images as are wanted."""
    data = RunSettings().data
    own = {name: base[name] for name in vars(data) if name in base}
    data = dataclasses.replace(data, **own)
    found = sources.load(data.dataset, data.data_dir, data.image_size, decoding=data.decoding)
    if found.train is None or found.test is None:
        missing = "labels" if found.train is None else "labelled test images"
        raise RunError(
            f"a study needs labelled training and test images, and {found.title} has no {missing}"
        )
    (images, labels), (test_images, test_labels) = (
        sources.to_arrays(split, data.memory_limit_mb * 2**20)
        for split in (found.train, found.test)
    )
    if wanted is not None:
        if wanted > len(images):
            raise ArgumentError(
                "num_images", wanted, f"is more than {found.title} has, {len(images):,}"
            )
        chosen = np.sort(np.random.default_rng(0).permutation(len(images))[:wanted])
        images, labels = images[chosen], labels[chosen]
    if quick:
        test_images, test_labels = test_images[:_QUICK_TESTS], test_labels[:_QUICK_TESTS]
    return dataset_from_arrays(
        images, labels, test_images, test_labels, found.class_names, found.title
    )


def _arrays_of(split: sources.Split | None) -> tuple[np.ndarray, np.ndarray]:
    assert split is not None
    assert isinstance(split.source, sources.ArraySource)
    return split.source.images, split.source.labels


def _pixels(split: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    images, labels = split
    return images.reshape(len(images), -1).astype(np.float32) / 255, labels


def to_stderr(text: str) -> None:
    """Tells how far the study is."""
    print(text, file=sys.stderr, flush=True)


def _in_words(cell: Cell) -> str:
    if "diverged" in cell:
        return "diverged"
    seconds = f", {cell['seconds']:.0f} s" if "seconds" in cell else ""
    return f"linear {100 * cell['linear_all']:.1f} %, kNN {100 * cell['knn']:.1f} %{seconds}"


def define_study_flags(
    values: flags.FlagValues,
    name: str,
    varies: Sequence[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Defines the flags of a study.

    Args:
      values: where.
      name: of the study, for its folder.
      varies: settings that its variants set, which are no flags.
      defaults: of settings, where they are not those of all studies.
    """
    flags.DEFINE_string("output", f"runs/studies/{name}", "Folder for figures and runs.", values)
    flags.DEFINE_bool("quick", False, "As small as can be: to see that it runs.", values)
    flags.DEFINE_integer("seed", 0, "The first seed.", 0, LARGEST_SEED, flag_values=values)
    flags.DEFINE_integer("num_seeds", _DEFAULTS["num_seeds"], "How many.", 1, flag_values=values)
    flags.DEFINE_integer(
        "num_images", None, "Training images, drawn at random; all by default.", 2,
        flag_values=values,
    )  # fmt: skip
    fields = fields_of("contrastive")
    for setting in _shared(varies):
        define_setting(values, setting, *fields[setting])
    for setting, value in {**_DEFAULTS, **(defaults or {})}.items():
        if setting in values:
            values.set_default(setting, value)


def study_main(
    name: str,
    documentation: str | None,
    run: Callable[[Study], None],
    varies: Sequence[str] = (),
    defaults: Mapping[str, Any] | None = None,
    define: Callable[[flags.FlagValues], None] | None = None,
) -> None:
    """Runs a study as a program.

    Args:
      name: of the module.
      documentation: of the module, for --help.
      run: the study.
      varies, defaults: see `define_study_flags`.
      define: defines further flags, which the study reads from its `flags`.
    """
    define_study_flags(flags.FLAGS, name, varies, defaults)
    if define is not None:
        define(flags.FLAGS)

    def main(argv: Sequence[str]) -> None:
        del argv
        values = flags.FLAGS
        with plain_errors(values), no_empty_folder(Path(str(values["output"].value))):
            try:
                run(Study(values, varies))
            except InterruptedBySignal as error:
                print(error, file=sys.stderr)
                sys.exit(128 + error.number)

    run_main(main, documentation)
