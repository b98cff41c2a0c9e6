"""The table of formats is what the documentation lists and what the page's file picker offers."""

import re
from pathlib import Path

from segserve.images.formats import IMAGE_FORMATS

ROOT = Path(__file__).parents[2]


def test_the_documentation_lists_every_format() -> None:
    text = (ROOT / "docs" / "formats.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \| (\.[^|]+) \|", text, re.MULTILINE)
    pictures = [row for row in rows if row[0] in {known.name for known in IMAGE_FORMATS}]
    assert pictures == [(known.name, " ".join(known.suffixes)) for known in IMAGE_FORMATS]


def test_the_page_offers_every_format() -> None:
    page = (ROOT / "service" / "segserve" / "wire" / "page.html").read_text()
    offered = re.findall(r'type="file"[^>]*accept="([^"]+)"', page)
    assert offered
    for accept in offered:
        names = accept.split(",")
        assert "image/*" in names  # the formats of browsers
        missing = {
            s for known in IMAGE_FORMATS if known.sandboxed or known.name == "TIFF" for s in known.suffixes
        }
        assert missing <= set(names)
