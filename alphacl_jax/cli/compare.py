"""Trains several losses over several seeds, and prints their probes side by side.

    alphacl compare --losses=mine,info_nce --seeds=0,1,2 --output=OUT -- --epochs=10

Everything after -- goes to each training run (alphacl pretrain), which has its own folder
OUTPUT/LOSS-seedN; the same command goes on where it was stopped. "backprop" stands for
alpha_entropy without the stop-gradient, "quadratic" for alpha_uniform. Writes comparison.json.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from alphacl_jax.cli.help import Groups
from alphacl_jax.errors import RunError
from alphacl_jax.runs.settings import LOSSES

_NAMED = {
    "backprop": ["--loss=alpha_entropy", "--nostop_gradient"],
    "quadratic": ["--loss=alpha_uniform"],
}
_NOT_HANDED_ON = {
    "num_seeds": "give --seeds before --",
    "seed": "give --seeds before --",
    "loss": "give --losses before --",
    "workdir": "give --output before --",
    "method": "it compares losses of the method contrastive",
}
_BASELINES = ("untrained encoder", "raw pixels")


def _train(name: str, seed: int, folder: Path, arguments: Sequence[str]) -> dict[str, object]:
    """Runs one training run to its end, and returns its evaluation."""
    command = [sys.executable, "-m", "alphacl_jax.cli", "pretrain", *arguments]
    command += [*_NAMED.get(name, [f"--loss={name}"]), f"--seed={seed}", f"--workdir={folder}"]
    started = time.monotonic()
    # Not `subprocess.run`, which at Ctrl-C would kill a run that is saving its state.
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            status = process.wait()
        except KeyboardInterrupt:
            process.terminate()  # the signal may have come to this process alone
            raise
    if status:
        raise RunError(f"the run of {name}, seed {seed}, ended with status {status}")
    print(f"{name}, seed {seed}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    evaluation: dict[str, object] = json.loads((folder / "evaluation.json").read_text())
    if "accuracy" not in evaluation:
        raise RunError(f"{folder} was not probed: the data set needs labels and test images")
    return evaluation


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    flags.DEFINE_list("losses", ["alpha_direct", "info_nce"], "Losses to compare.", values)
    flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of each.", values)
    flags.DEFINE_string("output", None, "Folder for the runs (needed).", values)


def groups() -> Groups:
    """The flags by heading, for --help."""
    return {"flags": ("losses", "seeds", "output")}


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    from alphacl_jax.evaluation.report import format_table, over_seeds, verdicts
    from alphacl_jax.files import write_json_atomically

    values = flags.FLAGS
    if not values.output:
        raise RunError("--output is needed: give a folder for the runs")
    unknown = [name for name in values.losses if name not in (*LOSSES, *_NAMED)]
    if unknown or not values.losses:
        raise RunError(
            f"--losses={','.join(values.losses)}: {', '.join(unknown) or 'nothing'} is no loss; "
            f"choose from {', '.join((*LOSSES, *_NAMED))}"
        )
    try:
        seeds = [int(seed) for seed in values.seeds]
    except ValueError as error:
        raise RunError(f"--seeds={','.join(values.seeds)} must be whole numbers") from error
    for name, advice in _NOT_HANDED_ON.items():
        if any(argument.lstrip("-").split("=")[0] == name for argument in argv[1:]):
            raise RunError(f"--{name} is not for the runs of a comparison; {advice}")
    if not seeds:
        raise RunError("--seeds is empty; give whole numbers such as 0,1,2")
    output = Path(values.output).expanduser()
    rows: dict[str, dict[str, float]] = {}
    runs: dict[str, list[dict[str, float]]] = {}
    for seed in seeds:
        for name in values.losses:
            accuracy = _train(name, seed, output / f"{name}-seed{seed}", argv[1:])["accuracy"]
            assert isinstance(accuracy, dict)
            trained = next(row for row in accuracy if row not in _BASELINES)
            runs.setdefault(name, []).append(accuracy[trained])
            for baseline in _BASELINES:
                if baseline in accuracy and name == values.losses[0]:
                    runs.setdefault(baseline, []).append(accuracy[baseline])
    order = [name for name in runs if name not in _BASELINES]
    for name in [*order, *(b for b in _BASELINES if b in runs)]:
        rows[name] = over_seeds(runs[name])
    write_json_atomically(output / "comparison.json", {"runs": runs, "over_seeds": rows})
    counted = "1 seed" if len(seeds) == 1 else f"{len(seeds)} seeds"
    print(f"mean ± standard deviation over {counted}")
    print("\n".join([format_table(rows), *verdicts(rows)]))
