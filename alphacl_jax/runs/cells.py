"""The figures of a table, kept cell by cell in a file that a killed run goes on from."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from alphacl_jax.errors import RunError, differences
from alphacl_jax.files import in_words, write_json_atomically

Cell = dict[str, Any]


class Cells:
    """Figures by row, seed and the like; those that a file holds are not computed again."""

    def __init__(self, path: Path | None, conditions: Mapping[str, Any]):
        """Reads what there is.

        Args:
          path: of the file, in a folder that exists; None keeps nothing.
          conditions: what all cells depend on, by name, as JSON can hold it.

        Raises:
          RunError: where the file holds cells of other conditions, or cannot be read or written.
        """
        self._path = path
        self._conditions = json.loads(json.dumps(conditions))
        self._cells: list[Cell] = []
        summary: dict[str, Any] = {}
        if path is not None and path.exists():
            self._cells, summary = self._read(path)
        self.write(summary)

    def get(self, key: Mapping[str, Any], compute: Callable[[], Cell]) -> tuple[Cell, bool]:
        """The cell of a key, and whether it was computed now, and written.

        Args:
          key: values that no other cell shares, by name.
          compute: the figures of the cell.

        Raises:
          RunError: where the file cannot be written.
        """
        for cell in self._cells:
            if all(cell.get(name) == value for name, value in key.items()):
                return cell, False
        cell = {**key, **compute()}
        self._cells.append(cell)
        self.write({})
        return cell, True

    def write(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Writes all cells, and what was made of them; returns what the file holds."""
        figures = {"conditions": self._conditions, **summary, "cells": self._cells}
        if self._path is not None:
            try:
                write_json_atomically(self._path, figures)
            except OSError as error:
                raise RunError(
                    f"the figures could not be written: {in_words(error)}. Choose another output"
                ) from error
        return figures

    def _read(self, path: Path) -> tuple[list[Cell], dict[str, Any]]:
        """The cells of the file, and what else it holds."""
        try:
            found = json.loads(path.read_text())
            then, cells = dict(found.pop("conditions")), list(found.pop("cells"))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RunError(
                f"{path} cannot be read as the cells of a table: {error!r}. Delete it, or choose "
                "another output"
            ) from error
        now = self._conditions
        differing = {
            name: (then.get(name), now.get(name))
            for name in {**now, **then}
            if then.get(name) != now.get(name)
        }
        if cells and differing:
            raise RunError(
                f"{path} holds figures of other settings: {differences(differing)}. Choose another "
                "output, or delete it"
            )
        return cells, found
