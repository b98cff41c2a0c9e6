"""The fenced blocks of README.md, docs/ and the other pages, and what a comment before a block says about it.

A block is run by tests/test_docs_commands.py. The line before its fence may be one of these comments:

    <!-- slow -->             it is run by `make test-docs` only
    <!-- not run: reason -->  it is not run, and a reader of the source sees why
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "SECURITY.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *(path for path in sorted(ROOT.glob("*/README.md")) if not path.parent.name.startswith(".")),
    *(ROOT / "clients" / name / "README.md" for name in ("python", "napari")),
]
# Languages that are run.
RUN = ("bash", "python", "javascript", "go")
# Languages that are read: a request, an answer, a part of a file.
READ = ("http", "json", "yaml")
# Languages that nothing checks.
SHOWN = ("text", "html", "ini")

FENCED = re.compile(
    r"(?:^(?P<indent> *)<!-- (?P<comment>[^\n]*) -->\n)?^(?P<fence> *)```(?P<language>[^\n]*)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block. line: of its fence, from 1. comment: of the line before it, without the signs around it."""

    page: Path
    line: int
    language: str
    text: str
    comment: str

    @property
    def name(self) -> str:
        """The page's path and the line, as an editor opens it."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_slow(self) -> bool:
        return self.comment == "slow"

    @property
    def reason(self) -> str:
        """Why it is not run; empty if it is."""
        return self.comment.removeprefix("not run: ") if self.comment.startswith("not run: ") else ""


@cache
def read_blocks(page: Path) -> tuple[Block, ...]:
    """Return the fenced blocks of a page, in order, without the indent of a list that they stand in."""
    content = page.read_text()
    blocks = []
    for match in FENCED.finditer(content):
        indent = len(match["fence"])
        text = re.sub(rf"^ {{{indent}}}", "", match["text"], flags=re.MULTILINE) if indent else match["text"]
        line = content.count("\n", 0, match.start("fence")) + 1
        blocks.append(Block(page, line, match["language"], text, match["comment"] or ""))
    return tuple(blocks)
