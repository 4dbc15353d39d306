"""Names: no function of the theory is called as one of its modules is, nor one of its scripts."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT / "alphacl_jax" / "theory", ROOT / "experiments" / "theory")


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_no_public_function_has_the_name_of_a_module(folder):
    files = list(folder.rglob("*.py"))
    modules = {path.parent.name if path.stem == "__init__" else path.stem for path in files}
    functions = {
        node.name
        for path in files
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }
    assert len(modules) > 15
    assert len(functions) > 50
    assert functions & modules == set()


def test_every_folder_names_its_paper():
    for path in FOLDERS[0].glob("*/__init__.py"):
        assert "20" in ast.get_docstring(ast.parse(path.read_text())), path
