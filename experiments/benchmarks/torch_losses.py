"""The losses that the kernels are measured against: PyTorch's, as libraries and people write them.

Each takes two views `[n, dim]` on the unit sphere and returns the mean over the 2n anchors of the
both-views layout. Needs the packages of `pip install -e '.[bench]'`.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

TorchLoss = Callable[[Tensor, Tensor], Tensor]


def lightly_nt_xent(temperature: float) -> TorchLoss:
    """lightly's NTXentLoss, which normalises its input again."""
    from lightly.loss import NTXentLoss

    loss: TorchLoss = NTXentLoss(temperature)
    return loss


def metric_learning_nt_xent(temperature: float) -> TorchLoss:
    """pytorch-metric-learning's NTXentLoss, which normalises again; two views share a label."""
    from pytorch_metric_learning.losses import NTXentLoss

    function = NTXentLoss(temperature)

    def loss(z: Tensor, z_pos: Tensor) -> Tensor:
        labels = torch.arange(len(z), device=z.device).repeat(2)
        value: Tensor = function(torch.cat([z, z_pos]), labels)
        return value

    return loss


def cross_entropy_nt_xent(temperature: float) -> TorchLoss:
    """NT-Xent by one matrix of similarities and `F.cross_entropy`."""

    def loss(z: Tensor, z_pos: Tensor) -> Tensor:
        x = torch.cat([z, z_pos])
        logits = (x @ x.T).div_(temperature).fill_diagonal_(-torch.inf)
        positives = torch.arange(len(x), device=x.device).roll(len(z))
        return F.cross_entropy(logits, positives)

    return loss


def alpha_direct(temperature: float, power: float) -> TorchLoss:
    """α-CL-direct: α_ij ∝ exp(−(d_ij²)^(p/2)/τ) held fixed, loss Σ_j α_ij (d_i² − d_ij²).

    No copy of an n×n array but α, no gradient through one: with rows of α that sum to 1, on the
    sphere, Σ_j α_ij (d_i² − d_ij²) = x_i·(Σ_j α_ij x_j) − x_i·x_i', which is the Gram matrix, two
    products of α with x, and the softmax between them, done in place.
    """

    def loss(z: Tensor, z_pos: Tensor) -> Tensor:
        x, positives = torch.cat([z, z_pos]), torch.cat([z_pos, z])
        with torch.no_grad():
            logits = (x @ x.T).neg_().add_(1).clamp_(min=0)
            logits = logits.square_() if power == 4 else logits.pow_(power / 2)
            logits.div_(-temperature).fill_diagonal_(-torch.inf)
            rows = torch.arange(len(x), device=x.device)
            logits[rows, rows.roll(len(z))] = -torch.inf
            alpha = torch.softmax(logits, dim=1, out=logits)
        return (x * (alpha @ x - positives)).sum() / len(x)

    return loss
