"""SimCLR as it is commonly trained in PyTorch with lightly: what our training is measured against.

The network is the twin of `alphacl_jax.models.resnet` behind the 3×3 stem, with its projector: the
same layers of the same sizes, in channels-last memory. Augmentation (lightly's SimCLRTransform),
data loader with worker processes, loop over views and loss are those of lightly's tutorial.
Needs the packages of `pip install -e '.[bench]'`.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from lightly.data import LightlyDataset
from lightly.loss import NTXentLoss
from lightly.transforms import SimCLRTransform
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

from experiments.benchmarks import benchmarking


def _conv(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut, as `alphacl_jax.models.resnet.BasicBlock`."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _conv(inputs, width, 3, stride),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            _conv(width, width, 3, 1),
            nn.BatchNorm2d(width),
        )
        same = stride == 1 and inputs == width
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(_conv(inputs, width, 1, stride), nn.BatchNorm2d(width))
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu_(self.residual(x) + self.shortcut(x))


def simclr_network(
    stage_sizes: Sequence[int], widths: Sequence[int], hidden: int, dim: int
) -> nn.Module:
    """Encoder of basic blocks behind the 3×3 stem, and a projector of two layers."""
    layers: list[nn.Module] = [
        _conv(3, widths[0], 3, 1),
        nn.BatchNorm2d(widths[0]),
        nn.ReLU(inplace=True),
    ]
    inputs = widths[0]
    for stage, (blocks, width) in enumerate(zip(stage_sizes, widths, strict=True)):
        for i in range(blocks):
            layers.append(BasicBlock(inputs, width, 2 if stage > 0 and i == 0 else 1))
            inputs = width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    layers += [nn.Linear(inputs, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, dim)]
    return nn.Sequential(*layers)


class _Pictures(Dataset[Any]):
    """PIL pictures in memory, transformed when read, as torchvision's CIFAR-10 is."""

    def __init__(self, images: np.ndarray) -> None:
        self._pictures = [Image.fromarray(image) for image in images]
        self.transform: Any = None  # LightlyDataset sets it

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> Any:
        return self.transform(self._pictures[index]), 0


def train(
    images: np.ndarray,
    mean: Sequence[float],
    std: Sequence[float],
    network: nn.Module,
    *,
    batch_size: int,
    temperature: float,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    steps: int,
    log_every: int,
    dtype: str,
    workers: int,
) -> Iterator[float]:
    """Trains on images `[n, height, width, 3]`, and yields images/s of each `log_every` steps.

    With `dtype` "bfloat16", network and loss are computed under autocast, as PyTorch's guide of
    mixed precision has it. Workers start within the first stretch.
    """
    torch.set_num_threads(benchmarking.usable_cores())
    transform = SimCLRTransform(
        input_size=images.shape[1],
        cj_strength=0.5,
        gaussian_blur=0.0,
        normalize={"mean": list(mean), "std": list(std)},
    )
    dataset = LightlyDataset.from_torch_dataset(_Pictures(images), transform=transform)
    # One long epoch: the pause between epochs, in which workers start afresh, is not counted.
    sampler = RandomSampler(dataset, replacement=True, num_samples=steps * batch_size)
    loader = DataLoader(dataset, batch_size, sampler=sampler, num_workers=workers, drop_last=True)
    network = network.to(memory_format=torch.channels_last).train()
    criterion = NTXentLoss(temperature)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=learning_rate, momentum=momentum, weight_decay=weight_decay
    )
    started, losses = time.perf_counter(), []
    for step, (views, _, _) in enumerate(loader, start=1):
        first, second = (view.to(memory_format=torch.channels_last) for view in views)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = criterion(network(first), network(second))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        if step % log_every == 0:
            if not np.isfinite(statistics.fmean(float(value) for value in losses)):
                raise FloatingPointError(f"the loss is not finite at step {step}")
            losses.clear()
            now = time.perf_counter()
            yield log_every * batch_size / (now - started)
            started = now
