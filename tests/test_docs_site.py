"""The site of the docs builds without a warning, and the pages that are written from the code are those of the code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from docs.site.reference import PAGES
from docs.site.stage import stage

from tests.docs_blocks import ROOT


@pytest.mark.parametrize("name", PAGES)
def test_the_reference_is_that_of_the_code(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == PAGES[name](), "run: make reference"


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """A warning is a link or an anchor that leads nowhere, or a page that the navigation names and is not there."""
    source = tmp_path / "build" / "site-source"
    stage(source)
    (tmp_path / "mkdocs.yml").write_bytes((ROOT / "mkdocs.yml").read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"],
        cwd=tmp_path,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "build" / "site" / "docs" / "troubleshooting" / "index.html").exists()


def test_every_page_of_docs_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    assert not [
        path.name for path in (ROOT / "docs").glob("*.md") if f": docs/{path.name}\n" not in navigation
    ]
