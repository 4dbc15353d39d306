"""How every script starts and ends: quiet libraries, plain errors, exit codes."""

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import jax
from absl import app, flags, logging

from alphacl_jax.errors import RunError
from alphacl_jax.training.checkpoint import UnusableCheckpointsError
from alphacl_jax.training.hosts import HostsError
from alphacl_jax.training.loop import NonFiniteLossError


@contextmanager
def plain_errors(values: flags.FlagValues) -> Iterator[None]:
    """Turns what the library says of settings, data and files into a RunError that names flags."""
    # An argument is called as its flag is, but for the sigmoid loss's c.
    names = {name.removeprefix("sigmoid_"): name for name in values}

    def as_flag(match: re.Match[str]) -> str:
        return f"--{names[match[0]]}" if match[0] in names else match[0]

    try:
        yield
    except (
        ValueError,
        OSError,
        HostsError,
        NonFiniteLossError,
        UnusableCheckpointsError,
    ) as error:
        argument = r"(?<![-\w./])(\w+(?==)|[a-z]+_\w+)"
        raise RunError(re.sub(argument, as_flag, str(error))) from error
    except jax.errors.JaxRuntimeError as error:
        text = str(error)
        if "out of memory" not in text.lower() and "RESOURCE_EXHAUSTED" not in text:
            raise
        raise RunError(f"out of memory; choose smaller sizes ({text.splitlines()[0]})") from error


def run_main(
    main: Callable[[Sequence[str]], None], documentation: str | None, *, positional: bool = False
) -> None:
    """Parses the flags and runs `main`; a RunError ends the program with its message, status 1.

    With --verbosity=1 its traceback is shown too.

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
            logging.debug("where the error came from:", exc_info=True)
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)

    def parse(argv: Sequence[str]) -> list[str]:
        try:
            return flags.FLAGS(argv)
        except flags.Error as error:
            print(f"error: {error}; --help lists the flags", file=sys.stderr)
            sys.exit(2)
        except BrokenPipeError:  # `--help | head`: who reads has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
            sys.exit(0)

    # absl prints the main module's documentation on --help.
    sys.modules["__main__"].__doc__ = documentation
    app.run(guarded, flags_parser=parse)
