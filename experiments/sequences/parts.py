"""Recordings in two parts, one to train on and one that is not looked at while it is."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from alphacl_jax.data.sequences import Recordings
from alphacl_jax.runs.agreement import digest_of_arrays
from experiments.sequences.probes import FIFTHS, folds


class Parts(NamedTuple):
    """A part to train on and another to test."""

    train: Recordings
    test: Recordings

    @property
    def digests(self) -> dict[str, str]:
        """By name, what changes with the data."""
        return {
            f"{name} recordings": digest_of_arrays(
                (of.signal, of.lengths, of.labels, of.moment_labels)
            )
            for name, of in (("training", self.train), ("test", self.test))
        }

    def standardised(self) -> "Parts":
        """Both less the training part's mean, by its standard deviation, channel by channel."""
        mean, std = self.train.signal.mean(axis=0), self.train.signal.std(axis=0)
        return Parts(*(dataclasses.replace(of, signal=(of.signal - mean) / std) for of in self))

    def held_out(self, fifths: int) -> Iterator["Parts"]:
        """The training part in two, of which the second, a fifth of each class, is held out.

        Args:
          fifths: how many of them are held out, each in its turn, at most 5.
        """
        numbers = np.arange(len(self.train))
        fold = folds(numbers, self.train.labels, FIFTHS)
        for number in range(fifths):
            out = fold == number
            yield Parts(self.train.select(numbers[~out]), self.train.select(numbers[out]))
