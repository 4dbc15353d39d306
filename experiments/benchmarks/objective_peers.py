"""The losses with labels, and of networks without negatives, beside what other libraries compute.

Each comparison is of value and gradient in float64, after the conventions of the peer have been
brought to ours: which are said in words, since they are what somebody who changes from one to the
other needs. Needs the packages of `pip install -e '.[bench]'`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import alphacl_jax as acl
from alphacl_jax import objectives

_N, _DIM = 24, 5
_TAU, _MARGIN = 0.2, 0.6
_NONE = "none"


@dataclass(frozen=True)
class Comparison:
    """A loss of ours and a peer's.

    Attributes:
      loss: ours, as it is called.
      peer: theirs, or "none" where the peers have no such loss.
      convention: how theirs differs, or why there is none.
      ours: of embeddings `[n, dim]`.
      theirs: of the same as a tensor, with the conventions of ours.
    """

    loss: str
    peer: str
    convention: str
    ours: Callable[[Any], Any] | None = None
    theirs: Callable[[Any], Any] | None = None

    def differences(self) -> tuple[float, float] | None:
        """The largest relative differences of value and gradient in float64; None without peer."""
        import torch

        if self.ours is None or self.theirs is None:
            return None
        z = example_embeddings()
        with jax.enable_x64(True):
            value, gradient = jax.value_and_grad(self.ours)(jnp.asarray(z))
        tensor = torch.from_numpy(z).requires_grad_()
        wanted = self.theirs(tensor)
        (wanted_gradient,) = torch.autograd.grad(wanted, tensor)
        size = np.max(np.abs(wanted_gradient.numpy()))
        by_gradient = np.max(np.abs(np.asarray(gradient) - wanted_gradient.numpy())) / size
        return abs(float(value) / float(wanted.detach()) - 1), float(by_gradient)


def example_embeddings() -> np.ndarray:
    """float64 `[n, dim]`, not on the sphere, neither of the classes nor of one size."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(_N, _DIM)) * rng.uniform(0.5, 2.0, size=(_N, 1))


def example_labels() -> np.ndarray:
    """Classes of 1 to 9 samples: one has no positive."""
    return np.random.default_rng(1).permutation(np.repeat(np.arange(5), [1, 2, 5, 7, 9]))


def _towers(z: Any) -> tuple[Any, Any]:
    return z[: len(z) // 2], z[len(z) // 2 :]


def comparisons() -> list[Comparison]:
    """Every loss of ours, beside a peer's where there is one."""
    return [*_of_classes(), *_of_triplets(), *_of_pairs()]


def _of_classes() -> list[Comparison]:
    import torch
    from pytorch_metric_learning import distances, losses, reducers

    labels = example_labels()
    tensor = torch.from_numpy(labels)
    squares = distances.LpDistance(normalize_embeddings=False, power=2)
    # One way only: j may be a positive of i where i is none of j.
    mask = np.random.default_rng(2).random((_N, _N)) < 0.2
    np.fill_diagonal(mask, False)
    others = ~mask & ~np.eye(_N, dtype=bool)
    by_mask = tuple(torch.from_numpy(i) for m in (mask, others) for i in np.nonzero(m))
    supcon = losses.SupConLoss(temperature=_TAU)
    pairs = losses.ContrastiveLoss(0, 2 * _MARGIN, distance=squares, reducer=reducers.SumReducer())
    return [
        Comparison(
            'supcon_loss(variant="out")',
            "SupConLoss",
            "theirs normalises; no factor τ/τ_base either; mean over anchors with a positive",
            lambda z: objectives.supcon_loss(acl.l2_normalize(z), labels, _TAU),
            lambda z: supcon(z, tensor),
        ),
        Comparison(
            "multi_positive_loss",
            "SupConLoss",
            "the same, by indices of the pairs for a mask",
            lambda z: objectives.multi_positive_loss(acl.l2_normalize(z), mask, _TAU),
            lambda z: supcon(z, indices_tuple=by_mask),
        ),
        Comparison('supcon_loss(variant="in")', _NONE, "the mean within the logarithm: no peer"),
        Comparison(
            'nca_loss(variant="log")',
            "NCALoss",
            "theirs normalises unless told not to; ‖·‖² without the ½, as ours within",
            lambda z: objectives.nca_loss(z, labels),
            lambda z: losses.NCALoss(distance=squares)(z, tensor),
        ),
        Comparison('nca_loss(variant="probability")', _NONE, "the log form alone: no peer"),
        Comparison(
            "margin_loss",
            "ContrastiveLoss",
            "theirs is of ‖·‖ by default, which ours cannot express, and averages positive and "
            "negative pairs apart, over those above 0; here with power=2 (twice ours, at twice "
            "the margin) and its sum over pairs divided by n(n − 1)",
            lambda z: objectives.margin_loss(z, labels, _MARGIN),
            lambda z: pairs(z, tensor) / (2 * _N * (_N - 1)),
        ),
    ]


def _of_triplets() -> list[Comparison]:
    import torch
    from pytorch_metric_learning import distances, losses, miners, reducers

    labels = example_labels()
    tensor = torch.from_numpy(labels)
    squares = distances.LpDistance(power=2)
    function = losses.TripletMarginLoss(
        2 * _MARGIN, distance=squares, reducer=reducers.DoNothingReducer()
    )

    def theirs(miner: Any) -> Callable[[Any], Any]:
        def loss(z: Any) -> Any:
            found = function(z, tensor, miner(z, tensor) if miner else None)["loss"]
            anchors, hinges = found["indices"][0], found["losses"]
            count = torch.bincount(anchors, minlength=_N)
            means = torch.zeros(_N, dtype=z.dtype).index_add(0, anchors, hinges) / count.clamp(1)
            return means.sum() / (2 * (count > 0).sum())

        return loss

    def ours(mining: str) -> Callable[[Any], Any]:
        return lambda z: objectives.triplet_loss(
            acl.l2_normalize(z), labels, _MARGIN, mining=mining
        )

    semihard = miners.TripletMarginMiner(2 * _MARGIN, "semihard", distance=squares)
    return [
        Comparison(
            'triplet_loss(mining="all")',
            "TripletMarginLoss",
            "theirs normalises, is of ‖·‖ by default, and averages all triplets above 0 together; "
            "here with power=2 (twice ours, at twice the margin) and the mean over an anchor's "
            "triplets, then over anchors",
            ours("all"),
            theirs(None),
        ),
        Comparison(
            'triplet_loss(mining="hard")',
            "the same, BatchHardMiner",
            "the same; one triplet an anchor",
            ours("hard"),
            theirs(miners.BatchHardMiner(distance=squares)),
        ),
        Comparison(
            'triplet_loss(mining="semihard")',
            "the same, TripletMarginMiner",
            'the same; all with d_ip < d_in, type_of_triplets="semihard" (its "hard" are those '
            "with d_in <= d_ip, and BatchEasyHardMiner takes one negative for each anchor)",
            ours("semihard"),
            theirs(semihard),
        ),
    ]


def _of_pairs() -> list[Comparison]:
    import torch
    from lightly.loss import NegativeCosineSimilarity
    from pytorch_metric_learning import distances, losses

    half = _N // 2
    products = distances.DotProductSimilarity(normalize_embeddings=False)
    n_pairs = losses.NPairsLoss(distance=products)
    cosine, nt_xent = NegativeCosineSimilarity(), losses.NTXentLoss(_TAU)
    alone = torch.arange(half)

    def one_way(x: Any, y: Any) -> Any:
        # A tensor of its own: where labels are the same object it leaves out the diagonal.
        return nt_xent(x, alone, ref_emb=y, ref_labels=alone.clone())

    def both_ways(z: Any) -> Any:
        p, target = z[:half], z[half:]
        return objectives.regression_loss(p, target) + objectives.regression_loss(target, p)

    return [
        Comparison(
            "n_pair_loss",
            "NPairsLoss",
            "theirs normalises unless told not to, and takes one pair a class from the batch",
            lambda z: objectives.n_pair_loss(z[:half], z[half:]),
            lambda z: n_pairs(z, alone.repeat(2)),
        ),
        Comparison(
            "n_pair_loss(labels=...)", _NONE, "several pairs of a class in a batch: no peer"
        ),
        Comparison(
            "regression_loss (SimSiam)",
            "NegativeCosineSimilarity",
            "theirs is −cos: ours is 2 + 2·theirs; the caller detaches its target",
            lambda z: objectives.regression_loss(z[:half], z[half:]),
            lambda z: 2 + 2 * cosine(z[:half], z[half:].detach()),
        ),
        Comparison(
            "regression_loss, both ways (BYOL)",
            "NegativeCosineSimilarity",
            "BYOL adds the two directions; lightly's examples take half of the sum of −cos: ours "
            "is 4 + 4·theirs",
            both_ways,
            lambda z: (
                4
                + 2 * cosine(z[:half], z[half:].detach())
                + 2 * cosine(z[half:], z[:half].detach())
            ),
        ),
        Comparison(
            "clip_loss",
            "NTXentLoss(ref_emb=)",
            "theirs normalises, and is of one direction: half of the sum of both",
            lambda z: objectives.clip_loss(*_towers(acl.l2_normalize(z)), _TAU),
            lambda z: (one_way(*_towers(z)) + one_way(*reversed(_towers(z)))) / 2,
        ),
    ]
