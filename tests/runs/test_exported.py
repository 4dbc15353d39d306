"""An export holds the encoder bit for bit, and what is damaged or foreign is refused in words."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from alphacl_jax.data import policies
from alphacl_jax.data.preprocessing import Preprocessing
from alphacl_jax.errors import RunError
from alphacl_jax.models.torchvision import from_torchvision, to_torchvision
from alphacl_jax.runs import exported
from alphacl_jax.runs.description import Description
from alphacl_jax.runs.encoder import Encoder, load_encoder
from alphacl_jax.runs.exported import is_export, write_export
from alphacl_jax.runs.methods import make_method
from alphacl_jax.runs.settings import DataSettings, ModelSettings, RunSettings
from alphacl_jax.runs.stablehlo import write_stablehlo
from alphacl_jax.training.mesh import data_mesh

TINY = ModelSettings(widths=(4, 6), projector_hidden=8, projector_dim=5)


def made(model: ModelSettings, image_shape=(8, 8, 1), seed=0) -> Encoder:
    """An encoder with drawn weights, as a run would leave one."""
    settings = RunSettings(
        seed=3, model=model, data=DataSettings(dataset="folder", data_dir="/home/somebody")
    )
    channels = image_shape[2]
    description = Description(
        Preprocessing(image_shape, (0.3,) * channels, (0.1 + 0.2,) * channels),
        policies.policy_for("digits", image_shape, "none", ""),
        ("naïve $x_1$", "猫"),
        "folder/of images",
        24,
        "0123456789abcdef",
    )
    method = make_method(settings, image_shape, data_mesh(jax.local_devices()[:1]))
    views = jax.ShapeDtypeStruct((2, 2, *image_shape), jnp.float32)
    shapes = jax.eval_shape(method.init, jax.random.key(0), {"views": views})
    rng = np.random.default_rng(seed)

    def draw(leaf):
        scale = (2 / np.prod(leaf.shape[:-1])) ** 0.5
        values = (
            rng.normal(scale=scale, size=leaf.shape)
            if leaf.ndim > 1
            else rng.uniform(0.5, 1.5, leaf.shape)
        )
        return jnp.asarray(values, leaf.dtype)

    params, state = jax.tree.map(draw, shapes)
    return Encoder(settings, description, params, state, step=17)


def images_for(encoder: Encoder, count: int) -> np.ndarray:
    shape = (count, *encoder.preprocessing.image_shape)
    return np.random.default_rng(5).integers(0, 256, shape).astype(np.uint8)


@pytest.fixture(scope="module")
def tiny() -> Encoder:
    return made(TINY)


@pytest.fixture
def export(tiny, tmp_path) -> Path:
    write_export(tiny, tmp_path / "out")
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("model", "image_shape"),
    [
        (TINY, (8, 8, 1)),
        (dataclasses.replace(TINY, projector_norm="no_affine", dtype="bfloat16"), (6, 9, 3)),
        # No projector: parts of the method that hold nothing come back too.
        (ModelSettings(widths=(4,), projector_depth=0), (8, 8, 1)),
        (ModelSettings(encoder="resnet18", projector_depth=1, projector_dim=3), (9, 9, 3)),
        # Without statistics, and without torchvision's names.
        (dataclasses.replace(TINY, encoder_norm="layer"), (8, 8, 1)),
        (ModelSettings(encoder="resnet18", encoder_norm="group"), (9, 9, 3)),
    ],
)
def test_there_and_back_is_bit_for_bit(model, image_shape, tmp_path):
    encoder = made(model, image_shape)
    write_export(encoder, tmp_path / "out")
    again = load_encoder(tmp_path / "out")
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b), strict=True),
        (encoder.params, encoder.state),
        (again.params, again.state),
    )
    assert again.description == encoder.description
    assert (again.step, again.settings.model) == (17, model)
    if model.encoder == "small":  # compilation of the large one shows nothing more
        images = images_for(encoder, 3)
        assert again(images).tobytes() == encoder(images).tobytes()
        assert again.embed(images).tobytes() == encoder.embed(images).tobytes()


def test_names_in_the_files_of_a_small_encoder(tiny, export):
    tensors = load_file(export / "encoder.safetensors")
    np.testing.assert_array_equal(
        tensors["params.BasicBlock_1.Conv_2.kernel"],
        tiny.params["encoder"]["BasicBlock_1"]["Conv_2"]["kernel"],
    )
    assert "batch_stats.BatchNorm_0.var" in tensors
    assert not [name for name in tensors if "projector" in name]
    heads = load_file(export / "heads.safetensors")
    assert {name.split(".")[0] for name in heads} == {"params", "state"}
    np.testing.assert_array_equal(
        heads["params.projector.Dense_1.bias"], tiny.params["projector"]["Dense_1"]["bias"]
    )


def test_a_resnet_has_torchvisions_names(tmp_path):
    encoder = made(ModelSettings(encoder="resnet18"), (80, 80, 3))
    write_export(encoder, tmp_path / "out")
    tensors = load_file(tmp_path / "out" / "encoder.safetensors")
    expected = to_torchvision(encoder.module, encoder.variables)
    jax.tree.map(np.testing.assert_array_equal, tensors, expected)
    assert tensors["conv1.weight"].shape == (64, 3, 7, 7)
    jax.tree.map(
        np.testing.assert_array_equal,
        from_torchvision(encoder.module, tensors),
        encoder.variables,
    )
    described = json.loads((tmp_path / "out" / "encoder.json").read_text())
    assert described["names"] == "torchvision"
    assert described["architecture"].startswith("ResNet-18; first layer: 7x7 convolution")


def test_json_tells_all_that_is_needed_and_no_place_of_this_machine(export):
    text = (export / "encoder.json").read_text()
    described = json.loads(text)
    assert "somebody" not in text
    assert described["architecture"].startswith(
        "ResNet of one basic block per stage, of 4, 6 channels; first layer: 3x3"
    )
    assert described["settings"]["widths"] == [4, 6]
    assert described["settings"]["loss"] == "alpha_direct"
    assert described["description"]["std"] == [0.1 + 0.2]
    assert described["step"] == 17
    for name, told in described["files"].items():
        assert (export / name).stat().st_size == told["bytes"]
    assert set(described["files"]) == {"encoder.safetensors", "heads.safetensors"}


def test_only_an_export_is_written_over(tiny, export):
    other = made(TINY, seed=1)
    write_export(other, export)
    assert load_encoder(export)(images_for(tiny, 1)).tolist() == other(images_for(tiny, 1)).tolist()
    assert [p.name for p in export.parent.iterdir()] == ["out"]  # nothing is left beside it
    (export / "notes.txt").write_text("mine")
    with pytest.raises(
        RunError, match=r"out holds notes\.txt, which is no part of an export: give"
    ):
        write_export(tiny, export)
    assert (export / "notes.txt").read_text() == "mine"
    with pytest.raises(RunError, match=r"notes\.txt is a file: give the name of a folder"):
        write_export(tiny, export / "notes.txt")
    with pytest.raises(RunError, match=r"cannot be written"):
        write_export(tiny, export / "notes.txt" / "out")
    (export.parent / "empty").mkdir()
    write_export(tiny, export.parent / "empty")
    write_export(tiny, export.parent / "deep" / "er")
    assert is_export(export.parent / "empty")
    assert is_export(export.parent / "deep" / "er")


def test_a_failure_while_writing_leaves_what_was_there(tiny, export, monkeypatch):
    before = {p.name: p.read_bytes() for p in export.iterdir()}

    def fail(path, value):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(exported, "write_json_atomically", fail)
    with pytest.raises(RunError, match=r"cannot be written: .*No space left"):
        write_export(made(TINY, seed=1), export)
    assert {p.name: p.read_bytes() for p in export.iterdir()} == before
    assert [p.name for p in export.parent.iterdir()] == ["out"]


def changed_json(folder: Path, **changes) -> None:
    path = folder / "encoder.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: cut(f / "encoder.safetensors"), r"encoder\.safetensors has \d+ bytes where"),
        (lambda f: flip_a_bit(f / "heads.safetensors"), r"heads.*its SHA-256 differs.*again"),
        (lambda f: (f / "heads.safetensors").unlink(), r"heads\.safetensors cannot be read: "),
        (lambda f: (f / "encoder.json").unlink(), r"encoder\.json is missing: this export is not"),
        (lambda f: cut(f / "encoder.json"), r"encoder\.json cannot be read: "),
        (lambda f: (f / "encoder.json").write_bytes(b"\xff\xfe{"), r"json cannot be read: "),
        (lambda f: (f / "encoder.json").write_text("[1]"), "was not written by alphacl_jax: give"),
        (lambda f: changed_json(f, format="another"), "was not written by alphacl_jax: give"),
        (
            lambda f: changed_json(f, format_version=2, library={"version": "9.0"}),
            r"version 2, written by alphacl_jax 9\.0, and this one reads version 1: install",
        ),
        (lambda f: changed_json(f, settings={"hue": 3}), "hue=3 is no setting of the method"),
        (lambda f: changed_json(f, settings={"widths": "4"}), "widths=4 must be whole numbers"),
        (lambda f: changed_json(f, description={}), "exports: 'image_shape' is missing"),
        (lambda f: changed_json(f, files={}), r"'encoder\.safetensors' is missing"),
        (lambda f: changed_json(f, files=None), "is not what alphacl_jax exports"),
        (lambda f: changed_json(f, step=None), "is not what alphacl_jax exports"),
        (lambda f: changed_json(f, names="torchvision"), r"needs conv1\.weight, and it is missing"),
    ],
)
def test_what_is_damaged_or_foreign_is_refused_in_words(export, damage, message):
    damage(export)
    with pytest.raises(RunError, match=message):
        load_encoder(export)


def test_a_file_of_another_kind_is_refused(export):
    content = b"no tensors at all"
    (export / "encoder.safetensors").write_bytes(content)
    told = json.loads((export / "encoder.json").read_text())["files"]
    changed_json(export, files=told | {"encoder.safetensors": exported._fingerprint(content)})
    with pytest.raises(RunError, match=r"encoder\.safetensors is no safetensors file: .*again"):
        load_encoder(export)


def test_a_weight_of_another_shape_is_named(tmp_path):
    encoder = made(ModelSettings(encoder="resnet18"), (8, 8, 3))
    write_export(encoder, tmp_path / "out")
    path = tmp_path / "out" / "encoder.safetensors"
    save_file(load_file(path) | {"layer1.0.bn1.bias": np.zeros(3, np.float32)}, path)
    told = json.loads((tmp_path / "out" / "encoder.json").read_text())["files"]
    told["encoder.safetensors"] = exported._fingerprint(path.read_bytes())
    changed_json(tmp_path / "out", files=told)
    with pytest.raises(RunError, match=r"layer1\.0\.bn1\.bias must have shape \(64\); got \(3,\)"):
        load_encoder(tmp_path / "out")


def test_stablehlo_by_the_lines_of_its_documentation_at_any_batch_size(tiny, tmp_path):
    from alphacl_jax.runs import stablehlo

    write_stablehlo(tiny, tmp_path / "out")
    lines = [line[4:] for line in stablehlo.__doc__.splitlines() if line.startswith("    ")]
    assert len(lines) == 5
    code = "\n".join(lines).replace("OUT", str(tmp_path / "out"))
    for count in (1, 3, 500):
        images = images_for(tiny, count)
        scope = {"images": images}
        exec(code, scope)
        features = scope["features"]
        assert features.dtype == jnp.float32
        expected = tiny(images)
        np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-5 * expected.std())
    described = json.loads((tmp_path / "out" / "encoder.json").read_text())
    assert described["platforms"] == ["cpu", "cuda", "tpu"]
    assert described["description"] == tiny.description.to_json()
    with pytest.raises(RunError, match="holds a compiled function, whose weights cannot be taken"):
        load_encoder(tmp_path / "out")
    # And it can be replaced by the other form.
    write_export(tiny, tmp_path / "out")
    assert load_encoder(tmp_path / "out").step == 17


def test_stablehlo_is_for_all_platforms_and_refuses_other_images(tiny, tmp_path):
    write_stablehlo(tiny, tmp_path)
    content = bytearray((tmp_path / "encoder.stablehlo").read_bytes())
    function = jax.export.deserialize(content)
    assert function.platforms == ("cpu", "cuda", "tpu")
    assert function.in_avals[0].dtype == jnp.uint8
    (shape,) = (aval.shape for aval in function.in_avals)
    assert jax.export.is_symbolic_dim(shape[0])
    assert shape[1:] == (8, 8, 1)
    with pytest.raises(ValueError, match="shape"):
        function.call(np.zeros((2, 9, 9, 1), np.uint8))
