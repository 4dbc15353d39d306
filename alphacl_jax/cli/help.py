"""What --help prints: what a command does, and its flags in groups."""

import re
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from absl import flags


class Described(NamedTuple):
    """A flag as one of several readers has it, where its own text is another's.

    Attributes:
      name: of the flag.
      default: in place of the flag's.
      text: in place of the flag's.
    """

    name: str
    default: object
    text: str


Groups = Mapping[str, Sequence[str | Described]]

_INDENT = " " * 6


def help_text(documentation: str | None, groups: Groups | None = None) -> str:
    """The documentation, then the flags with their texts and defaults.

    Args:
      documentation: what the command does.
      groups: names of flags by heading; by default those of the script and of this project.
    """
    width = min(100, shutil.get_terminal_size((88, 24)).columns)
    parts = [textwrap.dedent(documentation or "").strip()]
    for title, names in (groups or {"flags": own_flags()}).items():
        heading = textwrap.fill(f"{title}:", width, subsequent_indent="    ")
        parts.append("\n".join([heading, *(_entry(name, width) for name in names)]))
    return "\n\n".join(parts)


def own_flags() -> list[str]:
    """The flags that the script itself, or a module of this project, defines."""
    own = (sys.argv[0], "__main__", "experiments", "alphacl_jax")
    found = flags.FLAGS.flags_by_module_dict()
    return [
        flag.name
        for module, of_module in found.items()
        if module.startswith(own)
        for flag in of_module
    ]


def _entry(entry: str | Described, width: int) -> str:
    if isinstance(entry, Described):
        return _lines(f"  --{entry.name}={_shown(entry.default)}", entry.text, width)
    flag = flags.FLAGS[entry]
    switch = isinstance(flag.default, bool)
    head = f"  --[no]{flag.name}" if switch else f"  --{flag.name}={_shown(flag.default)}"
    choices = getattr(flag.parser, "enum_values", None)
    # absl puts the choices in front of the text, and says behind it that a flag may be repeated.
    text = re.sub(r"^<[^>]*>: |;\s+repeat this option.*$", "", flag.help or "", flags=re.S).strip()
    if switch:
        text += f" Default: {str(flag.default).lower()}."
    if choices and not all(choice in text for choice in choices):
        text += f" One of {', '.join(choices)}."
    return _lines(head, text, width)


def _lines(head: str, text: str, width: int) -> str:
    body = textwrap.fill(text, width, initial_indent=_INDENT, subsequent_indent=_INDENT)
    return f"{head}\n{body}"


def _shown(value: object) -> str:
    if value is None:
        return "..."
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
