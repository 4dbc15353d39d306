"""A trained encoder looked at: accuracies beside baselines, effective ranks, pictures."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from alphacl_jax.data.sources import Dataset, Split, in_order
from alphacl_jax.errors import RunError
from alphacl_jax.evaluation import pictures
from alphacl_jax.evaluation.probes import evaluate_sets
from alphacl_jax.evaluation.report import format_table, over_seeds, verdicts
from alphacl_jax.evaluation.spectrum import effective_rank, singular_values
from alphacl_jax.files import in_words, write_json_atomically
from alphacl_jax.runs.encoder import Encoder
from alphacl_jax.runs.folder import records_of
from alphacl_jax.training.records import read_records

Labelled = tuple[np.ndarray, np.ndarray]
Report = Callable[[str], None]

LEVELS = ("none", "quick", "full")
_CHUNK = 500
_FEWEST_IN_A_MAP = 4
_LABELS_PER_CLASS = (2, 10)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
      figures: as evaluation.json has them.
      features, labels: of the images that the pictures show; labels are -1 where unknown.
      spectra: singular values by what they are of.
      class_names: one per label; empty where there are none.
    """

    figures: dict[str, Any]
    features: np.ndarray
    labels: np.ndarray
    spectra: dict[str, np.ndarray]
    class_names: tuple[str, ...]

    def __str__(self) -> str:
        """The table as people read it."""
        ranks = self.figures["effective_rank"]
        step = f"step {self.figures['step']:,} of {self.figures['total_steps']:,}"
        shown = ", ".join(f"{name} {rank:.1f}" for name, rank in ranks.items())
        lines = [f"{step}; effective rank: {shown}"]
        if "accuracy" in self.figures:
            lines += [format_table(self.figures["accuracy"]), *self.figures["verdicts"]]
        else:
            lines.append(f"{self.figures['not_probed']}, so no probe was run")
        return "\n".join(lines)


def features_of(encoder: Encoder, split: Split, memory_limit_bytes: int) -> Labelled:
    """Features `[n, dim]` of a split, and its labels `[n]`, -1 where unknown."""
    chunks = in_order(split, _CHUNK, memory_limit_bytes)
    found = [(encoder(images), labels) for images, labels in chunks]
    return np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])


def embeddings_of(encoder: Encoder, split: Split, memory_limit_bytes: int) -> np.ndarray:
    """Embeddings `[n, dim]` of a split."""
    chunks = in_order(split, _CHUNK, memory_limit_bytes)
    return np.concatenate([encoder.embed(images) for images, _ in chunks])


def _both(
    encoder: Encoder, train: Split, test: Split, memory_limit_bytes: int
) -> tuple[Labelled, Labelled]:
    return (
        features_of(encoder, train, memory_limit_bytes),
        features_of(encoder, test, memory_limit_bytes),
    )


def _pixels_fit(split: Split, memory_limit_bytes: int) -> bool:
    """Whether raw pixels fit in memory as float32."""
    return 4 * len(split.source) * int(np.prod(split.source.image_shape)) <= memory_limit_bytes


def _pixels(train: Split, test: Split, memory_limit_bytes: int) -> tuple[Labelled, Labelled]:
    """Raw pixels as features."""

    def of(split: Split) -> Labelled:
        chunks = list(in_order(split, _CHUNK, memory_limit_bytes))
        images = np.concatenate([c[0] for c in chunks]).astype(np.float32) / 255
        return images.reshape(len(images), -1), np.concatenate([c[1] for c in chunks])

    return of(train), of(test)


def evaluate_encoder(
    encoder: Encoder,
    dataset: Dataset,
    *,
    baselines: Mapping[str, Encoder],
    level: str,
    memory_limit_bytes: int,
    report: Report,
) -> Evaluation:
    """Probes of an encoder on a data set, beside other encoders and raw pixels.

    Args:
      encoder: what is looked at.
      dataset: whose test images (else whose training images) the pictures show; probes need
        labels and test images.
      baselines: further rows of the table.
      level: "quick" or "full".
      memory_limit_bytes: what images may take.
      report: told what is being worked on.
    """
    shown = dataset.test or dataset.train or dataset.pretrain
    report("features")
    features, labels = features_of(encoder, shown, memory_limit_bytes)
    embeddings = embeddings_of(encoder, shown, memory_limit_bytes)
    spectra = {"embedding z": singular_values(embeddings), "features h": singular_values(features)}
    figures: dict[str, Any] = {
        "step": encoder.step,
        "total_steps": encoder.description.total_steps(encoder.settings),
        "effective_rank": {name: effective_rank(values) for name, values in spectra.items()},
    }
    if dataset.train is None or dataset.test is None:
        figures["not_probed"] = (
            "There are no labels" if dataset.train is None else "There are no test images"
        )
    else:
        others = {encoder.settings.method.label: encoder, **baselines}
        sets: dict[str, Callable[[], tuple[Labelled, Labelled]]] = {
            name: functools.partial(_both, other, dataset.train, dataset.test, memory_limit_bytes)
            for name, other in others.items()
        }
        # Those of the encoder's test images have been made above.
        train = dataset.train
        sets[encoder.settings.method.label] = lambda: (
            features_of(encoder, train, memory_limit_bytes),
            (features, labels),
        )
        if _pixels_fit(dataset.train, memory_limit_bytes):
            sets["raw pixels"] = functools.partial(
                _pixels, dataset.train, dataset.test, memory_limit_bytes
            )
        scores = evaluate_sets(
            sets,
            len(dataset.class_names),
            level=level,
            labels_per_class=_LABELS_PER_CLASS,
            report=report,
        )
        figures["accuracy"] = scores.rows
        figures["verdicts"] = verdicts(scores.rows, scores.correct)
    names = dataset.class_names if shown.labelled else ()
    return Evaluation(figures, features, labels, spectra, names)


class UnwrittenError(RunError):
    """The figures of an evaluation were shown, and could not be written."""


class Evaluated(Protocol):
    """Figures, whose text is the table."""

    @property
    def figures(self) -> dict[str, Any]: ...


def publish(
    evaluation: Evaluated, path: Path, heading: str, show: Report, draw: Callable[[], None]
) -> str:
    """Writes the figures, shows the table, and then has the pictures drawn.

    Args:
      evaluation: what was found.
      path: of the figures, as JSON.
      heading: above the table, where the figures are written.
      show: given heading and table, before any picture is begun.
      draw: what draws the pictures.

    Returns:
      What was shown.

    Raises:
      UnwrittenError: where the figures could not be written; the table was shown, and no picture
        is drawn, which would lie beside them.
    """
    try:
        write_json_atomically(path, evaluation.figures)
    except OSError as error:
        clear_terminal()
        show(str(evaluation))
        raise UnwrittenError(f"the figures could not be written: {in_words(error)}") from error
    clear_terminal()
    shown = f"{heading}\n{evaluation}"
    show(shown)
    draw()
    clear_terminal()
    return shown


def draw_evaluation(
    evaluation: Evaluation, workdir: Path, output: Path, *, level: str, seed: int, report: Report
) -> None:
    """Draws history.png, spectrum.png and, at level "full", map.png; one that fails is a warning.

    Args:
      evaluation: what was found.
      workdir: the run folder, with its records.
      output: the folder of the pictures.
      level: of the evaluation.
      seed: of the map.
      report: told what is being worked on.
    """

    def history(path: Path) -> None:
        pictures.plot_history(path, read_records(records_of(workdir)))

    def spectrum(path: Path) -> None:
        pictures.plot_spectrum(path, evaluation.spectra)

    def tsne(path: Path) -> None:
        known = evaluation.class_names
        labels = (evaluation.labels, known) if known else (None, None)
        pictures.plot_map(path, evaluation.features, *labels, seed=seed)

    wanted: dict[str, Callable[[Path], None]] = {"history.png": history, "spectrum.png": spectrum}
    if level == "full" and len(evaluation.features) >= _FEWEST_IN_A_MAP:
        wanted["map.png"] = tsne
    pictures.draw_each(wanted, output, report)


def to_terminal(text: str, doing: str = "evaluating") -> None:
    """Shows what is being worked on, where somebody may be watching."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{doing}: {text} ...", end="", file=sys.stderr, flush=True)


def clear_terminal() -> None:
    """Takes back the last line of `to_terminal`."""
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def figures_over(evaluations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation of every figure over runs, however deep it lies."""
    first = evaluations[0]
    flat = [name for name, value in first.items() if isinstance(value, float)]
    nested = [name for name, value in first.items() if isinstance(value, Mapping)]
    figures: dict[str, Any] = over_seeds([{name: e[name] for name in flat} for e in evaluations])
    return figures | {name: figures_over([e[name] for e in evaluations]) for name in nested}
