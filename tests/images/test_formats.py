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
    module = (ROOT / "clients" / "web" / "pictures" / "open_files.js").read_text()
    (endings,) = re.findall(r'PICTURE_ENDINGS = "([^"]+)"', module)
    # The others are image/* to browsers.
    wanted = {s for known in IMAGE_FORMATS if known.sandboxed or known.name == "TIFF" for s in known.suffixes}
    assert wanted <= set(endings.split(","))
