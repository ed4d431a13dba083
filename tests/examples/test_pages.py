"""The pages that people read: what they point to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from spotweld.cli.main import VERBS

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md")
    for page in ROOT.glob(pattern)
    if ".spotweld" not in page.parts
)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", (ROOT / page).read_text())
    missing = [link for link in links if "://" not in link and not (ROOT / page.parent / link).exists()]
    assert missing == []


def test_pages_name_only_targets_and_verbs_that_exist() -> None:
    targets = re.findall(r"^([a-z-]+%?):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    benches = ["NAME", *(path.stem for path in (ROOT / "bench").glob("*.py"))]
    known = {f"make {target.replace('%', name)}" for target in targets for name in benches}
    known |= {f"spotweld {verb}" for verb in VERBS} | {"spotweld --help"}
    for page in PAGES:
        named = re.findall(r"[`$\n]\s*((?:make|spotweld) [a-zA-Z-]+)", (ROOT / page).read_text())
        assert set(named) <= known, page
