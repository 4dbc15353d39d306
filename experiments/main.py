"""How every script starts and ends: quiet libraries, plain errors, exit codes."""

import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging

from experiments.run_flags import RunError


def run_main(
    main: Callable[[Sequence[str]], None], documentation: str | None, *, positional: bool = False
) -> None:
    """Parses the flags and runs `main`; a RunError ends the program with its message, status 1.

    Args:
      main: given the arguments that are no flags, the program's name first.
      documentation: what --help prints above the flags.
      positional: whether arguments that are no flags are expected.
    """

    def guarded(argv: Sequence[str]) -> None:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # orbax tells of each file at INFO
        if len(argv) > 1 and not positional:
            print(
                f"error: unexpected argument {argv[1]!r}; flags are --name=value", file=sys.stderr
            )
            sys.exit(2)
        try:
            main(argv)
        except RunError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)

    # absl prints the main module's documentation on --help.
    sys.modules["__main__"].__doc__ = documentation
    app.run(guarded)
