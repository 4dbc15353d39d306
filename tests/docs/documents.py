"""The documents that people read, and what their tests look for in them."""

import dataclasses
import re
import tomllib
from pathlib import Path

from alphacl_jax.runs.finetune_settings import FinetuneSettings
from alphacl_jax.runs.flag_file import METHODS, fields_of

ROOT = Path(__file__).parents[2]
PAGES = tuple(p.relative_to(ROOT).as_posix() for p in sorted((ROOT / "docs").glob("*.md")))
DOCUMENTS = ("README.md", "BUILD_NOTES.md", *PAGES)
CLI = sorted((ROOT / "alphacl_jax" / "cli").glob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def text_of(document: str) -> str:
    """A document's text, commands that go over several lines joined."""
    return re.sub(r"\s*\\\n\s*", " ", (ROOT / document).read_text())


def settings_flags() -> set[str]:
    """The flags that the settings of a run, and of fine-tuning, become."""
    fine_tuning = [field.name for field in dataclasses.fields(FinetuneSettings)]
    of_runs = (fields_of(method) for method in METHODS)
    return {"method", "flagfile", "help"}.union(fine_tuning, *of_runs)


def sources_of(script: Path) -> list[Path]:
    """A script, the scripts that it imports, and the command line where it calls that."""
    text = script.read_text()
    modules = re.findall(r"(?:from|import) (experiments\.\S+)", text)
    files = [ROOT / f"{module.replace('.', '/')}.py" for module in modules]
    commands = CLI if "alphacl_jax.cli" in text else []
    return [script, *(file for file in files if file.is_file()), *commands]


def has_flag(name: str, sources: list[Path]) -> bool:
    """Whether a flag is a setting, or is named in one of the files that define flags."""
    candidates = {name, name.removeprefix("no")}
    # Those of a study alone are fields of a class of settings.
    named = re.compile(
        "|".join(rf'"{c}"|^    {c}: .*= setting\(' for c in candidates), re.MULTILINE
    )
    return bool(candidates & settings_flags()) or any(
        named.search(source.read_text()) for source in sources
    )
