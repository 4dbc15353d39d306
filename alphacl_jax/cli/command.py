"""The console script `alphacl`: one subcommand after another name."""

import importlib
import sys
from collections.abc import Sequence

from alphacl_jax.cli.interrupt import own_command, plain_interrupts
from alphacl_jax.extras import missing_from_train

COMMANDS = {
    "pretrain": "train an encoder, and evaluate it",
    "evaluate": "probes, neighbours and pictures of an encoder, on its own or other data",
    "embed": "features and embeddings of images as .npz",
    "finetune": "an encoder trained on few labels, beside the same network from scratch",
    "export": "an encoder as safetensors or StableHLO",
    "neighbors": "the nearest images of a folder",
    "compare": "several losses or methods over several seeds",
}

_USAGE = """alphacl: encoders by contrastive learning.

{commands}

alphacl COMMAND --help lists a command's flags."""


def run(name: str, argv: Sequence[str] | None = None) -> None:
    """Runs a subcommand as a program.

    Args:
      name: of the subcommand.
      argv: its command line, the program's name first; by default this process's.
    """
    _require_extra()
    with plain_interrupts(own_command()):
        # Here, as a signal may come while they are loaded.
        from absl import flags

        from alphacl_jax.cli.compilation import CACHE, define_cache_flag, keep_programs
        from alphacl_jax.cli.start import run_main

        command = importlib.import_module(f"alphacl_jax.cli.{name}")
        command.define_flags(flags.FLAGS)
        define_cache_flag(flags.FLAGS)

        def started(rest: Sequence[str]) -> None:
            keep_programs(flags.FLAGS)
            command.main(rest)

        run_main(
            started,
            command.__doc__,
            positional=name in ("compare", "export", "neighbors"),
            groups={**command.groups(), "compiled programs": (CACHE,)},
            argv=argv,
        )


def main() -> None:
    """The console script."""
    arguments = sys.argv[1:]
    listed = "\n".join(f"  alphacl {name:10} {text}" for name, text in COMMANDS.items())
    usage = _USAGE.format(commands=listed)
    if not arguments or arguments[0].lstrip("-") in ("help", "h", "helpfull", "helpshort"):
        print(usage)
        sys.exit(0 if arguments else 2)
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"error: {name!r} is no command of alphacl\n\n{usage}", file=sys.stderr)
        sys.exit(2)
    run(name, [f"alphacl {name}", *rest])


def _require_extra() -> None:
    if problem := missing_from_train():
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(1)
