"""Links between pages lead somewhere, and every page is in the index."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKS = [
    (path, target)
    for path in PAGES
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    if "://" not in target
]


def anchors(text: str) -> set[str]:
    """Of the headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize(("path", "target"), LINKS, ids=lambda each: str(getattr(each, "name", each)))
def test_a_link_leads_somewhere(path: object, target: str) -> None:
    file, _, anchor = target.partition("#")
    there = (path.parent / file).resolve() if file else path  # type: ignore[attr-defined]
    assert there.exists()
    if anchor:
        assert anchor in anchors(there.read_text(encoding="utf-8"))


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    for path in PAGES[1:]:
        assert path.name == "index.md" or f"({path.name})" in index
