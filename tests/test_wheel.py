"""What is installed works by itself: the wheel's contents, its types, its commands.

Some tests put the wheel beside the packages of this environment; others install it in new
environments, as a person would, and are slow.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TINY = ("--epochs=1", "--widths=4", "--projector_hidden=8", "--projector_dim=4")


def run(*command, cwd: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs a command outside the source tree, which it must not find."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MYPYPATH")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, so that nothing of an earlier build gets in and nothing is left here."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("alphacl_jax", "experiments", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "*.png", "*.npz")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    pip = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet")
    run(*pip, "--wheel-dir", "dist", ".", cwd=source)
    (found,) = (source / "dist").iterdir()
    return found


@pytest.fixture(scope="module")
def beside(wheel, tmp_path_factory) -> Path:
    """The folder of programs of an environment with the wheel and the packages of this one."""
    folder = tmp_path_factory.mktemp("beside")
    run(sys.executable, "-m", "venv", "--without-pip", "environment", cwd=folder)
    python = folder / "environment" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--quiet")
    run(*pip, "--no-index", wheel, cwd=folder)
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run(python, "-c", ask, cwd=folder).stdout.strip())
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "these.pth").write_text("\n".join(sorted(paths)))
    return python.parent


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (info,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
        metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
        scripts = archive.read(f"{info}/entry_points.txt").decode()
    source = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "alphacl_jax").rglob("*.py")
        if "__pycache__" not in path.parts
    }
    assert {name for name in names if not name.startswith(info)} == {
        *source,
        "alphacl_jax/py.typed",
    }
    assert f"{info}/licenses/LICENSE" in names
    assert re.search(r"^alphacl = alphacl_jax\.cli\.command:main$", scripts, re.MULTILINE)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert {"train", "theory", "tfds", "test", "docs", "bench"} <= set(
        metadata.get_all("Provides-Extra")
    )
    base = [
        re.match(r"[\w-]+", needed)[0]
        for needed in metadata.get_all("Requires-Dist")
        if "extra ==" not in needed
    ]
    assert sorted(base) == ["absl-py", "chex", "jax", "numpy"]


def test_the_console_script_lists_the_commands(beside, tmp_path):
    shown = run(beside / "alphacl", "--help", cwd=tmp_path).stdout
    for name in ("pretrain", "evaluate", "embed", "export", "neighbors", "compare"):
        assert f"alphacl {name}" in shown
    refused = run(beside / "alphacl", "pretend", cwd=tmp_path, status=2).stderr
    assert refused.startswith("error: 'pretend' is no command of alphacl")


# Every line that ends in "# wrong" is an error, and no other.
USER_PROGRAM = """
from typing import assert_type

import jax
import jax.numpy as jnp
import numpy as np

import alphacl_jax as acl
from alphacl_jax.runs import ModelSettings, RunSettings, load_encoder

z = jnp.ones((4, 3))
family = acl.families.info_nce(temperature=0.5, eps=1.0)
assert_type(family, acl.Family)
rule = acl.rules.direct(0.5, power=4)
assert_type(rule, acl.Rule)
assert_type(acl.contrastive_loss(z, z, family, negatives="same_view"), jax.Array)
assert_type(acl.alpha_cl_loss(z, z, rule, block_size="auto"), jax.Array)
assert_type(acl.pairwise_importance(z, z, rule), jax.Array)
assert_type(acl.alpha_cl_loss(z, z, acl.rules.from_family(family)), jax.Array)

encoder = load_encoder("run")
assert_type(encoder(np.zeros((2, 8, 8), np.uint8)), np.ndarray)
assert_type(encoder.class_names, tuple[str, ...])
settings = RunSettings(seed=1, model=ModelSettings(widths=(4, 8)))

acl.contrastive_loss(z, z, "info_nce")  # wrong
acl.contrastive_loss(z, z, family, blocks=2)  # wrong
acl.alpha_cl_loss(z, z, family)  # wrong
acl.families.infonce()  # wrong
acl.rules.direct(temprature=0.5)  # wrong
load_encoder(3)  # wrong
encoder.features  # wrong
ModelSettings(widths=4)  # wrong
"""


@pytest.mark.slow
def test_a_users_program_is_type_checked_against_the_wheel(beside, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(USER_PROGRAM)
    mypy = (sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache")
    done = run(*mypy, "--python-executable", beside / "python", program, cwd=tmp_path, status=1)
    found = {int(line) for line in re.findall(r"program\.py:(\d+): error", done.stdout)}
    wrong = {
        number
        for number, line in enumerate(USER_PROGRAM.splitlines(), 1)
        if line.endswith("# wrong")
    }
    assert found == wrong, done.stdout


def new_environment(folder: Path, *requirements: object) -> Path:
    """The folder of programs of a new environment with these packages and what they need."""
    run(sys.executable, "-m", "venv", "environment", cwd=folder)
    programs = folder / "environment" / "bin"
    run(programs / "pip", "install", "--quiet", *requirements, cwd=folder)
    return programs


@pytest.mark.slow
def test_the_base_install_computes_a_loss_and_says_what_is_missing(wheel, tmp_path):
    programs = new_environment(tmp_path, wheel)
    code = """
        import importlib.util
        import jax.numpy as jnp
        import alphacl_jax as acl
        z = jnp.eye(3)
        print(float(acl.contrastive_loss(z, z, acl.families.info_nce(1.0, eps=0.0))))
        print([n for n in ("flax", "optax", "sklearn") if importlib.util.find_spec(n)])
    """
    done = run(programs / "python", "-c", textwrap.dedent(code), cwd=tmp_path)
    # d_i² = 0, and four others at d_ij² = 1: log(4 exp(-1)).
    value, installed = done.stdout.split("\n", 1)
    assert float(value) == pytest.approx(0.38629436, abs=1e-6)
    assert installed.strip() == "[]"
    for name in ("pretrain", "export"):
        refused = run(programs / "alphacl", name, cwd=tmp_path, status=1).stderr
        assert refused.startswith("error: ")
        assert "pip install 'alphacl_jax[train]'" in refused
    assert "alphacl evaluate" in run(programs / "alphacl", "--help", cwd=tmp_path).stdout
    for line in ("from alphacl_jax.runs import load_encoder", "import alphacl_jax.models.resnet"):
        refused = run(programs / "python", "-c", line, cwd=tmp_path, status=1).stderr
        assert refused.splitlines()[-1].startswith("ModuleNotFoundError: alphacl_jax.")
        assert "pip install 'alphacl_jax[train]'" in refused


@pytest.mark.slow
def test_an_installed_wheel_trains_evaluates_embeds_and_exports(wheel, tmp_path):
    programs = new_environment(tmp_path, f"alphacl_jax[train] @ {wheel.as_uri()}")
    alphacl = programs / "alphacl"
    trained = run(
        alphacl, "pretrain", *TINY, "--workdir=RUN", "--evaluate=quick", cwd=tmp_path
    ).stdout
    assert "raw pixels" in trained
    assert "raw pixels" in run(alphacl, "evaluate", "--workdir=RUN", cwd=tmp_path).stdout
    assert json.loads((tmp_path / "RUN" / "evaluation.json").read_text())["accuracy"]
    run(alphacl, "embed", "--workdir=RUN", cwd=tmp_path)
    run(alphacl, "export", "RUN", "OUT", cwd=tmp_path)
    run(alphacl, "export", "--format=stablehlo", "RUN", "HLO", cwd=tmp_path)
    code = """
        import sys
        from pathlib import Path
        import numpy as np
        from jax import export
        from alphacl_jax.runs import load_encoder
        images = np.arange(5 * 64, dtype=np.uint8).reshape(5, 8, 8, 1)
        expected = load_encoder("RUN")(images)
        assert load_encoder("OUT")(images).tobytes() == expected.tobytes()
        content = Path("HLO/encoder.stablehlo").read_bytes()
        features = export.deserialize(bytearray(content)).call(images)
        np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-5)
        embedded = list(Path("RUN").rglob("*.npz"))
        assert embedded and "features" in np.load(embedded[0]), embedded
        assert "environment" in sys.modules["alphacl_jax"].__file__
    """
    run(programs / "python", "-c", textwrap.dedent(code), cwd=tmp_path)
