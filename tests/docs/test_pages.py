"""The pages' Python runs as printed, in order, each page in a namespace of its own."""

from pathlib import Path

import jax
import pytest
from sybil import Document
from sybil.parsers.markdown import PythonCodeBlockParser

from tests.docs.documents import PAGES, ROOT, text_of

# These train networks.
_SLOW = ("docs/encoders.md", "docs/python_runs.md")
WITH_PYTHON = tuple(page for page in PAGES if "```python" in text_of(page))
PRINTED = {
    "docs/losses.md": ("NT-Xent", "gradient (256, 128)", "energy", "perplexity"),
    "docs/evaluation.md": ("kNN",),
    "docs/python_runs.md": ("features (1797, 16)", "info_nce 128", "learning_rate"),
    "docs/methods.md": ("distance", "(64, 16)"),
}


def run(page: str) -> Document:
    document = Document.parse(str(ROOT / page), PythonCodeBlockParser())
    for example in document.examples():
        example.evaluate()
    return document


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.slow] if page in _SLOW else []) for page in WITH_PYTHON],
)
def test_python_runs_in_order_as_printed(
    page: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # what a block writes is not left in the project
    with jax.numpy_rank_promotion("allow"):
        run(page)
    printed = capsys.readouterr().out
    for words in PRINTED.get(page, ()):
        assert words in printed


def test_what_is_printed_is_looked_at_on_pages_that_there_are() -> None:
    assert set(PRINTED) <= set(WITH_PYTHON)
    assert "docs/losses.md" in WITH_PYTHON


def test_losses_page_has_every_family_and_rule() -> None:
    from alphacl_jax import families, rules

    text = text_of("docs/losses.md")
    for module in (families, rules):
        made = [name for name, value in vars(module).items() if _makes(value, module)]
        assert len(made) >= 8
        for name in made:
            assert f"| `{name}(" in text, name


def _makes(value: object, module: object) -> bool:
    """Whether it is a public function of the module that returns a family or a rule."""
    returned = getattr(value, "__annotations__", {}).get("return")
    return (
        getattr(value, "__module__", None) == getattr(module, "__name__", "")
        and getattr(returned, "__name__", returned) in ("Family", "Rule")
        and not getattr(value, "__name__", "_").startswith("_")
    )
