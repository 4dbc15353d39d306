"""Imports point one way, and one loss costs one loss."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "alphacl_jax"

# Each file may import from the ones before it.
KERNELS = (
    "errors",
    "closures",
    "explicit",
    "distances",
    "layouts",
    "ranges",
    "parameters",
    "families",
    "solve",
    "rules",
    "covariance",
    "sums",
    "tiling",
    "tile_sums",
    "ring",
    "pair_sums",
    "tiles",
    "blocks",
    "sharded",
    "losses",
    "measures",
)
# What is no kernel and serves the parts above them.
SHARED = ("allocator", "extras", "files", "lazy", "signals", "tables")
STANDARD = {"collections", "dataclasses", "functools", "itertools", "math", "numbers", "typing"}
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
    assert {p.stem for p in PACKAGE.glob("*.py")} == {*KERNELS, "__init__", *SHARED}


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_import_only_earlier_ones_and_jax_and_chex(name):
    path = PACKAGE / f"{name}.py"
    assert own(path) <= set(KERNELS[: KERNELS.index(name)])
    outside = {n.split(".")[0] for n in imports(path)} - {"alphacl_jax"}
    assert outside <= {"jax", "chex"} | STANDARD


@pytest.mark.parametrize("name", SHARED)
def test_what_all_layers_share_needs_nothing_else(name):
    path = PACKAGE / f"{name}.py"
    assert not own(path)
    outside = {n.split(".")[0] for n in imports(path)} - {"numpy", "matplotlib"}  # what is written
    assert outside <= sys.stdlib_module_names


def test_models_data_and_evaluation_know_nothing_of_losses_or_training():
    for folder in ("models", "data", "evaluation"):
        for path in files(folder):
            assert own(path) <= {folder, "errors", *SHARED}, path


def test_theory_builds_on_the_kernels_alone():
    for path in files("theory"):
        assert own(path) <= {*KERNELS, "theory"}, path
        assert not {n for n in imports(path) if n.split(".")[0] in {"matplotlib", "flax"}}, path


# What each folder may import beside itself, the errors and what is shared; in this order.
FOLDERS = {
    "models": set(),
    "data": set(),
    "evaluation": set(),
    "objectives": set(KERNELS),
    "methods": {*KERNELS, "objectives"},
    "training": {"data", "methods"},
    "runs": {
        *("data", "models", "evaluation", "methods", "training"),
        *("families", "objectives", "rules"),
    },
    "sequences": {"ranges", "objectives", "data", "models", "methods", "training"},
    "cli": {"data", "evaluation", "training", "runs"},
}


@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_import_what_lies_below_them(folder):
    for path in files(folder):
        below = own(path) - {folder, "errors", *SHARED}
        # `from alphacl_jax import Family` names what the package re-exports.
        below -= {"Family", "Rule"} if folder == "runs" else set()
        assert below <= FOLDERS[folder], path


def test_only_the_command_line_has_flags_and_nothing_imports_experiments():
    for path in PACKAGE.rglob("*.py"):
        names = imports(path)
        assert not {n for n in names if n.split(".")[0] == "experiments"}, path
        if "cli" not in path.parts:
            assert not names & {"absl.app", "absl.flags"}, path


def test_no_message_below_the_command_line_names_a_flag():
    """But for the flag file, which is made of them, and TFDS's own command."""
    for path in PACKAGE.rglob("*.py"):
        if "cli" in path.parts or path.stem in ("flag_file", "tfds_source"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not re.search(r"(?<![\w-])--[a-z]", node.value), (path, node.value)


def test_a_loss_loads_no_heavy_library_and_the_package_alone_not_even_jax():
    code = (
        "import sys, alphacl_jax; "
        "print('jax' in sys.modules); alphacl_jax.contrastive_loss; "
        f"print([m for m in {HEAVY!r} if m in sys.modules], 'jax' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", "[]", "True"]
