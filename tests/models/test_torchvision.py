"""Our ResNets under torchvision's names: layouts, exact inverse, errors, and the peer itself."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphacl_jax.models.resnet import resnet18, resnet34, resnet50, small_resnet
from alphacl_jax.models.torchvision import from_torchvision, to_torchvision

RESNETS = {"resnet18": resnet18, "resnet34": resnet34, "resnet50": resnet50}


@cache
def drawn(model, channels=3, seed=0):
    """Variables with kernels of He's scale and statistics of no special value, by NumPy alone."""
    x = jax.ShapeDtypeStruct((2, 8, 8, channels), jnp.float32)
    shapes = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), x)
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        if path[-1].key == "kernel":
            fan_in = np.prod(leaf.shape[:3])
            values = rng.normal(scale=(2 / fan_in) ** 0.5, size=leaf.shape)
        elif path[-1].key in ("scale", "var"):
            values = rng.uniform(0.5, 1.5, leaf.shape)
        else:
            values = rng.normal(scale=0.2, size=leaf.shape)
        return values.astype(np.float32)

    return jax.tree.map_with_path(draw, shapes)


def test_names_and_layouts_of_resnet18():
    model = resnet18(small_stem=False)
    variables = drawn(model)
    tensors = to_torchvision(model, variables)
    kernel = variables["params"]["Conv_0"]["kernel"]
    assert tensors["conv1.weight"].shape == (64, 3, 7, 7)
    assert tensors["conv1.weight"][5, 2, 1, 6] == kernel[1, 6, 2, 5]
    block = variables["params"]["BasicBlock_2"]  # the first of layer2
    statistics = variables["batch_stats"]["BasicBlock_2"]
    np.testing.assert_array_equal(
        tensors["layer2.0.conv2.weight"], block["Conv_1"]["kernel"].transpose(3, 2, 0, 1)
    )
    np.testing.assert_array_equal(
        tensors["layer2.0.downsample.0.weight"][:, :, 0, 0], block["Conv_2"]["kernel"][0, 0].T
    )
    for name, values in (
        ("bn1.weight", block["BatchNorm_0"]["scale"]),
        ("bn1.bias", block["BatchNorm_0"]["bias"]),
        ("bn2.running_mean", statistics["BatchNorm_1"]["mean"]),
        ("downsample.1.running_var", statistics["BatchNorm_2"]["var"]),
    ):
        np.testing.assert_array_equal(tensors[f"layer2.0.{name}"], values)
    assert "layer1.0.downsample.0.weight" not in tensors
    assert not [name for name in tensors if name.startswith("fc") or "num_batches" in name]


@pytest.mark.parametrize(
    ("name", "small_stem"), [("resnet18", False), ("resnet34", True), ("resnet50", False)]
)
def test_there_and_back_is_exact(name, small_stem):
    model = RESNETS[name](small_stem=small_stem)
    variables = drawn(model)
    tensors = to_torchvision(model, variables)
    assert all(a.dtype == np.float32 and a.flags["C_CONTIGUOUS"] for a in tensors.values())
    # As a state dict has them.
    tensors |= {"fc.weight": np.zeros((10, 512)), "bn1.num_batches_tracked": np.array(7)}
    back = from_torchvision(model, tensors)
    jax.tree.map(np.testing.assert_array_equal, variables, back)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("layer3.1.bn2.running_var", None, "needs layer3.1.bn2.running_var, and it is missing"),
        ("layer4.0.conv1.weight", (512, 256, 1, 1), r"layer4\.0\.conv1\.weight must have shape "),
        ("bn1.weight", (64, 1), r"bn1\.weight must have shape \(64\); got \(64, 1\)"),
        ("layer1.2.conv1.weight", (64, 64, 3, 3), r"has no layer1\.2\.conv1\.weight"),
        ("conv1.weight", (64, 3, 3, 3), r"shape \(64, any, 7, 7\); got \(64, 3, 3, 3\)"),
    ],
)
def test_what_does_not_fit_is_named(name, value, problem):
    model = resnet18(small_stem=False)
    tensors = to_torchvision(model, drawn(model))
    tensors.pop(name, None)
    if value is not None:
        tensors[name] = np.zeros(value, np.float32)
    with pytest.raises(ValueError, match=problem):
        from_torchvision(model, tensors)


def test_variables_of_another_encoder_are_refused():
    model = resnet18(small_stem=False)
    variables = drawn(model)
    dense = {"Dense_0": {"kernel": np.zeros((2, 2))}}
    with pytest.raises(ValueError, match="variables of this encoder need params/BasicBlock_0"):
        to_torchvision(model, drawn(resnet50(small_stem=False)))
    with pytest.raises(ValueError, match="has no params/Dense_0/kernel"):
        to_torchvision(model, variables | {"params": variables["params"] | dense})
    with pytest.raises(ValueError, match=r"params/Conv_0/kernel, as conv1\.weight, must have"):
        to_torchvision(resnet18(small_stem=True), variables)


def test_torchvision_has_names_for_batch_norm_alone():
    model = small_resnet(widths=(4,), norm="group")
    for function in (to_torchvision, from_torchvision):
        with pytest.raises(ValueError, match="norm=group has no name in torchvision"):
            function(model, {})


def test_other_widths_and_stages_have_names_of_the_same_kind():
    model = small_resnet(widths=(4, 4, 8))
    variables = drawn(model)
    tensors = to_torchvision(model, variables)
    assert tensors["layer2.0.downsample.0.weight"].shape == (4, 4, 1, 1)  # it has a stride
    jax.tree.map(np.testing.assert_array_equal, variables, from_torchvision(model, tensors))


@pytest.mark.parametrize(
    ("name", "small_stem", "shape"),
    [
        ("resnet18", False, (64, 64, 3)),
        ("resnet18", True, (33, 32, 1)),
        ("resnet34", True, (32, 32, 3)),
        ("resnet50", False, (97, 64, 3)),
        ("resnet50", True, (32, 32, 3)),
    ],
)
def test_torchvision_loads_them_and_gives_the_same_features(name, small_stem, shape):
    torch = pytest.importorskip("torch")
    peer = pytest.importorskip("torchvision")
    model = RESNETS[name](small_stem=small_stem)
    variables = drawn(model, channels=shape[-1])
    images = np.random.default_rng(1).normal(size=(3, *shape)).astype(np.float32)
    ours = np.asarray(jax.jit(partial(model.apply, train=False))(variables, images))

    theirs = getattr(peer.models, name)()
    theirs.fc = torch.nn.Identity()
    if small_stem:
        theirs.conv1 = torch.nn.Conv2d(shape[-1], 64, 3, 1, 1, bias=False)
        theirs.maxpool = torch.nn.Identity()
    tensors = {k: torch.from_numpy(a) for k, a in to_torchvision(model, variables).items()}
    theirs.load_state_dict(tensors)  # strict
    theirs.eval()
    with torch.no_grad():
        features = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()

    assert np.std(ours) > 0.01  # not features that died on the way
    difference = np.abs(ours - features).max() / np.abs(ours).max()
    print(f"{name}, small stem {small_stem}: largest difference {difference:.1e} of the largest")
    assert difference < 1e-4
    # What PyTorch hands out comes back as it was.
    back = from_torchvision(model, theirs.state_dict())
    jax.tree.map(np.testing.assert_array_equal, variables, back)
