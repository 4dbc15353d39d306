"""Looking at the features while they are trained: neighbours, a probe, how many dimensions live."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from alphacl_jax.data.sources import Split, in_order
from alphacl_jax.evaluation.monitor import collapse_warnings, quick_probe
from alphacl_jax.evaluation.spectrum import effective_rank, singular_values
from alphacl_jax.runs.any_run import Training
from alphacl_jax.runs.encoder import Encoder
from alphacl_jax.training import hosts
from alphacl_jax.training.loop import Hook
from alphacl_jax.training.seeds import unstack_states
from alphacl_jax.training.state import TrainState

if TYPE_CHECKING:
    from alphacl_jax.runs.run import Run

# Of which four fifths are fitted to.
MOST = 5000

Figures = dict[str, float]
# Features of what is looked at, in the order in which it is cut, and its labels.
Sample = Callable[[Any], tuple[np.ndarray, np.ndarray | None]]


def probe_hooks(run: "Run", training: Training, untrained: Mapping[str, Encoder]) -> list[Hook]:
    """What looks at the features every `probe_every` epochs; none where nothing is asked for.

    The probes fit on four fifths of (at most 5,000 of) the training images' labels and are tested
    on the fifth that they did not see: what is decided while looking at them does not touch the
    test images. It changes nothing that is trained.

    Args:
      run: what is trained, or the first of several members.
      training: its parts.
      untrained: the encoders before the first step, one of each member, by what lines on the
        terminal begin with.
    """
    if not (epochs := run.settings.evaluation.probe_every):
        return []
    every, drawn = epochs * training.batches.steps_per_epoch, sample_of(run)

    def sample(encoder: Encoder) -> tuple[np.ndarray, np.ndarray | None]:
        images, labels = drawn()
        return encoder(images), labels

    return hooks_of(every, untrained, sample, len(run.dataset.class_names))


def hooks_of(
    every: int, untrained: Mapping[str, Any], sample: Sample, num_classes: int
) -> list[Hook]:
    """What looks at features every so many steps.

    Args:
      every: the steps.
      untrained: encoders before the first step, dataclasses with `params`, `state` and `step`, by
        what lines on the terminal begin with.
      sample: given an encoder, the features of what is looked at, and its labels.
      num_classes: of the labels.
    """
    return [Hook(every, _Probe(of, label, sample, num_classes)) for label, of in untrained.items()]


def hook_of_seeds(hooks: Sequence[Hook]) -> Hook:
    """One hook of a stacked state (`stack_states`) of the members' own, all run equally often."""

    def run(step: int, state: TrainState) -> dict[str, Any]:
        members = unstack_states(state._replace(opt_state=()))  # hooks read no optimiser's state
        found = [hook.run(step, member) for hook, member in zip(hooks, members, strict=True)]
        return {name: [of_member[name] for of_member in found] for name in found[0]}

    return Hook(hooks[0].every, run)


class _Probe:
    def __init__(self, untrained: Any, label: str, sample: Sample, classes: int):
        self._untrained, self._label = untrained, label
        self._sample, self._classes = sample, classes
        self._at_start: Figures | None = None
        self._history: list[Figures] = []
        self._warned: set[str] = set()

    def __call__(self, step: int, state: TrainState) -> Mapping[str, float]:
        if not hosts.is_writer():
            return {}
        if self._at_start is None:
            self._at_start = self._figures(self._untrained)
        here = hosts.own_copy(state._replace(opt_state=()))
        figures = self._figures(
            dataclasses.replace(
                self._untrained, params=here.params, state=here.method_state, step=step
            )
        )
        self._history.append(figures)
        tqdm.write(f"{self._label}probe at step {step:,}: {_in_words(figures)}", file=sys.stderr)
        for kind, warning in collapse_warnings(self._history, self._at_start).items():
            if kind not in self._warned:  # what goes on is in the line above
                self._warned.add(kind)
                tqdm.write(f"warning: {self._label}step {step:,}: {warning}", file=sys.stderr)
        return figures

    def _figures(self, encoder: Any) -> Figures:
        features, labels = self._sample(encoder)
        figures = {"effective_rank": effective_rank(singular_values(features))}
        if labels is not None:
            cut = len(features) * 4 // 5
            train, test = (
                (features[part], labels[part]) for part in (slice(cut), slice(cut, None))
            )
            figures |= quick_probe(train, test, self._classes)
        return figures


def _in_words(figures: Figures) -> str:
    accuracies = [
        f"{title} {100 * figures[name]:.1f} %"
        for name, title in (("knn", "kNN"), ("linear", "linear"))
        if name in figures
    ]
    return ", ".join([*accuracies, f"effective rank {figures['effective_rank']:.1f}"])


def sample_of(run: "Run") -> Callable[[], tuple[np.ndarray, np.ndarray | None]]:
    """Draws up to 5,000 training images, always the same, and their labels, once it is called."""
    return functools.cache(functools.partial(_drawn, run))


def _drawn(run: "Run") -> tuple[np.ndarray, np.ndarray | None]:
    split: Split = run.dataset.train or run.dataset.pretrain
    chunks = list(in_order(split, 500, run.memory_limit_bytes))
    images = np.concatenate([chunk[0] for chunk in chunks])
    labels = np.concatenate([chunk[1] for chunk in chunks])
    order = np.random.default_rng(0).permutation(len(images))[:MOST]
    return images[order], labels[order] if run.dataset.train is not None else None
