"""Evaluates the encoder of a training run: probes, neighbours, spectrum and pictures.

    python -m experiments.evaluate --workdir=runs/digits-alpha_direct-1234abcd

prints a table of linear probes and weighted kNN on frozen features, beside the same on the
untrained encoder and on raw pixels, and writes evaluation.json, history.png, spectrum.png and
map.png into the run folder.
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from alphacl_jax.cli.start import plain_errors, run_main
from alphacl_jax.data.sources import Split, in_order
from alphacl_jax.errors import RunError
from alphacl_jax.evaluation import pictures
from alphacl_jax.evaluation.features import extract_features
from alphacl_jax.evaluation.probes import evaluate_features
from alphacl_jax.evaluation.report import format_table
from alphacl_jax.evaluation.spectrum import effective_rank, singular_values
from alphacl_jax.methods.contrastive import embed_features
from alphacl_jax.training.checkpoint import Checkpoints, write_json_atomically
from alphacl_jax.training.records import read_records
from alphacl_jax.training.state import TrainState
from experiments.run_flags import read_run
from experiments.runs import Run, make_projector, open_run, untrained_state

_CHUNK = 500
_FEWEST_IN_A_MAP = 4
_LABELS_PER_CLASS = (2, 10)

Labelled = tuple[np.ndarray, np.ndarray]


def features_of(run: Run, state: TrainState, split: Split) -> Labelled:
    """The encoder's features `[n, dim]` of a split, and its labels `[n]`."""
    encode = partial(run.features, state.params, state.method_state)
    return extract_features(encode, in_order(split, _CHUNK, run.memory_limit_bytes))


def embeddings_of(run: Run, state: TrainState, features: np.ndarray) -> np.ndarray:
    """The embeddings z `[n, dim]` that the loss compares, of features `[n, dim]`."""
    projector = make_projector(run.values)
    return np.asarray(embed_features(projector, state.params, state.method_state, features))


def _pixels_of(run: Run, split: Split) -> Labelled | None:
    """Raw pixels as features, where they fit in memory as float32."""
    if 4 * len(split.source) * int(np.prod(split.source.image_shape)) > run.memory_limit_bytes:
        return None
    chunks = list(in_order(split, _CHUNK, run.memory_limit_bytes))
    images = np.concatenate([c[0] for c in chunks]).astype(np.float32) / 255
    return images.reshape(len(images), -1), np.concatenate([c[1] for c in chunks])


def evaluate_run(run: Run, state: TrainState, untrained: TrainState, workdir: Path) -> str:
    """Evaluates a state, writes figures and pictures into the run folder, returns the table."""
    pictures.plot_history(workdir / "history.png", read_records(workdir / "metrics.jsonl"))
    train, test = run.dataset.train, run.dataset.test
    shown = test or train or run.dataset.pretrain
    features, labels = features_of(run, state, shown)
    embeddings = embeddings_of(run, state, features)
    spectra = {"embedding z": singular_values(embeddings), "features h": singular_values(features)}
    pictures.plot_spectrum(workdir / "spectrum.png", spectra)
    if len(features) >= _FEWEST_IN_A_MAP:
        pictures.plot_map(
            workdir / "map.png",
            features,
            *((labels, run.dataset.class_names) if shown.labelled else (None, None)),
            seed=run.flag("seed"),
        )
    figures: dict[str, Any] = {
        "step": int(state.step),
        "effective_rank": {name: effective_rank(values) for name, values in spectra.items()},
    }
    if train is None or test is None:
        missing = "labels" if train is None else "test images"
        text = f"There are no {missing}, so no probe was run; features: python -m experiments.embed"
    else:
        figures["accuracy"] = _accuracies(run, state, untrained, train, test, (features, labels))
        text = format_table(figures["accuracy"])
    write_json_atomically(workdir / "evaluation.json", figures)
    ranks = ", ".join(f"{name} {rank:.1f}" for name, rank in figures["effective_rank"].items())
    return f"pictures and figures: {workdir}\neffective rank: {ranks}\n{text}"


def _accuracies(
    run: Run,
    state: TrainState,
    untrained: TrainState,
    train: Split,
    test: Split,
    test_features: Labelled,
) -> dict[str, dict[str, float]]:
    classes = len(run.dataset.class_names)

    def figures(train: Labelled, test: Labelled) -> dict[str, float]:
        return evaluate_features(train, test, classes, labels_per_class=_LABELS_PER_CLASS)

    # One after the other, so that the features of one encoder are held at a time.
    table = {run.flag("loss"): figures(features_of(run, state, train), test_features)}
    table["untrained encoder"] = figures(
        features_of(run, untrained, train), features_of(run, untrained, test)
    )
    pixels = _pixels_of(run, train), _pixels_of(run, test)
    if pixels[0] is not None and pixels[1] is not None:
        table["raw pixels"] = figures(pixels[0], pixels[1])
    return table


def restore_run(workdir: Path) -> tuple[Run, TrainState, TrainState]:
    """A run, its newest state, and the state that it started from.

    Raises:
      RunError: where the folder holds no run, or no checkpoint that can be read.
    """
    values = read_run(workdir)
    if values.num_seeds > 1:
        raise RunError(
            f"{workdir} holds {values.num_seeds} runs, one per seed: give one of them, such as "
            f"--workdir={workdir / f'seed-{values.seed}'}"
        )
    with plain_errors(values):
        run = open_run(values)
        untrained, total = untrained_state(run)
        restored = None
        if (workdir / "checkpoints").is_dir():
            checkpoints = Checkpoints(workdir / "checkpoints", read_only=True)
            try:
                restored = checkpoints.restore(untrained)
            finally:
                checkpoints.close()
    if restored is None:
        raise RunError(
            f"{workdir} has no checkpoint yet: train it first, by the command that made it"
        )
    state = restored[0]
    if int(state.step) < total:
        print(f"note: this run is at step {int(state.step)} of {total}", file=sys.stderr)
    return run, state, untrained


def main(argv: Sequence[str]) -> None:
    del argv
    workdir = Path(flags.FLAGS.workdir).expanduser()
    restored = restore_run(workdir)
    with plain_errors(flags.FLAGS):
        print(evaluate_run(*restored, workdir))


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "The run folder to evaluate.", required=True)
    run_main(main, __doc__)
