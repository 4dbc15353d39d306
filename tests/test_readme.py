"""The README's Python runs as printed, and its commands name what exists."""

import re
import shlex
from pathlib import Path

import jax

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_python_blocks_run_in_order_as_printed(capsys) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, object] = {}
    with jax.numpy_rank_promotion("allow"):
        for block in blocks:
            exec(compile(block, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "NT-Xent" in printed
    assert "(256, 128)" in printed


def test_commands_name_scripts_presets_and_flags_that_exist() -> None:
    from absl import flags

    from experiments.run_flags import define_run_flags

    values = flags.FlagValues()
    define_run_flags(values)
    commands = re.findall(r"python -m experiments\.([\w.]+)([^\n`]*)", README)
    assert {script for script, _ in commands} >= {"pretrain", "evaluate", "embed", "compare"}
    for script, arguments in commands:
        source = ROOT / "experiments" / f"{script.replace('.', '/')}.py"
        assert source.is_file()
        for word in shlex.split(arguments):
            name, _, value = word.removeprefix("--").partition("=")
            if not word.startswith("--") or name == "help":
                continue
            own = f'"{name}"' in source.read_text()
            assert name == "flagfile" or name in values or own, word
            if name == "flagfile" and not value.startswith("RUN"):
                assert (ROOT / value).is_file()


def test_links_and_pictures_exist() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
