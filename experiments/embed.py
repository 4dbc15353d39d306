"""Writes the features of a trained encoder, and the labels, to .npz files.

    python -m experiments.embed --workdir=runs/digits-alpha_direct-1234abcd

writes train.npz and test.npz (or pretrain.npz where there are no labels) into --output, each with
features [n, dim], embeddings [n, projector_dim] and, where the data has them, labels [n].
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from alphacl_jax.cli.start import plain_errors, run_main
from alphacl_jax.files import write_npz_atomically
from alphacl_jax.training.state import TrainState
from experiments.evaluate import embeddings_of, features_of, restore_run
from experiments.runs import Run


def main(argv: Sequence[str]) -> None:
    del argv
    workdir = Path(flags.FLAGS.workdir).expanduser()
    output = Path(flags.FLAGS.output or workdir / "features").expanduser()
    run, state, _ = restore_run(workdir)
    with plain_errors(flags.FLAGS):
        _write(run, state, output)


def _write(run: Run, state: TrainState, output: Path) -> None:
    splits = {"train": run.dataset.train, "test": run.dataset.test}
    if run.dataset.train is None:
        splits = {"pretrain": run.dataset.pretrain}
    output.mkdir(parents=True, exist_ok=True)
    for name, split in splits.items():
        if split is None:
            continue
        features, labels = features_of(run, state, split)
        arrays = {
            "features": features,
            "embeddings": embeddings_of(run, state, split),
        }
        if split.labelled:
            arrays["labels"] = labels
        write_npz_atomically(output / f"{name}.npz", arrays)
        shapes = ", ".join(f"{key} {list(value.shape)}" for key, value in arrays.items())
        print(f"{output / f'{name}.npz'}: {shapes}")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "The run folder.", required=True)
    flags.DEFINE_string("output", None, "Folder for the .npz files. Default: WORKDIR/features.")
    run_main(main, __doc__)
