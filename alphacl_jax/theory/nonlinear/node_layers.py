"""Layers of several nonlinear nodes under a given α, trained from diverse starts."""

import jax
from jax import Array

from alphacl_jax.errors import ArgumentError
from alphacl_jax.theory.nonlinear.activations import Activation
from alphacl_jax.theory.nonlinear.local_maxima import Ends, ascend
from alphacl_jax.theory.nonlinear.patterns import NodeData


def train_layers(
    key: Array,
    data: NodeData,
    activation: Activation,
    *,
    num_layers: int,
    num_nodes: int,
    max_steps: int = 1000,
    tolerance: float = 1e-6,
) -> Ends:
    """Layers of K nodes that maximise Σ_k E(w_k), ‖w_k‖ = 1, every node from its own random start.

    The objective has one term per node and the constraint one per node, so the gradient by w_k is
    that of E(w_k) alone: a layer's ascent is `ascend` of its K nodes side by side, each with its
    own step size.

    Args:
      key: of the starts, uniform on the sphere.
      data: views and α.
      activation: h.
      num_layers: layers, independent of one another; at least 1.
      num_nodes: K, at least 1.
      max_steps, tolerance: as `ascend`. What rests on a ridge of a kinked h stays there.

    Returns:
      Weights `[layers, K, dim]`, energies and residuals `[layers, K]`.

    Raises:
      ValueError: no layers or no nodes.
    """
    for name, value in (("num_layers", num_layers), ("num_nodes", num_nodes)):
        if value < 1:
            raise ArgumentError(name, value, "is out of range; it must be at least 1")
    # Flat, so that layers of all sizes with as many nodes in all share one compiled program.
    starts = jax.random.normal(key, (num_layers * num_nodes, data.x.shape[1]), data.x.dtype)
    ends = ascend(starts, data, activation, max_steps=max_steps, tolerance=tolerance)
    return Ends(*(v.reshape(num_layers, num_nodes, *v.shape[1:]) for v in ends))
