"""One cell of the nonlinearity tables as a plain PyTorch loop: what our programs are timed beside.

Needs the torch of `pip install -e '.[bench]'`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alphacl_jax.theory.tokens.sequences import TokenSetting
from alphacl_jax.theory.tokens.training import Recipe


class _Network(nn.Module):
    """Filters at each location, ReLU, BatchNorm with its variance held constant, a linear layer."""

    def __init__(self, locations: int, filters: int, dim: int, outputs: int):
        super().__init__()
        self.filters = nn.Parameter((2 * torch.rand(locations, filters, dim) - 1) / dim**0.5)
        self.top = nn.Linear(locations * filters, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, locations, dim]` -> `[batch, outputs]`."""
        hidden = torch.relu(torch.einsum("bkd,kmd->bkm", x, self.filters)).flatten(1)
        centred = hidden - hidden.mean(0)
        variance = hidden.detach().var(0, unbiased=False)
        top: Tensor = self.top(centred / torch.sqrt(variance + 1e-5))
        return F.normalize(top, dim=1)


def _draw_patterns(setting: TokenSetting, per_location: int) -> tuple[Tensor, Tensor]:
    """Tokens and whether they are fixed, both `[patterns, locations]`."""
    shape = (setting.patterns, setting.locations)
    allowed = torch.rand(setting.locations, setting.tokens).argsort(1)[:, :per_location]
    choice = torch.randint(per_location, shape)
    tokens = allowed.gather(1, choice.T).T
    fixed = torch.rand(shape).argsort(1).argsort(1) < setting.fixed
    return tokens, fixed


def train(
    setting: TokenSetting,
    recipe: Recipe,
    *,
    per_location: int,
    filters: int,
    steps: int,
    learning_rate: float,
    seed: int,
) -> float:
    """Trains a ReLU network by InfoNCE on one-hot tokens, and returns χ̄₊."""
    torch.manual_seed(seed)
    tokens, fixed = _draw_patterns(setting, per_location)
    network = _Network(setting.locations, filters, setting.tokens, recipe.outputs)
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    shape = (recipe.batch_size, setting.locations)
    for _ in range(steps):
        pattern = torch.randint(setting.patterns, (recipe.batch_size,))
        first = torch.where(fixed[pattern], tokens[pattern], torch.randint(setting.tokens, shape))
        redrawn = ~fixed[pattern] & (
            torch.rand(shape).masked_fill(fixed[pattern], 2.0).argsort(1).argsort(1)
            < setting.redrawn
        )
        second = torch.where(redrawn, torch.randint(setting.tokens, shape), first)
        z, z_pos = (network(F.one_hot(ids, setting.tokens).float()) for ids in (first, second))
        cosines = z @ z.T
        cosines = torch.diagonal_scatter(cosines, (z * z_pos).sum(1))
        loss = F.cross_entropy(cosines / recipe.temperature, torch.arange(recipe.batch_size))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    relevant = (F.one_hot(tokens, setting.tokens).bool() & fixed[..., None]).any(0)
    best = F.normalize(network.filters.detach(), dim=2).max(1).values  # one-hot embeddings
    by_location = (best * relevant).sum(1) / relevant.sum(1).clamp(min=1)
    return float(by_location.sum() / (relevant.sum(1) > 0).sum())
