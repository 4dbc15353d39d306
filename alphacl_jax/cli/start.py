"""How every command starts and ends: quiet libraries, plain errors, exit codes."""

import difflib
import io
import logging as std_logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from absl import app, flags, logging

from alphacl_jax.allocator import keep_freed_memory
from alphacl_jax.cli.help import Groups, help_text, own_flags
from alphacl_jax.cli.interrupt import own_command, plain_interrupts
from alphacl_jax.errors import RunError
from alphacl_jax.files import in_words

# An argument is called as its flag is, but for these.
_FLAGS_OF_ARGUMENTS = {"c": "sigmoid_c"}
# What other programs call a flag that is here under another name.
_OTHER_NAMES = {
    "lr": "learning_rate",
    "wd": "weight_decay",
    "bs": "batch_size",
    "tau": "temperature",
    "model": "encoder",
    "arch": "encoder",
    "backbone": "encoder",
    "data": "data_dir",
    "output_dir": "workdir",
    "logdir": "workdir",
    "num_epochs": "epochs",
}


@contextmanager
def plain_errors(known: flags.FlagValues | None = None) -> Iterator[None]:
    """Turns what the library says of settings, data and files into a RunError that names flags.

    Args:
      known: the flags there are; by default those of the command line.
    """
    try:
        yield
    except RunError:
        raise
    except Exception as error:
        text = _plain(error, flags.FLAGS if known is None else known)
        if text is None:
            raise
        raise RunError(text) from error


def _plain(error: Exception, known: flags.FlagValues) -> str | None:
    """The error as a sentence for the person at the keyboard; None where it is a fault of ours."""
    argument = getattr(error, "argument", None)
    if argument is not None:
        name = _FLAGS_OF_ARGUMENTS.get(argument, argument)
        if name in known:
            # Nobody types a None: the flag was not given.
            shown = f"--{name}" if error.value is None else f"--{name}={error.value}"  # type: ignore[attr-defined]
            return f"{shown} {error.problem}"  # type: ignore[attr-defined]
        return str(error)
    # Here, since --help is to wait for none of these.
    import jax

    from alphacl_jax.training.checkpoint import UnsavedError, UnusableCheckpointsError
    from alphacl_jax.training.hosts import HostsError
    from alphacl_jax.training.loop import NonFiniteLossError

    if isinstance(error, OSError):
        return in_words(error)
    if isinstance(error, HostsError):
        who = "--coordinator_address, --num_processes and --process_id"
        return f"--distributed: {error}. Give {who}"
    if isinstance(error, ValueError | NonFiniteLossError | UnusableCheckpointsError | UnsavedError):
        return str(error)
    if isinstance(error, jax.errors.JaxRuntimeError):
        text = str(error)
        if "out of memory" in text.lower() or "RESOURCE_EXHAUSTED" in text:
            return f"out of memory; choose smaller sizes ({text.splitlines()[0]})"
    return None


def run_main(
    main: Callable[[Sequence[str]], None],
    documentation: str | None,
    *,
    positional: bool = False,
    groups: Groups | None = None,
    argv: Sequence[str] | None = None,
) -> None:
    """Parses the flags and runs `main`; a RunError ends the program with its message, status 1.

    With --verbosity=1 its traceback is shown too.

    Args:
      main: given the arguments that are no flags, the program's name first.
      documentation: what --help prints above the flags.
      positional: whether arguments that are no flags are expected.
      groups: the flags that --help shows, by heading; by default those that the script defines.
      argv: the command line, the program's name first; by default this process's.
    """

    def guarded(argv: Sequence[str]) -> None:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # orbax tells of each file at INFO
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # names may be in any encoding
        logging.get_absl_handler().setFormatter(_PlainFormatter())
        if len(argv) > 1 and not positional:
            _end(f"unexpected argument {argv[1]!r}; flags are --name=value", 2)
        try:
            main(argv)
        except RunError as error:
            logging.debug("where the error came from:", exc_info=True)
            _end(str(error), 1)

    def parse(argv: Sequence[str]) -> list[str]:
        if _asks_for_help(argv):
            _show(help_text(documentation, groups))
            sys.exit(0)
        try:
            return flags.FLAGS(argv)
        except (flags.Error, RunError) as error:
            _end(f"{_as_sentence(error)} (--help lists the flags)", 2)
            raise AssertionError from error  # not reached

    keep_freed_memory()
    # Of Pillow, where a file is larger than it deems safe: our own limit says so in its place.
    warnings.filterwarnings("ignore", message="Image size .* exceeds limit")
    with plain_interrupts(own_command()):
        app.run(guarded, argv=None if argv is None else list(argv), flags_parser=parse)


class _PlainFormatter(std_logging.Formatter):
    """A sentence for people in place of a line of a log."""

    def format(self, record: std_logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {super().format(record)}"


def _end(problem: str, status: int) -> None:
    print(f"error: {problem}", file=sys.stderr)
    sys.exit(status)


def show_at_once(table: str) -> None:
    """Prints a table so that nothing that comes after it can cost it."""
    print(table, flush=True)


def _asks_for_help(argv: Sequence[str]) -> bool:
    for argument in argv[1:]:
        if argument == "--":
            return False
        if argument.lstrip("-") in ("h", "help", "helpshort", "helpfull") and argument[0] == "-":
            return True
    return False


def _show(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # `--help | head`: who reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit


def _as_sentence(error: Exception) -> str:
    """What absl says of a flag, in words of the rest of the program."""
    if isinstance(error, flags.UnrecognizedFlagError):
        # Not absl's own guess, which may be a flag of a library.
        own = own_flags()
        meant = _OTHER_NAMES.get(error.flagname)
        close = [meant] if meant in own else difflib.get_close_matches(error.flagname, own, n=1)
        guess = f". Did you mean --{close[0]}?" if close else ""
        return f"unknown flag --{error.flagname}{guess}"
    text = str(error)
    if isinstance(error, flags.IllegalFlagValueError):
        cause = error.__context__
        name, _, value = text.removeprefix("flag --").partition("=")
        if cause is not None and value.endswith(f": {cause}"):
            return f"--{name}={value.removesuffix(f': {cause}')} {_wanted(name) or cause}"
        return text.removeprefix("flag ")
    return text.removeprefix("ERROR:: ")


def _wanted(name: str) -> str:
    """What a flag takes: of numbers with their range."""
    parser = flags.FLAGS[name].parser if name in flags.FLAGS else None
    if isinstance(parser, flags.BooleanParser):
        return f"must be true or false: --{name} or --no{name}"
    if not isinstance(parser, flags.IntegerParser | flags.FloatParser):
        return ""
    kind = "whole number" if isinstance(parser, flags.IntegerParser) else "number"
    bounds = ((">=", parser.lower_bound), ("<=", parser.upper_bound))
    limits = " and ".join(f"{sign} {bound}" for sign, bound in bounds if bound is not None)
    return f"must be a {kind} {limits}".rstrip()
