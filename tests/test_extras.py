"""What is said where the extra [train] is missing, and that it is all of it."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from alphacl_jax import extras

PROJECT = Path(__file__).parent.parent / "pyproject.toml"


def _plain(name: str) -> str:
    """A distribution's name as they are compared: tensorflow_datasets is tensorflow-datasets."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", name)[0]).lower()


def test_train_is_what_the_project_asks_for():
    asked = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]["train"]
    owners = metadata.packages_distributions()
    brought = {_plain(owner) for name in extras.TRAIN for owner in owners[name]}
    assert brought == set(map(_plain, asked))


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(extras, "TRAIN", ("json", "no_such_library", "optax"))
    extras.missing_from_train.cache_clear()
    try:
        with pytest.raises(ModuleNotFoundError, match=r"alphacl_jax.data: no_such_library cannot"):
            extras.require_train("alphacl_jax.data")
    finally:
        extras.missing_from_train.cache_clear()
