"""No link, anchor or picture in a document leads nowhere."""

import itertools
import re

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.docs.documents import DOCUMENTS, ROOT

MARKDOWN = MarkdownIt("commonmark").enable("table")


def tokens_of(document: str) -> list[Token]:
    return MARKDOWN.parse((ROOT / document).read_text())


def anchors_of(document: str) -> set[str]:
    """The anchors of a document's headings, as GitHub and MyST make them."""
    tokens, anchors = tokens_of(document), set()
    for heading, inline in itertools.pairwise(tokens):
        if heading.type != "heading_open":
            continue
        title = "".join(child.content for child in inline.children or [])
        slug = anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        count = 0
        while anchor in anchors:
            count += 1
            anchor = f"{slug}-{count}"
        anchors.add(anchor)
    return anchors


def targets_of(document: str) -> list[str]:
    """What its links and pictures lead to."""
    found = []
    for token in tokens_of(document):
        for child in token.children or []:
            target = child.attrGet("href" if child.type == "link_open" else "src")
            if child.type in ("link_open", "image"):
                found.append(str(target))
    return found


@pytest.mark.parametrize(
    "document", [*DOCUMENTS, *(f"docs/api/{p.name}" for p in (ROOT / "docs/api").glob("*.md"))]
)
def test_links_lead_to_files_and_headings_that_exist(document: str) -> None:
    for target in targets_of(document):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = ((ROOT / document).parent / path).resolve() if path else ROOT / document
        assert file.exists(), target
        assert file.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors_of(file.relative_to(ROOT).as_posix()), target


def test_links_and_anchors_are_found() -> None:
    assert "docs/guide.md" in targets_of("README.md")
    assert "two-commands" in anchors_of("README.md")
    assert anchors_of("docs/results.md") >= {"kernels-at-any-batch-size", "the-main-job-digits"}


def test_every_page_is_reached_from_the_readme() -> None:
    pages = {f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")} - {"docs/index.md"}
    assert pages <= {target.partition("#")[0] for target in targets_of("README.md")}
