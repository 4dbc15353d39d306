"""Rows of tables about CPC: trainings at their own learning rates, probes, what is picked out."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import flax.linen as nn
import numpy as np
from jax.sharding import Mesh

from alphacl_jax.data.sequences import Recordings
from alphacl_jax.evaluation.probes import standard_error
from alphacl_jax.methods.cpc import cpc_contexts
from alphacl_jax.methods.method import Method
from alphacl_jax.runs.cells import Cell
from alphacl_jax.tables import align
from experiments.sequences.experiment import CHOOSING_SEED, Experiment
from experiments.sequences.parts import Parts
from experiments.sequences.probes import Fitted
from experiments.sequences.training import Recipe, Trained, each_step, held_out_metrics, train
from experiments.studies.report import Column, as_bits, mean_and_spread

RATES = (Column("rate", "rate"), Column("tried", "held out at each rate, %"))

# Of each recording `[its steps, dim]`.
Steps = Sequence[np.ndarray]


class Networks(NamedTuple):
    """An encoder and what sums up its steps.

    Attributes:
      encoder, context: as of `cpc_method`.
      hop: moments of a step.
    """

    encoder: nn.Module
    context: nn.Module
    hop: int


class Probes(NamedTuple):
    """What is asked of networks.

    Attributes:
      figures: `(parts, steps of the training part, steps of the test part, seed) -> by column`.
      score: `(row, trained, parts, steps, steps) -> accuracies`, whose mean chooses the rate.
      own_layer: `(row, trained, parts, steps of the test part) -> by column`, those figures that a
        supervised network's own last layer gives.
      fifths: of the training recordings, how many are held out in turn where a rate is chosen.
    """

    figures: Callable[[Parts, Steps, Steps, int], dict[str, Fitted]]
    score: Callable[[str, Trained, Parts, Steps, Steps], np.ndarray]
    own_layer: Callable[[str, Trained, Parts, Steps], dict[str, Fitted]]
    fifths: int


class CPCRows:
    """Trainings of one pair of networks by several methods, each at its own learning rate."""

    def __init__(
        self,
        experiment: Experiment,
        data: Parts,
        networks: Networks,
        methods: Mapping[str, Method],
        recipe: Recipe,
        probes: Probes,
        mesh: Mesh,
    ):
        """Chooses the learning rates.

        Args:
          experiment: whose own settings have `learning_rates`.
          data: to train on and to test.
          networks: that the methods train.
          methods: by row.
          recipe: of all, but for the learning rate.
          probes: what is asked.
          mesh: the devices.
        """
        self._data, self._networks, self._methods = data, networks, methods
        self._probes, self._mesh, self._recipe = probes, mesh, recipe
        # One function, so that it is compiled once for each shape.
        self._encode = cpc_contexts(networks.encoder, networks.context)
        self._rates = {
            row: experiment.rate_of(
                row, experiment.own.learning_rates, functools.partial(self._score, row)
            )
            for row in methods
        }

    def cell(self, row: str, seed: int) -> Cell:
        """The figures of one seed of a method."""
        trained = self.trained(row, seed)
        if trained.diverged:
            return {"diverged": True}
        return {
            **self._figures(row, trained, seed),
            **self._held_out(row, trained),
            **self._rates[row][1],
        }

    def untrained(self, row: str, seed: int) -> Cell:
        """The figures of the networks that a method starts from."""
        return self._figures(row, self.trained(row, seed, steps=0), seed)

    def trained(self, row: str, seed: int, steps: int | None = None) -> Trained:
        """A method's networks, after the recipe's number of steps or another."""
        recipe = self._at(self._rates[row][0])
        recipe = recipe if steps is None else recipe._replace(steps=steps)
        return train(self._methods[row], self._data.train, recipe, self._mesh, seed)

    def contexts(self, trained: Trained, recordings: Recordings) -> Steps:
        """Of each recording `[its steps, width]`."""
        return each_step(self._encode, trained, recordings, self._networks.hop)

    def _at(self, rate: float) -> Recipe:
        return self._recipe._replace(learning_rate=rate)

    def _score(self, row: str, rate: float) -> float:
        """The accuracy at a rate on training recordings that are held out; NaN if it diverged."""
        found = []
        for part in self._data.held_out(self._probes.fifths):
            recipe = self._at(rate)
            trained = train(self._methods[row], part.train, recipe, self._mesh, CHOOSING_SEED)
            if trained.diverged:
                return math.nan
            steps = (self.contexts(trained, of) for of in part)
            found.append(self._probes.score(row, trained, part, *steps))
        return float(np.concatenate(found).mean())

    def _figures(self, row: str, trained: Trained, seed: int) -> Cell:
        train, test = (self.contexts(trained, of) for of in self._data)
        found = self._probes.figures(self._data, train, test, seed)
        return cell_of(found | self._probes.own_layer(row, trained, self._data, test))

    def _held_out(self, row: str, trained: Trained) -> Cell:
        """CPC's own metrics on test recordings."""
        if "predictor" not in trained.params:
            return {}
        recipe = self._at(self._rates[row][0])
        test = self._data.test
        found = held_out_metrics(self._methods[row], trained, test, recipe, self._mesh)
        return {"held_out": found}


def signals(recordings: Recordings) -> Steps:
    """Of each recording `[its moments, channels]`."""
    return [recordings.of(number) for number in range(len(recordings))]


def pooled(steps: Steps, *, spread: bool = False) -> np.ndarray:
    """Means over time `[recordings, dim]`, and beside them the standard deviations if asked."""
    mean = np.stack([of.mean(axis=0) for of in steps])
    if not spread:
        return mean
    return np.hstack([mean, np.stack([of.std(axis=0) for of in steps])])


def last_layer(trained: Trained, contexts: np.ndarray) -> np.ndarray:
    """The classes `[n]` that a supervised network's own last layer finds in contexts `[n, dim]`."""
    last = {name: np.asarray(of) for name, of in trained.params["classifier"].items()}
    found: np.ndarray = (contexts @ last["kernel"] + last["bias"]).argmax(axis=1)
    return found


def cell_of(found: Mapping[str, Fitted]) -> Cell:
    """What a cell keeps of probes, by the columns' keys.

    What is right is kept of each recording: of one that has several samples, the share of them.
    """
    shares = {key: of.shares() for key, of in found.items()}
    return {
        **{key: float(share.mean()) for key, share in shares.items()},
        **{f"{key}_se": standard_error(share[None]) for key, share in shares.items()},
        "correct": {key: _kept(share) for key, share in shares.items()},
        "penalties": {key: of.penalty for key, of in found.items()},
        "at_end": sorted(key for key, of in found.items() if of.at_end),
    }


def _kept(shares: np.ndarray) -> str | list[float]:
    if np.isin(shares, (0, 1)).all():
        return as_bits(shares.astype(bool))
    return [round(float(share), 4) for share in shares]


def by_k(cells: Sequence[Cell]) -> np.ndarray:
    """How often the positive of k steps ahead was picked out, `[seeds, K]`.

    Seeds that diverged have none.
    """
    rows = []
    for cell in cells:
        found = cell.get("held_out", {})
        steps = sum(name.startswith("accuracy_") for name in found)
        rows.append([found[f"accuracy_{k}"] for k in range(1, steps + 1)])
    return np.array([row for row in rows if row])


def table_by_k(cells: Sequence[Cell]) -> str:
    """Accuracies by k, with their standard deviation over seeds, and what chance would be."""
    found = by_k(cells)
    if not len(found):
        return "CPC diverged"
    candidates = next(cell["held_out"]["candidates"] for cell in cells if "held_out" in cell)
    lines = [["steps ahead", "picked out, %"]]
    for k, values in enumerate(100 * found.T, 1):
        mean, spread = mean_and_spread(values)
        lines.append([str(k), f"{mean:.1f} ± {spread:.1f}"])
    chance = f"one of {candidates:.0f} candidates, by chance {100 / candidates:.1f} %"
    return f"the positive among test recordings, {chance}\n{align(lines)}"
