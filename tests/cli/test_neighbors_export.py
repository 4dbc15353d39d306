"""`alphacl neighbors` and `alphacl export`, as their command lines would run them."""

import shutil

import numpy as np
import pytest
from absl import flags

from alphacl_jax.cli import export, neighbors
from alphacl_jax.cli.pretrain import pretrain
from alphacl_jax.errors import RunError
from alphacl_jax.runs import load_encoder
from tests.cli.test_evaluate_embed import run_script
from tests.tiny_runs import TEST_IMAGES, assert_picture, tiny_values


@pytest.fixture(scope="module")
def run(class_folder, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("neighbors") / "run"
    data = ["--dataset=folder", f"--data_dir={class_folder}"]
    pretrain(tiny_values(*data, "--evaluate=none", f"--workdir={workdir}"))
    return workdir


def test_neighbors_of_two_images_of_the_folder_itself(run, class_folder, monkeypatch, capsys):
    queries = [class_folder / "test" / "bright" / "00.png", class_folder / "test" / "dark/01.png"]
    asked = f"--query={queries[0]},{queries[1]}"
    run_script(monkeypatch, neighbors, f"--workdir={run}", asked, "--k=3")
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == ["query", "rank", "cosine", "class", "image"]
    assert len(out) == 1 + 6 + 1
    assert out[-1] == f"picture: {run}/neighbors.png"
    # A query is not among its own neighbours.
    assert "test/bright/00.png" not in " ".join(line.split()[-1] for line in out[1:4])
    assert_picture(run / "neighbors.png")


def test_a_picture_that_fails_costs_no_table(run, class_folder, monkeypatch, capsys, caplog):
    def fails(*arguments, **options):
        raise ValueError("no ink")

    monkeypatch.setattr("alphacl_jax.runs.neighbors.plot_neighbors", fails)
    query = class_folder / "test" / "bright" / "00.png"
    run_script(monkeypatch, neighbors, f"--workdir={run}", f"--query={query}", "--k=2")
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert f"{run}/neighbors.png could not be drawn: no ink" in caplog.text


def test_queries_come_as_flags_and_as_arguments(run, class_folder, monkeypatch, tmp_path, capsys):
    folder = tmp_path / "a, b"  # a comma in a name divides nothing
    shutil.copytree(class_folder / "test" / "dark", folder)
    files = [str(path) for path in sorted(folder.iterdir())[:4]]
    asked = [f"--query={files[0]}", f"--query={files[1]}", *files[2:]]
    run_script(monkeypatch, neighbors, f"--workdir={run}", "--k=1", *asked)
    lines = capsys.readouterr().out.splitlines()[1:-1]
    assert [line[: len(files[0])] for line in lines] == files


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--query={image}", "--output=/no/where/x.png"], "--output=.* there is no folder /no/whe"),
        (["--query={image}", "--output=x.jpg"], r"--output=x.jpg must be a PNG file: give x\.png"),
        ([], "--query is needed"),
        (["--query=/no/where.png"], "--query=/no/where.png holds what cannot be read"),
        (["--query={image}", "--k=32"], "--k=32 must be less than the 32 images"),
        (["--query={image}", "--data_dir=/no/where"], "--data_dir=/no/where does not exist"),
    ],
)
def test_what_neighbors_refuses(run, class_folder, monkeypatch, arguments, message):
    image = class_folder / "test" / "bright" / "00.png"
    filled = [argument.replace("{image}", str(image)) for argument in arguments]
    with pytest.raises(RunError, match=message):
        run_script(monkeypatch, neighbors, f"--workdir={run}", *filled)


def _export(monkeypatch, *arguments: str) -> None:
    own = flags.FlagValues()
    export.define_flags(own)
    rest = own(["alphacl export", *arguments])
    monkeypatch.setattr(flags, "FLAGS", own)
    export.main(rest)


def test_an_export_is_loaded_and_gives_the_same_features(run, monkeypatch, tmp_path, capsys):
    _export(monkeypatch, str(run), str(tmp_path / "out"))
    assert capsys.readouterr().out == f"encoder: {tmp_path}/out\n"
    features = load_encoder(tmp_path / "out")(TEST_IMAGES)
    assert features.tobytes() == load_encoder(run)(TEST_IMAGES).tobytes()


def test_an_export_as_stablehlo(run, monkeypatch, tmp_path):
    from jax import export as jax_export

    _export(monkeypatch, "--format=stablehlo", str(run), str(tmp_path / "out"))
    content = (tmp_path / "out" / "encoder.stablehlo").read_bytes()
    features = jax_export.deserialize(bytearray(content)).call(TEST_IMAGES)
    np.testing.assert_allclose(features, load_encoder(run)(TEST_IMAGES), rtol=1e-4, atol=1e-5)


def test_an_export_needs_two_folders(run, monkeypatch):
    with pytest.raises(RunError, match="give the run folder and the folder to write"):
        _export(monkeypatch, str(run))
