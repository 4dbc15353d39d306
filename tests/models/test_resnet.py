"""ResNets: structure against torchvision's, hand arithmetic, types, statistics, sharding."""

from functools import partial

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from alphacl_jax.models.resnet import (
    BasicBlock,
    BottleneckBlock,
    ResNet,
    resnet18,
    resnet34,
    resnet50,
    small_resnet,
)

KEY = jax.random.key(0)


def shapes(model: ResNet, image: tuple[int, ...]):
    """Variables and features by shape alone: nothing is compiled."""
    x = jax.ShapeDtypeStruct((2, *image), jnp.float32)
    variables = jax.eval_shape(partial(model.init, train=False), KEY, x)
    return variables, jax.eval_shape(partial(model.apply, train=False), variables, x)


def num_parameters(variables) -> int:
    return sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


@pytest.fixture(scope="module")
def tiny():
    """A model with every kind of layer, its variables and a batch of images."""
    model = small_resnet(widths=(4, 8))
    x = jax.random.normal(jax.random.key(1), (16, 6, 6, 2))
    rng = np.random.default_rng(0)
    variables, _ = shapes(model, x.shape[1:])
    # Everywhere positive and spread, so that no scale, bias or average is 0 or 1 by chance.
    draw = {"kernel": lambda s: 0.3 * rng.normal(size=s)}
    variables = jax.tree.map_with_path(
        lambda path, v: jnp.asarray(
            draw.get(path[-1].key, lambda s: rng.uniform(0.5, 1.5, s))(v.shape), v.dtype
        ),
        variables,
    )
    return model, variables, x


@pytest.mark.parametrize(
    ("constructor", "published", "dim"),
    [
        (resnet18, 11_176_512, 512),  # torchvision's resnet18 without fc
        (resnet34, 21_284_672, 512),
        pytest.param(resnet50, 23_508_032, 2048, marks=pytest.mark.slow),
    ],
)
def test_parameter_counts_are_torchvisions(constructor, published, dim):
    variables, features = shapes(constructor(small_stem=False), (224, 224, 3))
    assert num_parameters(variables) == published
    assert features.shape == (2, dim)
    small, features = shapes(constructor(small_stem=True), (32, 32, 3))
    assert num_parameters(small) == published - (7 * 7 - 3 * 3) * 3 * 64
    assert features.shape == (2, dim)


def test_small_resnet_parameter_count_by_hand():
    def block(c_in: int, c_out: int) -> int:
        shortcut = 0 if c_in == c_out else c_in * c_out + 2 * c_out
        return 9 * c_in * c_out + 9 * c_out * c_out + 4 * c_out + shortcut

    variables, features = shapes(small_resnet(), (8, 8, 1))
    stem = 9 * 1 * 32 + 2 * 32
    assert num_parameters(variables) == stem + block(32, 32) + block(32, 64) + block(64, 128)
    assert features.shape == (2, 128)
    assert features.dtype == jnp.float32


@pytest.mark.parametrize(
    ("constructor", "small_stem", "image", "resolutions"),
    [
        (resnet18, False, (224, 224, 3), [112, 56, 28, 14, 7]),
        (resnet50, False, (224, 224, 3), [112, 56, 28, 14, 7]),
        (resnet18, True, (32, 32, 3), [32, 32, 16, 8, 4]),
        (resnet50, True, (33, 33, 4), [33, 33, 17, 9, 5]),
    ],
)
def test_resolutions(constructor, small_stem, image, resolutions):
    x = jax.ShapeDtypeStruct((2, *image), jnp.float32)
    model = constructor(small_stem)
    variables = jax.eval_shape(partial(model.init, train=False), KEY, x)
    kinds = (BasicBlock, BottleneckBlock, nn.Conv)
    _, state = jax.eval_shape(
        lambda v, x: model.apply(
            v, x, False, capture_intermediates=lambda m, _: isinstance(m, kinds)
        ),
        variables,
        x,
    )
    seen = state["intermediates"]
    blocks = [f"{model.block.__name__}_{sum(model.stage_sizes[:s])}" for s in range(4)]
    got = [seen["Conv_0"]["__call__"][0].shape[1]]
    got += [seen[name]["__call__"][0].shape[1] for name in blocks]
    assert got == resolutions


def test_bottleneck_strides_in_its_3x3_convolution():
    model = BottleneckBlock(4, 2, zero_init_residual=False, dtype=jnp.float32)
    x = jnp.zeros((1, 8, 8, 4))
    variables = jax.eval_shape(partial(model.init, train=False), KEY, x)
    _, state = jax.eval_shape(
        lambda v: model.apply(v, x, False, capture_intermediates=True), variables
    )
    seen = {
        name: value["__call__"][0].shape[1]
        for name, value in state["intermediates"].items()
        if name.startswith("Conv")
    }
    assert seen == {"Conv_0": 8, "Conv_1": 4, "Conv_2": 4, "Conv_3": 4}


def test_forward_pass_by_numpy(tiny):
    """Convolution by loops and BatchNorm with running averages, in float64."""
    model, variables, x = tiny
    params = jax.tree.map(lambda v: np.asarray(v, np.float64), variables["params"])
    stats = jax.tree.map(lambda v: np.asarray(v, np.float64), variables["batch_stats"])

    def conv(a, kernel, stride):
        half = kernel.shape[0] // 2
        a = np.pad(a, ((0, 0), (half, half), (half, half), (0, 0)))
        size = kernel.shape[0]
        side = range(0, a.shape[1] - size + 1, stride)
        rows = [[np.tensordot(a[:, i : i + size, j : j + size], kernel, 3) for j in side]
                for i in side]  # fmt: skip
        return np.stack([np.stack(row, axis=1) for row in rows], axis=1)

    def norm(a, p, s):
        return (a - s["mean"]) / np.sqrt(s["var"] + 1e-5) * p["scale"] + p["bias"]

    def layer(a, p, s, i, stride=1):
        return norm(
            conv(a, p[f"Conv_{i}"]["kernel"], stride), p[f"BatchNorm_{i}"], s[f"BatchNorm_{i}"]
        )

    a = np.maximum(layer(np.asarray(x[:2], np.float64), params, stats, 0), 0)
    for name, stride in (("BasicBlock_0", 1), ("BasicBlock_1", 2)):
        p, s = params[name], stats[name]
        y = layer(np.maximum(layer(a, p, s, 0, stride), 0), p, s, 1)
        a = np.maximum(y + (a if stride == 1 else layer(a, p, s, 2, stride)), 0)
    got = model.apply(variables, x[:2], train=False)
    np.testing.assert_allclose(got, a.mean(axis=(1, 2)), rtol=2e-5, atol=2e-5)


def test_training_normalises_by_the_batch_and_updates_the_averages(tiny):
    model, variables, x = tiny
    x = 3.0 * x + 1.0
    _, state = model.apply(variables, x, train=True, mutable=["batch_stats"])
    stem = jax.lax.conv_general_dilated(
        x,
        variables["params"]["Conv_0"]["kernel"],
        (1, 1),
        ((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    new = state["batch_stats"]["BatchNorm_0"]
    old = variables["batch_stats"]["BatchNorm_0"]
    for key, batch in (("mean", stem.mean((0, 1, 2))), ("var", stem.var((0, 1, 2)))):
        np.testing.assert_allclose(new[key], 0.9 * old[key] + 0.1 * batch, rtol=1e-4, atol=1e-5)


def test_sharded_statistics_are_those_of_the_whole_batch(tiny):
    model, variables, x = tiny
    # Rows that differ between devices: per-device statistics would give another answer.
    x = x + jnp.arange(16.0).reshape(16, 1, 1, 1)
    train = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"]))
    mesh = Mesh(np.array(jax.devices()), ("data",), axis_types=(AxisType.Auto,))
    sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    chex.assert_trees_all_close(
        train(variables, sharded), train(variables, x), rtol=1e-4, atol=1e-5
    )


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_outside(tiny):
    _, _, x = tiny
    model = small_resnet(widths=(4, 8), dtype=jnp.bfloat16)
    variables = jax.eval_shape(partial(model.init, train=False), KEY, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    features, state = jax.eval_shape(
        lambda v: model.apply(v, x, False, capture_intermediates=True), variables
    )
    inner = jax.tree.leaves(state["intermediates"]["BasicBlock_1"])
    assert {leaf.dtype for leaf in inner} == {jnp.dtype(jnp.bfloat16)}
    assert features.dtype == jnp.float32


def test_initial_values():
    """He initialisation over the outputs for kernels, 1 for scales, 0 for biases."""
    model = BasicBlock(32, 1, zero_init_residual=False, dtype=jnp.float32)
    params = jax.jit(partial(model.init, train=False))(KEY, jnp.zeros((1, 1, 1, 8)))["params"]
    for name, (c_in, size) in {"Conv_0": (8, 3), "Conv_1": (32, 3), "Conv_2": (8, 1)}.items():
        kernel = params[name]["kernel"]
        assert kernel.shape == (size, size, c_in, 32)
        assert float(kernel.std()) == pytest.approx(np.sqrt(2 / (size * size * 32)), rel=0.1)
    assert (params["BatchNorm_1"]["scale"] == 1).all()
    assert (params["BatchNorm_1"]["bias"] == 0).all()


@pytest.mark.parametrize("block", [BasicBlock, BottleneckBlock])
def test_zero_init_residual_starts_each_block_at_its_shortcut(block):
    x = jax.random.normal(KEY, (2, 4, 4, 4))
    model = block(4 if block is BasicBlock else 1, 1, zero_init_residual=True, dtype=jnp.float32)
    out = jax.jit(lambda x: model.init_with_output(KEY, x, train=False)[0])(x)
    np.testing.assert_array_equal(out, nn.relu(x))


@pytest.mark.parametrize(("norm", "groups"), [("group", 24), ("layer", 1)])
def test_a_norm_of_each_image_by_itself(norm, groups):
    """Of 48 channels the most groups, of 32 at most, are 24; and no statistics of a batch."""
    model = BasicBlock(48, 1, zero_init_residual=False, dtype=jnp.float32, norm=norm)
    x = 3.0 * jax.random.normal(KEY, (3, 4, 4, 48)) + 1.0
    variables = model.init(KEY, x, train=True)
    assert set(variables) == {"params"}
    kernels = (variables["params"][name]["kernel"] for name in ("Conv_0", "Conv_1"))

    def normalised(y):
        parts = np.asarray(y, np.float64).reshape(3, 16, groups, -1)
        centred = parts - parts.mean(axis=(1, 3), keepdims=True)
        return (centred / np.sqrt(parts.var(axis=(1, 3), keepdims=True) + 1e-5)).reshape(y.shape)

    y = np.asarray(x)
    for last, kernel in enumerate(kernels):
        y = jax.lax.conv_general_dilated(
            y, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        y = normalised(y) + (np.asarray(x) if last else 0)
        y = np.maximum(y, 0).astype(np.float32)
    for train in (True, False):
        np.testing.assert_allclose(model.apply(variables, x, train=train), y, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("norm", ["group", "layer"])
def test_an_encoder_without_statistics_sees_each_image_by_itself(norm):
    model = small_resnet((4, 8), norm=norm)
    x = jax.random.normal(KEY, (4, 6, 6, 3))
    features, variables = model.init_with_output(KEY, x, train=True)
    assert set(variables) == {"params"}
    alone = model.apply(variables, x[:1], train=True)
    np.testing.assert_allclose(alone, features[:1], rtol=1e-5, atol=1e-6)


def test_an_unknown_norm():
    with pytest.raises(ValueError, match="norm='instance' must be one of batch, group, layer"):
        small_resnet((4,), norm="instance")


@pytest.mark.parametrize(
    ("stage_sizes", "widths", "message"),
    [
        ((1, 1), (8,), r"one entry for each stage.*\(1, 1\) and \(8,\)"),
        ((), (), "at least one"),
        ((1, 0), (8, 8), r"must be positive; got \(1, 0\)"),
        ((1,), (-4,), r"must be positive; got \(1,\) and \(-4,\)"),
    ],
)
def test_bad_stages(stage_sizes, widths, message):
    with pytest.raises(ValueError, match=message):
        ResNet(stage_sizes, BasicBlock, widths, small_stem=True)


def test_images_have_four_axes(tiny):
    model, variables, x = tiny
    with pytest.raises(AssertionError, match=r"rank 3.*expected \[?4"):
        model.apply(variables, x[0], train=False)
