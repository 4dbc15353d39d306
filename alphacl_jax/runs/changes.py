"""How the data of a run differ from those that it began with, in words."""

from collections.abc import Iterable

_NAMED = 10  # classes that a message lists


def changed_classes(then: Iterable[str], now: Iterable[str], gone: str, new: str) -> list[str]:
    """The classes that there are no longer, and those that there were not.

    Args:
      then, now: names.
      gone, new: what such classes are called.
    """
    found = []
    for what, names in ((gone, set(then) - set(now)), (new, set(now) - set(then))):
        if names:
            more = ", ..." if len(names) > _NAMED else ""
            found.append(f"{what}: {', '.join(sorted(names)[:_NAMED])}{more}")
    return found
