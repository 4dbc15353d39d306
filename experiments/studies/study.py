"""What the studies of images share: settings from flags, one data set, cells that survive a kill.

A study trains variants of one run over several seeds. The figures of each (variant, seed) are a
cell, kept in OUTPUT/cells.json as soon as they are known. A run of one of the trainer's methods has
a run folder in OUTPUT/runs, from which a killed one goes on; other cells begin anew.
"""

import copy
import dataclasses
import functools
import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from absl import flags

from alphacl_jax.cli.compilation import keep_programs
from alphacl_jax.cli.start import plain_errors, run_main
from alphacl_jax.data import sources
from alphacl_jax.errors import ArgumentError, RunError
from alphacl_jax.evaluation.probes import evaluate_sets
from alphacl_jax.methods.method import Method
from alphacl_jax.runs.agreement import digest_of_arrays
from alphacl_jax.runs.any_run import prepare_training
from alphacl_jax.runs.baselines import train_supervised
from alphacl_jax.runs.cells import Cell, Cells
from alphacl_jax.runs.common_settings import check_last_seed
from alphacl_jax.runs.encoder import Encoder, encoder_of
from alphacl_jax.runs.flag_file import from_mapping, of_images
from alphacl_jax.runs.folder import records_of
from alphacl_jax.runs.naming import as_file_name
from alphacl_jax.runs.run import Run, open_run
from alphacl_jax.runs.settings import EvaluationSettings, RunSettings
from alphacl_jax.runs.train_run import check_start, run_folder, train_run
from alphacl_jax.training.loop import InterruptedBySignal, NonFiniteLossError
from alphacl_jax.training.mesh import data_mesh
from alphacl_jax.training.records import read_records
from experiments.studies.claims import Claim
from experiments.studies.ending import FIGURES, Pictures, end
from experiments.studies.images import arrays_of, in_memory, pixels_of
from experiments.studies.own_flags import Own, read_own
from experiments.studies.report import as_bits
from experiments.studies.shared_flags import define_study_flags, shared_settings
from experiments.theory.lab import no_empty_folder

# These change no figure.
_CHANGE_NOTHING = ("seed", "data_dir", "memory_limit_mb")
# Of the last record, where a method has them.
_RECORDED = (
    "step", "loss", "std", "healthy_std", "embedding_rank", "eigenspace_alignment",
    "alignment", "uniformity", "mutual_information_bound",
)  # fmt: skip

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
      own: the settings that this study alone has; None where it has none.
    """

    def __init__(self, values: flags.FlagValues, varies: Sequence[str], own: Own | None = None):
        """Loads the data.

        Args:
          values: with the flags of `define_study_flags`.
          varies: settings that the variants set.
          own: as in `define_study_flags`.

        Raises:
          RunError: for data without labels or test images, or a folder of another study.
          ArgumentError: for settings that are impossible.
        """
        self.quick = bool(values["quick"].value)
        self.own: Any = None if own is None else read_own(values, own, self.quick)
        self._base = shared_settings(values, varies, self.quick)
        first, count = self._base["seed"], int(self._base.pop("num_seeds"))
        check_last_seed(first, count)
        self.seeds = range(first, first + count)
        wanted = self._base.pop("num_images")
        data = self.settings({}).data  # impossible ones are told before data is looked for
        self.output = Path(str(values["output"].value)).expanduser().absolute()
        self.output.mkdir(parents=True, exist_ok=True)
        self.dataset = in_memory(data, wanted, self.quick)
        self._depends_on = {
            "training images and labels": digest_of_arrays(self.train),
            "test images and labels": digest_of_arrays(self.test),
            **{name: value for name, value in self._base.items() if name not in _CHANGE_NOTHING},
        }
        self._cells = Cells(self.output / FIGURES, self._depends_on)
        self._images: str | None = None
        self._started = time.monotonic()

    def settings(self, over: Mapping[str, Any], seed: int | None = None) -> RunSettings:
        """The settings of a run: those of the flags, and others by name over them."""
        own = {} if seed is None else {"seed": seed}
        try:
            made = of_images(from_mapping({**self._base, **over, **own}))
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
          seeds: of its runs.
          images: what they are, which names the folder of its runs and is kept in its cells.
        """
        other = copy.copy(self)
        other.dataset, other.seeds, other._images = dataset, seeds, images
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
        for variant in variants:
            self.run_of(variant, self.seeds[0])  # impossible ones, before any is trained
        todo = [(variant, seed) for seed in self.seeds for variant in variants]
        found: dict[str, list[Cell]] = {variant.name: [] for variant in variants}
        for number, (variant, seed) in enumerate(todo, 1):
            key = {
                "variant": variant.name,
                "seed": seed,
                "kind": variant.kind,
                "settings": json.loads(json.dumps(dict(variant.settings))),
                "images": self._images,
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
            return self._probes(pixels_of(self.train), pixels_of(self.test))
        if train is None or variant.kind != "trained":
            train = Study.encoder
        encoder, recorded = train(self, variant, seed)
        seconds = time.monotonic() - started
        if encoder is None:
            return {"diverged": True, **recorded, "seconds": seconds}
        parts = [(encoder(images), labels) for images, labels in (self.train, self.test)]
        own = {} if measure is None else measure(self, encoder)
        return {**self._probes(*parts), **recorded, **own, "seconds": seconds}

    @property
    def train(self) -> tuple[np.ndarray, np.ndarray]:
        """Training images and labels."""
        return arrays_of(self.dataset.train)

    @property
    def test(self) -> tuple[np.ndarray, np.ndarray]:
        """Test images and labels."""
        return arrays_of(self.dataset.test)

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

    def encoder(self, variant: Variant, seed: int) -> tuple[Encoder | None, Mapping[str, Any]]:
        """A variant's encoder, trained where it is not yet; and what its last record had.

        Returns:
          None in place of the encoder where training diverged.
        """
        run = self.run_of(variant, seed)
        training = prepare_training(run)
        description = run.describe(training.batches)
        if variant.kind in ("untrained", "cross_entropy"):
            start = encoder_of(run.settings, description, training.init(seed))
            if variant.kind == "untrained":
                return start, {}
            return train_supervised(run, start), {}
        check_start(run)
        folder = self._folder(variant, seed)
        with run_folder(folder, run.settings, description):
            try:
                encoder, _ = train_run(run, training, folder, announced=False)
            except NonFiniteLossError as error:
                to_stderr(str(error))
                return None, {}
        last = read_records(records_of(folder))[-1]
        return encoder, {name: float(last[name]) for name in _RECORDED if name in last}

    def _folder(self, variant: Variant, seed: int) -> Path:
        """The folder of a run, another one for each change of what it depends on."""
        depends = json.dumps([self._depends_on, dict(variant.settings)], sort_keys=True)
        digest = hashlib.sha256(depends.encode()).hexdigest()[:8]
        return self.output / "runs" / f"{as_file_name(variant.name)}-{digest}-seed{seed}"

    def finish(
        self,
        title: str,
        table: str,
        claims: Sequence[Claim],
        pictures: Pictures,
    ) -> None:
        """Shows what was found, keeps it beside the cells, and draws.

        Args:
          title: of the table.
          table: as people read it.
          claims: what was asked, with what the figures say to it.
          pictures: file name → what draws it; one that fails is a warning.
        """
        end(
            self._cells,
            self.output,
            f"{title}\n{self.conditions}\n\n{table}",
            claims,
            pictures,
            quick=self.quick,
            started=self._started,
        )

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


def to_stderr(text: str) -> None:
    """Tells how far the study is."""
    print(text, file=sys.stderr, flush=True)


def _in_words(cell: Cell) -> str:
    if "diverged" in cell:
        return "diverged"
    seconds = f", {cell['seconds']:.0f} s" if "seconds" in cell else ""
    return f"linear {100 * cell['linear_all']:.1f} %, kNN {100 * cell['knn']:.1f} %{seconds}"


def study_main(
    name: str,
    documentation: str | None,
    run: Callable[[Study], None],
    varies: Sequence[str] = (),
    defaults: Mapping[str, Any] | None = None,
    own: Own | None = None,
) -> None:
    """Runs a study as a program.

    Args:
      name: of the module.
      documentation: of the module, for --help.
      run: the study.
      varies, defaults, own: see `define_study_flags`.
    """
    define_study_flags(flags.FLAGS, name, varies, defaults, own)

    def main(argv: Sequence[str]) -> None:
        del argv
        values = flags.FLAGS
        with plain_errors(values), no_empty_folder(Path(str(values["output"].value))):
            keep_programs(values)  # seeds of a variant are one program
            study = Study(values, varies, own)
            try:
                run(study)
            except InterruptedBySignal as error:
                print(error, file=sys.stderr)
                sys.exit(128 + error.number)

    run_main(main, documentation)
