"""Trains several losses or methods over several seeds, and prints their probes side by side.

    alphacl compare --losses=mine,supcon_out --seeds=0,1,2 --output=OUT -- --epochs=10
    alphacl compare --losses=info_nce --output=OUT \\
        --row="BYOL: --method=siamese --ema_momentum=0.97" \\
        --row="queue: --method=queue --loss=info_nce" -- --epochs=10

Everything after -- goes to each training run (alphacl pretrain), which has its own folder
OUTPUT/NAME-seedN; the same command goes on where it was stopped. Losses are those of the method
contrastive, and those with labels, of the method supervised; "backprop" stands for alpha_entropy
without the stop-gradient, "quadratic" for alpha_uniform. Rows are what else alphacl pretrain takes,
a preset among them; a row's own flags override those after --. Writes comparison.json.
"""

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import flags

from alphacl_jax.cli.help import Groups
from alphacl_jax.errors import RunError
from alphacl_jax.runs.method_settings import LABEL_LOSSES, LOSSES

# What each name in --losses stands for.
_LOSSES = {
    **{loss: [f"--loss={loss}"] for loss in LOSSES},
    "backprop": ["--loss=alpha_entropy", "--nostop_gradient"],
    "quadratic": ["--loss=alpha_uniform"],
    **{loss: ["--method=supervised", f"--loss={loss}"] for loss in LABEL_LOSSES},
}
_OF_ALL_RUNS = {
    "num_seeds": "give --seeds before --",
    "seed": "give --seeds before --",
    "workdir": "give --output before --",
}
_OF_ONE_ROW = {"loss": "give --losses before --", "method": "give --row before --"}
_NAME = re.compile(r"[^\W_.-][^/\\:]{0,79}")  # of a row: it becomes part of a folder's name
_BASELINES = ("untrained encoder", "raw pixels")


def _train(
    name: str, own: Sequence[str], seed: int, folder: Path, shared: Sequence[str]
) -> dict[str, object]:
    """Runs one training run to its end, and returns its evaluation."""
    command = [sys.executable, "-m", "alphacl_jax.cli", "pretrain", *shared, *own]
    command += [f"--seed={seed}", f"--workdir={folder}"]
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
    flags.DEFINE_list(
        "losses", None, "Losses to compare. Default: alpha_direct,info_nce, without --row.", values
    )
    flags.DEFINE_multi_string(
        "row", [], 'One more row, as "NAME: flags of alphacl pretrain"; may be repeated.', values
    )
    flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of each.", values)
    flags.DEFINE_string("output", None, "Folder for the runs (needed).", values)


def groups() -> Groups:
    """The flags by heading, for --help."""
    return {"flags": ("losses", "row", "seeds", "output")}


def _refuse_flags(arguments: Sequence[str], refused: Mapping[str, str], whose: str) -> None:
    given = {argument.lstrip("-").split("=")[0] for argument in arguments}
    for name, advice in refused.items():
        if name in given:
            raise RunError(f"--{name} is not for {whose}; {advice}")


def _rows(losses: Sequence[str] | None, more: Sequence[str]) -> dict[str, list[str]]:
    """The flags of each row, by its name."""
    losses = losses if losses is not None else [] if more else ["alpha_direct", "info_nce"]
    unknown = [name for name in losses if name not in _LOSSES]
    if unknown or not (losses or more):
        raise RunError(
            f"--losses={','.join(losses)}: {', '.join(unknown) or 'nothing'} is no loss; choose "
            f"from {', '.join(_LOSSES)}"
        )
    rows = {name: _LOSSES[name] for name in losses}
    for text in more:
        name, colon, rest = (part.strip() for part in text.partition(":"))
        if not (colon and rest and _NAME.fullmatch(name)) or name in (*rows, *_BASELINES):
            raise RunError(
                f'--row={text!r} must be "NAME: flags of alphacl pretrain", its name new and '
                "without / and \\"
            )
        try:
            rows[name] = shlex.split(rest)
        except ValueError as error:
            raise RunError(f"--row={text!r} cannot be read: {error}") from error
        _refuse_flags(rows[name], _OF_ALL_RUNS, f"the row {name}")
    return rows


def _seeds(given: Sequence[str]) -> list[int]:
    try:
        seeds = [int(seed) for seed in given]
    except ValueError as error:
        raise RunError(f"--seeds={','.join(given)} must be whole numbers") from error
    if not seeds:
        raise RunError("--seeds is empty; give whole numbers such as 0,1,2")
    return seeds


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    from alphacl_jax.evaluation.report import format_table, over_seeds, verdicts
    from alphacl_jax.files import write_json_atomically

    values = flags.FLAGS
    if not values.output:
        raise RunError("--output is needed: give a folder for the runs")
    rows = _rows(values.losses, values.row)
    seeds = _seeds(values.seeds)
    _refuse_flags(argv[1:], {**_OF_ALL_RUNS, **_OF_ONE_ROW}, "the runs of a comparison")
    output = Path(values.output).expanduser()
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in rows}
    for seed in seeds:
        for number, (name, own) in enumerate(rows.items()):
            folder = output / f"{name}-seed{seed}"
            accuracy = _train(name, own, seed, folder, argv[1:])["accuracy"]
            assert isinstance(accuracy, dict)
            trained = next(row for row in accuracy if row not in _BASELINES)
            runs[name].append(accuracy[trained])
            for baseline in _BASELINES:
                if baseline in accuracy and number == 0:
                    runs.setdefault(baseline, []).append(accuracy[baseline])
    table = {name: over_seeds(found) for name, found in runs.items()}
    write_json_atomically(output / "comparison.json", {"runs": runs, "over_seeds": table})
    counted = "1 seed" if len(seeds) == 1 else f"{len(seeds)} seeds"
    print(f"mean ± standard deviation over {counted}")
    print("\n".join([format_table(table), *verdicts(table)]))
