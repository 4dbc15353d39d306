"""An encoder trained further on few labels, beside the same network from scratch and a probe.

found = finetune(load_encoder("runs/NAME"), sources.load("digits"))
print(found)
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from alphacl_jax.data import policies
from alphacl_jax.data.reading import Split, fingerprint_of
from alphacl_jax.data.sources import Dataset
from alphacl_jax.errors import ArgumentError, RunError
from alphacl_jax.evaluation.linear import fit_probe
from alphacl_jax.evaluation.probes import standard_error
from alphacl_jax.runs.agreement import digest_of_arrays
from alphacl_jax.runs.cells import Cell, Cells
from alphacl_jax.runs.encoder import Encoder
from alphacl_jax.runs.evaluation import Report, features_of
from alphacl_jax.runs.finetune_report import (
    FINE_TUNED,
    PROBE,
    ROWS,
    Finetuning,
    in_words,
    percent,
    summary_of,
)
from alphacl_jax.runs.finetune_settings import FinetuneSettings
from alphacl_jax.runs.finetune_training import (
    Labelled,
    Network,
    Trainer,
    draw,
    hold_out,
    per_class,
    policy_of,
)
from alphacl_jax.training.mesh import data_mesh

Train = Callable[[Labelled, float, str], Network | None]
# What may differ between two calls that share a file: it says which cells there are.
_OF_CELLS = ("label_fraction", "seed", "num_seeds")


def finetune(
    encoder: Encoder,
    dataset: Dataset,
    settings: FinetuneSettings = FinetuneSettings(),  # noqa: B008 - frozen
    *,
    path: Path | None = None,
    mesh: Mesh | None = None,
    memory_limit_bytes: int = 2**31,
    report: Report = lambda text: None,
    finished: Report = lambda text: None,
) -> Finetuning:
    """Fine-tunes an encoder on shares of the labels, and measures it on the test images.

    Three rows, each on the same labelled images: the encoder with a linear classifier on it, both
    trained by cross-entropy, without projector; the same network and number of steps from scratch;
    and the linear probe of the frozen encoder, as `fit_probe`. Accuracies are those after the last
    step.

    Args:
      encoder: that was trained.
      dataset: images of the encoder's shape, with labels and test images.
      settings: the shares of the labels, the seeds, and how it is trained.
      path: a JSON file, written after each cell, from which the same call goes on; None keeps
        nothing.
      mesh: the devices, with an axis "data"; by default all of this process.
      memory_limit_bytes: what images may take; more are streamed.
      report: told what is being worked on.
      finished: told what each cell gave.

    Raises:
      ArgumentError: for images of another shape, and for a share that leaves a class without an
        image or asks for more than one has.
      RunError: for data without labels or test images, and a file of other settings.
    """
    study = _Study(encoder, dataset, settings, mesh or data_mesh(), memory_limit_bytes, report)
    cells = Cells(path, study.conditions())
    found = []
    for fraction in settings.label_fraction:
        for seed in settings.seeds:
            for row in ROWS:
                key = {"label_fraction": fraction, "seed": seed, "row": row}
                compute = functools.partial(study.cell, fraction, seed, row)
                cell, new = cells.get(key, compute)
                found.append(cell)
                if new:
                    finished(in_words(cell))
    return Finetuning(settings, found, cells.write(summary_of(found, settings)))


class _Study:
    """What the cells share: the labels, the frozen features, the compiled programs."""

    def __init__(
        self,
        encoder: Encoder,
        dataset: Dataset,
        settings: FinetuneSettings,
        mesh: Mesh,
        max_bytes: int,
        report: Report,
    ):
        self._train, self._test = _labelled_parts(encoder, dataset)
        self._encoder, self._dataset, self._settings = encoder, dataset, settings
        self._max_bytes, self._report = max_bytes, report
        self._num_classes = len(dataset.class_names)
        self._trainer = Trainer(encoder, self._num_classes, settings, mesh)
        report("labels")
        self._everything = Labelled.all_of(self._train, max_bytes)
        for fraction in settings.label_fraction:  # before hours are spent on the others
            per_class(self._everything.labels, self._num_classes, fraction)

    def conditions(self) -> dict[str, Any]:
        """All that a cell's figures depend on but its share of the labels and its seed."""
        own = dataclasses.asdict(self._settings)
        policy = policies.as_dict(policy_of(self._encoder, self._settings))
        return {
            **{name: value for name, value in own.items() if name not in _OF_CELLS},
            "augmentation": policy,
            "encoder": self._encoder.settings.method.label,
            "step of the encoder": self._encoder.step,
            "weights of the encoder": digest_of_arrays(self._encoder.variables),
            "data": self._dataset.title,
            "training images": fingerprint_of(self._train.source),
            "test images": fingerprint_of(self._test.source),
        }

    def cell(self, fraction: float, seed: int, row: str) -> Cell:
        """The figures of one cell."""
        what = f"{percent(fraction)} of the labels, seed {seed}, {row}"
        self._report(what)
        if row == PROBE:
            return self._probe(fraction, seed)
        return self._trained(fraction, seed, row == FINE_TUNED, what)

    def _probe(self, fraction: float, seed: int) -> Cell:
        k = per_class(self._everything.labels, self._num_classes, fraction)
        train, test = self._features
        probe = fit_probe(*train, *test, self._num_classes, labels_per_class=k, draws=1, seed=seed)
        return {
            "labels": len(self._labelled(fraction, seed)),
            **_accuracy(probe.correct[0]),
            "l2": float(probe.l2[0]),
            "l2_at_end": bool(probe.at_end[0]),
        }

    def _trained(self, fraction: float, seed: int, pretrained: bool, what: str) -> Cell:
        labelled = self._labelled(fraction, seed)
        rates = self._settings.encoder_learning_rate
        parts = hold_out(labelled, seed) if len(rates) > 1 else None
        budget = self._trainer.budget(len(labelled), len(labelled if parts is None else parts[0]))

        def train(images: Labelled, rate: float, name: str) -> Network | None:
            self._report(f"{what}, {name} at {rate:g}, {budget.steps:,} steps")
            return self._trainer.train(images, budget, rate, seed, pretrained=pretrained)

        rate, tried = self._choose(parts, train)
        found: Cell = {
            "labels": len(labelled),
            **budget._asdict(),
            "encoder_learning_rate": rate,
            "tried": tried,
        }
        network = train(labelled, rate, "training")
        if network is None:
            return {**found, "diverged": True}
        correct, _ = network.correct_and_loss(self._test, self._max_bytes)
        return {**found, **_accuracy(correct)}

    def _choose(
        self, parts: tuple[Labelled, Labelled] | None, train: Train
    ) -> tuple[float, list[Cell]]:
        """The encoder's learning rate, and what each one of several gave on held-out labels."""
        rates = self._settings.encoder_learning_rate
        if parts is None:
            return rates[len(rates) // 2], []
        rest, held = parts
        tried: list[Cell] = []
        for rate in rates:
            tried.append({"encoder_learning_rate": rate})
            network = train(rest, rate, "choosing the rate")
            if network is not None:
                correct, loss = network.correct_and_loss(held.images(), self._max_bytes)
                tried[-1] |= {"accuracy": float(correct.mean()), "loss": loss}
        # Of few images several rates may classify as many rightly: the loss decides among them.
        best = max(tried, key=lambda t: (t.get("accuracy", -1.0), -t.get("loss", np.inf)))
        return best["encoder_learning_rate"], tried

    def _labelled(self, fraction: float, seed: int) -> Labelled:
        return draw(self._everything, self._num_classes, fraction, seed)

    @functools.cached_property
    def _features(self) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Of the frozen encoder: training and test features, with their labels."""
        self._report("features of the frozen encoder")
        train, test = (
            features_of(self._encoder, split, self._max_bytes)
            for split in (self._train, self._test)
        )
        return train, test


def _labelled_parts(encoder: Encoder, dataset: Dataset) -> tuple[Split, Split]:
    """The training and the test images, where they can be used."""
    wanted = encoder.preprocessing.image_shape
    if dataset.image_shape != wanted:
        raise ArgumentError(
            "dataset",
            dataset.title,
            f"has images of the shape {dataset.image_shape}, and the encoder takes {wanted}. Load "
            "it with image_shape, which scales and crops them",
        )
    if dataset.train is None or dataset.test is None:
        parts = (("labels", dataset.train), ("labelled test images", dataset.test))
        missing = " and no ".join(what for what, part in parts if part is None)
        raise RunError(
            f"fine-tuning needs labelled training and test images, and {dataset.title} has no "
            f"{missing}"
        )
    return dataset.train, dataset.test


def _accuracy(correct: np.ndarray) -> Cell:
    return {"accuracy": float(correct.mean()), "accuracy_se": standard_error(correct[None])}
