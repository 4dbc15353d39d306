"""Names of a package that are loaded where they are first asked for."""

import importlib
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any


def attributes_of(
    package: str, homes: Mapping[str, str], modules: Collection[str] = ()
) -> Callable[[str], Any]:
    """The `__getattr__` of a package that imports nothing until it is asked.

    Args:
      package: its name.
      homes: the names that it offers → the module of the package that each is at home in.
      modules: modules that are attributes of the package too, as if it had imported them.
    """

    def attribute(name: str) -> Any:
        if name in modules:
            return importlib.import_module(f"{package}.{name}")
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, found)  # so that it is found at once from here on
        return found

    return attribute
