"""Flags that one study alone has."""

from dataclasses import dataclass

import pytest
from absl import flags

from alphacl_jax.errors import ArgumentError, RunError
from alphacl_jax.runs.fields import check_settings, setting
from experiments.studies.own_flags import Own, define_own, read_own


@dataclass(frozen=True)
class Settings:
    sizes: tuple[int, ...] = setting((1, 2), "Sizes.")
    words: tuple[str, ...] = setting(("a", "b"), "Words.", choices=("a", "b", "abc"))

    def __post_init__(self):
        check_settings(self)


OWN = Own(Settings, {"sizes": (1,)})


def read(*arguments, quick=False):
    values = flags.FlagValues()
    define_own(values, OWN)
    values(["study", *arguments])
    return read_own(values, OWN, quick)


def test_quick_is_for_what_was_not_given():
    assert read() == Settings()
    assert read(quick=True) == Settings(sizes=(1,))
    assert read("--sizes=5,3", "--words=b, a", quick=True) == Settings((5, 3), ("b", "a"))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--sizes=", "sizes= must be whole numbers"),
        ("--sizes=0", "sizes=0 must be whole numbers >= 1"),
        ("--sizes=2,3,2", "sizes=2,3,2 has a value twice; give each once"),
        ("--words=", "words= must be one or more words"),
        ("--words=a,ab", "words=ab is unknown. Did you mean abc?"),
    ],
)
def test_impossible_lists_are_refused(argument, message):
    with pytest.raises(ArgumentError, match=message.replace("?", r"\?")):
        read(argument)


def test_what_is_no_number_is_refused_as_it_is_read():
    with pytest.raises(RunError, match="--sizes=1,x must be whole numbers"):
        read("--sizes=1,x")
