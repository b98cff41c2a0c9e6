"""The page as a file: well-formed, self-contained, and in step with the routes. tests/clients drives it."""

import re
from html.parser import HTMLParser
from pathlib import Path

from segserve.wire.rest.pages import PAGE

VOID = {"meta", "link", "input", "br", "img"}


class Checker(HTMLParser):
    """Fails on a tag closed out of turn; collects ids and what `for` and `aria-...by` refer to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            elif name in ("for", "aria-labelledby", "aria-describedby"):
                self.references.add(str(value))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"


def test_the_page_is_well_formed_and_its_ids_exist() -> None:
    text = PAGE.read_text()
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))
    used = set(re.findall(r'\$\("([\w-]+)"\)', text)) | checker.references
    assert used
    assert used <= set(checker.ids)


def test_the_page_loads_nothing_from_elsewhere() -> None:
    text = PAGE.read_text()
    urls = re.findall(r"""(?:https?:)?//[\w-]+\.[^\s"'`<>]+""", text)
    assert [url for url in urls if "://www.w3.org/" not in url] == []
    assert not re.search(r"<(script|img|iframe)[^>]*\ssrc=|@import|<link[^>]*stylesheet", text)


def test_the_page_calls_routes_that_exist(tmp_path: Path) -> None:
    from segserve.app import Service
    from segserve.settings import Settings
    from segserve.wire.rest.api import create_api

    mentioned = set(re.findall(r"/v1/[\w/.-]*\w", PAGE.read_text()))
    assert {"/v1/images", "/v1/models", "/v1/segment"} <= mentioned
    assert mentioned <= set(create_api(Service(Settings(data_dir=tmp_path))).openapi()["paths"])
