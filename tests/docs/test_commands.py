"""Commands in the documents name programs, scripts, flags, files and extras that exist."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from tests.docs.documents import CLI, DOCUMENTS, PROJECT, ROOT, has_flag, sources_of, text_of

EXPERIMENTS = sorted((ROOT / "experiments").rglob("*.py"))
SUBCOMMANDS = ("pretrain", "evaluate", "embed", "finetune", "export", "compare", "neighbors")


def documents_with(pattern: str):
    return [document for document in DOCUMENTS if re.search(pattern, text_of(document))]


def scripts_in(document: str) -> list[tuple[Path, str]]:
    """Each `python -m experiments.X`, with its arguments."""
    found = re.findall(r"python -m experiments\.([\w.]+)([^\n`|]*)", text_of(document))
    named = [
        (name, arguments) for name, arguments in found if name[-1] != "." and "NAME" not in name
    ]
    return [(ROOT / f"experiments/{name.replace('.', '/')}.py", rest) for name, rest in named]


def check_arguments(arguments: str, sources: list[Path]) -> None:
    for word in shlex.split(arguments, comments=True):
        name, _, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or word == "--":
            continue
        assert has_flag(name, sources), word
        if name == "flagfile" and not value.startswith("RUN"):
            assert (ROOT / value).is_file(), word


@pytest.mark.parametrize("document", documents_with(r"python -m experiments\.\w"))
def test_scripts_exist_with_their_flags(document: str) -> None:
    for script, arguments in scripts_in(document):
        assert script.is_file(), script
        # What follows a lone -- goes to training runs.
        check_arguments(arguments, sources_of(script))


def test_the_four_scripts_are_named() -> None:
    named = {script.stem for document in DOCUMENTS for script, _ in scripts_in(document)}
    assert named >= {"pretrain", "compare"}
    guide = text_of("docs/guide.md")
    assert "`python -m experiments.pretrain`, `evaluate`, `embed` and `compare`" in guide


@pytest.mark.parametrize("document", documents_with(r"alphacl [a-z]"))
def test_subcommands_exist_with_their_flags(document: str) -> None:
    found = re.findall(r"(?<![\w/.])alphacl ([a-z]+)([^\n`|]*)", text_of(document))
    assert found
    for name, arguments in found:
        assert name in SUBCOMMANDS
        assert any(f'"{name}"' in source.read_text() for source in CLI), name
        check_arguments(arguments, CLI)


def test_the_encoders_and_the_guide_show_every_subcommand() -> None:
    shown = text_of("docs/guide.md") + text_of("docs/encoders.md")
    for name in SUBCOMMANDS:
        assert f"alphacl {name}" in shown
    assert "alphacl" in PROJECT["scripts"]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_flags_in_the_text_exist_somewhere(document: str) -> None:
    wanted = set(re.findall(r"(?<![\w-])--(\w+)", text_of(document)))
    missing = [name for name in sorted(wanted) if not has_flag(name, [*CLI, *EXPERIMENTS])]
    assert not missing


def blocks_of(document: str) -> list[str]:
    return re.findall(r"```bash\n(.*?)```", text_of(document), flags=re.DOTALL)


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if blocks_of(d)])
def test_shell_blocks_name_programs_that_exist(document: str) -> None:
    lines = [line for block in blocks_of(document) for line in block.splitlines() if line.strip()]
    assert lines
    for line in lines:
        for command in re.split(r"\s+&&\s+", line):
            program, *arguments = shlex.split(command, comments=True)
            name = Path(program).name
            assert name in ("python", "python3", "pip", "alphacl"), command
            if name.startswith("python"):
                assert arguments[0] == "-m", command
                assert importlib.util.find_spec(arguments[1]) is not None, command


def test_extras_exist() -> None:
    texts = "".join(text_of(document) for document in DOCUMENTS)
    named = {
        extra for extras in re.findall(r"'\.\[([\w,]+)\]'", texts) for extra in extras.split(",")
    }
    assert named >= {"train", "test", "docs"}
    assert named <= set(PROJECT["optional-dependencies"])


def test_the_notes_say_what_each_library_is_for() -> None:
    asked = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    names = {re.split(r"[<>=\[]", text)[0] for of in asked for text in of} - {PROJECT["name"]}
    notes = text_of("BUILD_NOTES.md")
    table = notes[notes.index("## 3. Dependencies") : notes.index("## 4. Checks")]
    listed = set(re.split(r"[|,\s]+", table))
    assert names - listed == set()


def test_the_theory_lab_lists_every_script_of_it() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", text_of("docs/theory_lab.md"), flags=re.MULTILINE)
    scripts = (ROOT / "experiments" / "theory").glob("*.py")
    assert sorted(listed) == sorted(p.stem for p in scripts if "__main__" in p.read_text())
