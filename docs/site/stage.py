"""Copy the pages and what they link to into a folder, laid out as the repository is, for mkdocs to build.

python -m docs.site.stage FOLDER

So links between pages are the same on the site and on the repository's own viewer.
"""

import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGES = (
    "*.md",
    "docs/*.md",
    "clients/*/*.md",
    "deploy/*.md",
    "bench/*.md",
    "bench/results/*.md",
    "training/*.md",
)


def linked_files(page: Path) -> set[Path]:
    """Return the files of the repository that a page links to or shows."""
    targets = re.findall(r"\]\(([^)#:]+)", page.read_text())
    files = {(page.parent / target).resolve() for target in targets}
    return {path for path in files if path.is_file() and path.is_relative_to(ROOT)}


def stage(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    pages = {path for pattern in PAGES for path in ROOT.glob(pattern)}
    for path in pages.union(*map(linked_files, pages)):
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


if __name__ == "__main__":
    stage(Path(sys.argv[1]))
