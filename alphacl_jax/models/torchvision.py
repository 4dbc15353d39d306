"""Variables of a ResNet under torchvision's parameter names and layouts, and back.

| ours | torchvision's |
|---|---|
| `Conv_0/kernel` `[height, width, in, out]` | `conv1.weight` `[out, in, height, width]` |
| `BatchNorm_0/scale`, `bias`, `mean`, `var` | `bn1.weight`, `bias`, `running_mean`, `running_var` |
| `BasicBlock_3/Conv_1/kernel` | `layer2.1.conv2.weight` (blocks are counted within a stage) |
| the last `Conv`, `BatchNorm` of a block with a shortcut | `downsample.0`, `downsample.1` |

`torchvision.models.resnet18`, `resnet34` and `resnet50` load the result strictly once their
classifier is out of the way, and then compute the same features of the same inputs:

    model = torchvision.models.resnet18()
    model.fc = torch.nn.Identity()
    model.load_state_dict({name: torch.from_numpy(a) for name, a in tensors.items()})
    model.eval()

A small stem is another first layer, and no pooling after it; before loading:

    model.conv1 = torch.nn.Conv2d(channels, 64, 3, 1, 1, bias=False)
    model.maxpool = torch.nn.Identity()

and for images that have not three channels, with the large stem:

    model.conv1 = torch.nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from alphacl_jax.errors import ArgumentError
from alphacl_jax.models.resnet import BottleneckBlock, ResNet

# A layer's Flax path, and torchvision's name of it.
Layer = tuple[tuple[str, ...], str]


class _Array(NamedTuple):
    """One array under both names; `shape` is torchvision's, None where any number goes in."""

    path: tuple[str, ...]
    name: str
    shape: tuple[int | None, ...]


def to_torchvision(encoder: ResNet, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The variables of a ResNet as torchvision names them and lays them out.

    Args:
      encoder: whose variables they are.
      variables: its "params" and "batch_stats".

    Returns:
      float32 arrays by name, without `fc` and without `num_batches_tracked`, which PyTorch fills
      in.

    Raises:
      ValueError: where one is missing, is left over or has another shape; the message names it.
        And for an encoder without BatchNorm.
    """
    left = _flat(variables)
    tensors = {}
    for array in _arrays(encoder):
        shown = "/".join(array.path)
        if array.path not in left:
            raise ValueError(f"variables of this encoder need {shown}, and it is missing")
        value = left.pop(array.path)
        if value.ndim == 4 and len(array.shape) == 4:
            value = value.transpose(3, 2, 0, 1)
        _check_shape(f"{shown}, as {array.name},", value, array.shape)
        tensors[array.name] = np.ascontiguousarray(value)
    if left:
        raise ValueError(f"this encoder has no {'/'.join(next(iter(left)))}")
    return tensors


def from_torchvision(encoder: ResNet, tensors: Mapping[str, ArrayLike]) -> dict[str, Any]:
    """The variables of a ResNet from arrays that torchvision names: `to_torchvision` undone.

    Args:
      encoder: whose variables they become.
      tensors: by name, such as `model.state_dict()` on the CPU. The classifier `fc` and
        `num_batches_tracked` are no part of an encoder and passed over.

    Returns:
      "params" and "batch_stats", float32.

    Raises:
      ValueError: where one is missing, is left over or has another shape; the message names it.
        And for an encoder without BatchNorm.
    """
    skipped = ("fc.weight", "fc.bias")
    left = {
        name: np.asarray(value, np.float32)
        for name, value in tensors.items()
        if name not in skipped and not name.endswith(".num_batches_tracked")
    }
    variables: dict[str, Any] = {}
    for array in _arrays(encoder):
        if array.name not in left:
            raise ValueError(f"this encoder needs {array.name}, and it is missing")
        value = left.pop(array.name)
        _check_shape(array.name, value, array.shape)
        if value.ndim == 4:
            value = value.transpose(2, 3, 1, 0)
        *parents, last = array.path
        place = variables
        for key in parents:
            place = place.setdefault(key, {})
        place[last] = np.ascontiguousarray(value)
    if left:
        raise ValueError(f"this encoder has no {next(iter(left))}")
    return variables


def _arrays(encoder: ResNet) -> Iterator[_Array]:
    """Every array of the encoder.

    Raises:
      ArgumentError: for a norm that torchvision's ResNets do not have.
    """
    if encoder.norm != "batch":
        problem = "has no name in torchvision, whose ResNets have BatchNorm: keep Flax's names"
        raise ArgumentError("norm", encoder.norm, problem)
    for convolution, norm, shape in _layers(encoder):
        yield _Array(("params", *convolution[0], "kernel"), f"{convolution[1]}.weight", shape)
        for collection, ours, theirs in (
            ("params", "scale", "weight"),
            ("params", "bias", "bias"),
            ("batch_stats", "mean", "running_mean"),
            ("batch_stats", "var", "running_var"),
        ):
            yield _Array((collection, *norm[0], ours), f"{norm[1]}.{theirs}", shape[:1])


def _layers(encoder: ResNet) -> Iterator[tuple[Layer, Layer, tuple[int | None, ...]]]:
    """Each convolution, the BatchNorm after it, and the kernel's shape in torchvision's layout."""
    size = 3 if encoder.small_stem else 7
    channels = encoder.widths[0]
    stem = (channels, None, size, size)
    yield (("Conv_0",), "conv1"), (("BatchNorm_0",), "bn1"), stem
    bottleneck = encoder.block is BottleneckBlock
    expansion = 4 if bottleneck else 1
    index = 0
    for stage, (blocks, width) in enumerate(zip(encoder.stage_sizes, encoder.widths, strict=True)):
        for i in range(blocks):
            sizes = (1, 3, 1) if bottleneck else (3, 3)
            outs = (*(width for _ in sizes[1:]), expansion * width)
            ours, theirs = f"{encoder.block.__name__}_{index}", f"layer{stage + 1}.{i}"
            ins = (channels, *outs[:-1])
            for k, shape in enumerate(zip(outs, ins, sizes, sizes, strict=True)):
                convolution = ((ours, f"Conv_{k}"), f"{theirs}.conv{k + 1}")
                yield convolution, ((ours, f"BatchNorm_{k}"), f"{theirs}.bn{k + 1}"), shape
            if channels != outs[-1] or (stage > 0 and i == 0):
                k = len(sizes)
                convolution = ((ours, f"Conv_{k}"), f"{theirs}.downsample.0")
                norm = ((ours, f"BatchNorm_{k}"), f"{theirs}.downsample.1")
                yield convolution, norm, (outs[-1], channels, 1, 1)
            channels = outs[-1]
            index += 1


def _flat(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], np.ndarray]:
    flat: dict[tuple[str, ...], np.ndarray] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, (*path, key))
        else:
            flat[*path, key] = np.asarray(value, np.float32)
    return flat


def _check_shape(name: str, value: np.ndarray, shape: tuple[int | None, ...]) -> None:
    fits = value.ndim == len(shape) and all(
        wanted in (None, found) for wanted, found in zip(shape, value.shape, strict=True)
    )
    if not fits:
        shown = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"{name} must have shape ({shown}); got {value.shape}")
