"""Flax modules one after another, as a method trains them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax import Array


class Network(NamedTuple):
    """Modules of which each is given what the one before it returns.

    Parameters and BatchNorm statistics are dicts by the names of the modules.

    Attributes:
      modules: in their order, by name; each is called with `train=`.
      micro_batch: how many samples of a training batch `embedding.project_views` gives it at a
        time; None for all.
    """

    modules: Mapping[str, nn.Module]
    micro_batch: int | None = None

    def init(self, key: Array, x: Array) -> tuple[dict[str, Any], dict[str, Any]]:
        """Parameters and BatchNorm statistics for inputs like x."""
        params, stats = {}, {}
        keys = jax.random.split(key, len(self.modules))
        for own_key, (name, module) in zip(keys, self.modules.items(), strict=True):
            x, variables = module.init_with_output(own_key, x, train=True)
            params[name] = variables.get("params", {})
            stats[name] = variables.get("batch_stats", {})
        return params, stats

    def train(self, params: Any, stats: Any, x: Array) -> tuple[Array, dict[str, Any]]:
        """The output in training mode, and the statistics, of these modules moved by this batch."""
        moved = dict(stats)
        for name, module in self.modules.items():
            variables = {"params": params[name], "batch_stats": stats[name]}
            x, updates = module.apply(variables, x, train=True, mutable=["batch_stats"])
            moved[name] = updates.get("batch_stats", stats[name])
        return x, moved

    def evaluate(self, params: Any, stats: Any, x: Array) -> Array:
        """The output in evaluation mode."""
        for name, module in self.modules.items():
            variables = {"params": params[name], "batch_stats": stats[name]}
            x = module.apply(variables, x, train=False)  # type: ignore[assignment]
        return x

    def up_to(self, name: str) -> "Network":
        """The modules to the one of that name."""
        names = list(self.modules)
        kept = names[: names.index(name) + 1]
        return Network({each: self.modules[each] for each in kept})


def flat_views(views: Array) -> Array:
    """`[batch, views, ...]` as one batch `[batch * views, ...]`."""
    # Views lie on axis 1, so that this reshape stays within each device's part of the batch.
    return views.reshape(-1, *views.shape[2:])
