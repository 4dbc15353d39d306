"""Siamese networks without negatives: BYOL, SimSiam, DirectPred, DirectCopy are one structure.

An online branch, encoder, projector and predictor, is to tell what the target branch makes of
another view of the same image.
"""

import itertools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from alphacl_jax.distances import l2_normalize, precise_matmul
from alphacl_jax.errors import ArgumentError
from alphacl_jax.methods.embedding import evaluated, if_recorded, project_views
from alphacl_jax.methods.method import Batch, Method, Metrics
from alphacl_jax.methods.network import Network, flat_views
from alphacl_jax.methods.predictor import (
    average,
    directcopy,
    directpred,
    eigenspace_alignment,
    fitted,
)
from alphacl_jax.methods.spread import collapse_warning, spread
from alphacl_jax.methods.target import Momentum, moved, unmoved
from alphacl_jax.objectives import regression_loss

TARGETS = ("ema", "stop_gradient", "shared")


class SetPredictor(NamedTuple):
    """A linear predictor that is set from the correlation of the projections, not learned.

    Attributes:
      kind: "directpred" or "directcopy".
      eps: ε ≥ 0, added to its eigenvalues.
      every: how many steps it is used for.
    """

    kind: str
    eps: float = 0.1
    every: int = 1

    def of(self, matrix: Array) -> Array:
        """W of F, both `[dim, dim]`."""
        return (directpred if self.kind == "directpred" else directcopy)(matrix, self.eps)


def siamese_method(
    encoder: nn.Module,
    projector: nn.Module,
    predictor: nn.Module | SetPredictor | None,
    *,
    target: str = "ema",
    momentum: Momentum | None = None,
    correlation_decay: float = 0.3,
    micro_batch: int | None = None,
) -> Method:
    """The mean of `2 − 2 cos(p_u, t_v)` over ordered pairs of views u ≠ v of an image.

    `p = predictor(f)` with `f = projector(encoder(view))`, and t is the target's projection. BYOL's
    published loss is the sum over both pairs, twice this; SimSiam's −cos is half of it, less 1.
    The target branch normalises by the statistics of its own batch.

    Args:
      encoder: as in `contrastive_method`.
      projector: as in `contrastive_method`.
      predictor: maps `[batch, dim]` to `[batch, dim]`, called with `train=`; or how it is set from
        the projections; or None, p = f.
      target: "ema", an exponential moving average of encoder and projector; "stop_gradient", the
        online ones held fixed; "shared", the online ones, through which the gradient flows.
      momentum: of the moving average, for "ema" alone.
      correlation_decay: ρ in [0, 1), the coefficient of the old value in F.
      micro_batch: as in `contrastive_method`; the predictor sees the whole batch.

    Returns:
      The method, of two views of an image or more; small views are online alone. Its metrics are
      those of `spread` (of f, normalised) and, with a predictor, `eigenspace_alignment`, where a
      step is recorded, and 0 where it is not; and with "ema" the momentum.

    Raises:
      ArgumentError: for an unknown target, or a momentum that is missing or not read.

    References:
      Grill et al., "Bootstrap Your Own Latent", 2020; Chen and He, "Exploring Simple Siamese
      Representation Learning", 2021; Tian, Chen and Ganguli, "Understanding Self-supervised
      Learning Dynamics without Contrastive Pairs", 2021 (DirectPred); Wang, Chen, Du and Tian,
      "Towards Demystifying Representation Learning with Non-contrastive Self-supervision", 2021
      (DirectCopy).
    """
    if target not in TARGETS:
        raise ArgumentError("target", repr(target), f"must be one of {', '.join(TARGETS)}")
    if (momentum is not None) != (target == "ema"):
        raise ArgumentError("momentum", momentum, "is needed by the target 'ema', and by it alone")
    base = Network({"encoder": encoder, "projector": projector}, micro_batch)
    learned = isinstance(predictor, nn.Module)
    head = Network({"predictor": predictor} if isinstance(predictor, nn.Module) else {})
    whole = Network({**base.modules, **head.modules})

    def init(key: Array, batch: Batch) -> tuple[Any, Any]:
        views = _require_views(batch)
        params, stats = whole.init(key, flat_views(views))
        of_base = {name: params[name] for name in base.modules}
        dim = jax.eval_shape(base.evaluate, params, stats, views[:, 0]).shape[1]
        # Whatever is not read before the first step has made it is 0 until then.
        state = {**stats, "count": jnp.zeros((), jnp.int32), "correlation": jnp.zeros((dim, dim))}
        if target == "ema":
            state["target"] = unmoved(of_base)
        if isinstance(predictor, SetPredictor):
            state["weights"] = jnp.eye(dim)
        return params, state

    def targets_of(params: Any, state: Any, f: Array, views: Array) -> tuple[Array, Any]:
        """The target's projections of the large views, and the target where it moves."""
        if target != "ema":
            return f[:, : views.shape[1]], {}
        assert momentum is not None
        online = {name: params[name] for name in base.modules}
        slow = moved(state["target"], online, state["count"], momentum)
        t, _ = project_views(base, slow, state, {"views": views})
        return t, {"target": slow}

    def predict(params: Any, state: Any, stats: Any, f: Array) -> tuple[Array, Any]:
        rows = flat_views(f)
        if learned:
            rows, stats = head.train(params, stats, rows)
        elif predictor is not None:
            rows = precise_matmul(rows, jax.lax.stop_gradient(state["weights"]).T)
        return rows.reshape(f.shape), stats

    def set_anew(state: Any, matrix: Array) -> dict[str, Array]:
        if not isinstance(predictor, SetPredictor):
            return {}
        due = state["count"] % predictor.every == 0
        return {"weights": jax.lax.cond(due, predictor.of, lambda matrix: state["weights"], matrix)}

    def measures_of(f: Array, p: Array, matrix: Array, weights: Array | None) -> Metrics:
        found = spread(l2_normalize(f), after=weights)
        if predictor is None:
            return found
        # One decomposition after another, each waiting for the one before it.
        before, used = found["embedding_rank"], weights
        if used is None:
            before = used = fitted(f, p, after=before)
        alignment = eigenspace_alignment(used, matrix, after=before)
        return {**found, "eigenspace_alignment": alignment}

    def loss(
        params: Any, state: Any, batch: Batch, key: Array
    ) -> tuple[Array, tuple[Any, Metrics]]:
        del key
        _require_views(batch)
        stats = {name: state[name] for name in whole.modules}
        f, stats = project_views(base, params, stats, batch)
        t, new_target = targets_of(params, state, f, batch["views"])
        p, stats = predict(params, state, stats, f)
        value = _mean_over_pairs(p, t, held=target != "shared")
        rows = jax.lax.stop_gradient(flat_views(f))
        matrix = average(state["correlation"], rows, state["count"], correlation_decay)
        anew = set_anew(state, matrix)
        metrics = if_recorded(
            batch["recorded"],
            measures_of,
            rows,
            jax.lax.stop_gradient(flat_views(p)),
            matrix,
            anew.get("weights"),
        )
        if momentum is not None:
            metrics["momentum"] = momentum(state["count"])
        kept = {"count": state["count"] + 1, "correlation": matrix}
        return value, ({**stats, **kept, **new_target, **anew}, metrics)

    shown = ("std",) if predictor is None else ("std", "eigenspace_alignment")
    return Method(
        init, loss, *evaluated(base), shown=shown, unit="images", warning=collapse_warning
    )


def _mean_over_pairs(p: Array, t: Array, *, held: bool) -> Array:
    """The loss of predictions `[batch, views, dim]` and of targets of the first views."""
    pairs = itertools.product(range(p.shape[1]), range(t.shape[1]))
    losses = [regression_loss(p[:, u], t[:, v], stop_gradient=held) for u, v in pairs if u != v]
    return sum(losses[1:], losses[0]) / len(losses)


def _require_views(batch: Batch) -> Array:
    """The large views, where there is a pair of views.

    Raises:
      ArgumentError: where there is none.
    """
    views: Array = batch["views"]
    if views.shape[1] < 2 and "small_views" not in batch:
        problem = "of each sample was made, and a Siamese network reads 2 or more"
        raise ArgumentError("views", views.shape[1], problem)
    return views
