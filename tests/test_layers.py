"""Imports point one way, and one loss costs one loss."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "alphacl_jax"

# Each file may import from the ones before it.
KERNELS = (
    "errors",
    "distances",
    "layouts",
    "families",
    "solve",
    "rules",
    "covariance",
    "sums",
    "tiles",
    "blocks",
    "sharded",
    "losses",
    "measures",
)
STANDARD = {"collections", "dataclasses", "math", "numbers", "typing"}
HEAVY = ("flax", "optax", "grain", "orbax", "sklearn", "matplotlib", "tensorflow")


def imports(path):
    """Dotted names of all modules that a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            # `from package import module` names the module last.
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own(path):
    return {name.split(".")[1] for name in imports(path) if name.startswith("alphacl_jax.")}


def files(*folders):
    found = [p for folder in folders for p in (PACKAGE / folder).rglob("*.py")]
    assert found, folders
    return found


def test_kernels_are_all_listed():
    assert {p.stem for p in PACKAGE.glob("*.py")} == {*KERNELS, "__init__"}


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_import_only_earlier_ones_and_jax_and_chex(name):
    path = PACKAGE / f"{name}.py"
    assert own(path) <= set(KERNELS[: KERNELS.index(name)])
    outside = {n.split(".")[0] for n in imports(path)} - {"alphacl_jax"}
    assert outside <= {"jax", "chex"} | STANDARD


def test_models_data_and_evaluation_know_nothing_of_losses_or_training():
    for folder in ("models", "data", "evaluation"):
        for path in files(folder):
            assert own(path) <= {folder, "errors"}, path


def test_theory_builds_on_the_kernels_alone():
    for path in files("theory"):
        assert own(path) <= {*KERNELS, "theory"}, path
        assert not {n for n in imports(path) if n.split(".")[0] in {"matplotlib", "flax"}}, path


def test_only_the_command_line_has_flags_and_nothing_imports_experiments():
    for path in PACKAGE.rglob("*.py"):
        names = imports(path)
        assert not {n for n in names if n.split(".")[0] == "experiments"}, path
        if "cli" not in path.parts:
            assert not names & {"absl.app", "absl.flags"}, path


def test_importing_the_package_loads_no_heavy_library():
    code = (
        "import sys, alphacl_jax; "
        f"print([m for m in {HEAVY!r} if m in sys.modules], 'jax' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["[]", "True"]
