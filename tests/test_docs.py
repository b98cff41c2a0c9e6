"""README.md and docs/ name only what exists: settings, metrics, commands, options, routes, fields, paths and names."""

import ast
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from fastapi.routing import APIRoute
from pydantic import BaseModel

from segserve import __version__
from segserve.app import Service
from segserve.cli import cli
from segserve.metrics import Metrics
from segserve.models.manifest import SemanticManifest
from segserve.settings import COMMAND_VARIABLES, Settings
from segserve.wire.operations.common import validate_body
from segserve.wire.rest.api import create_api
from segserve.wire.schemas.automatic import AutomaticIn
from segserve.wire.schemas.files import FetchFileIn
from segserve.wire.schemas.images import FetchImageIn
from segserve.wire.schemas.instances import InstancesIn
from segserve.wire.schemas.jobs import JobIn
from segserve.wire.schemas.login import LinkIn
from segserve.wire.schemas.propagation import AddPromptsIn
from segserve.wire.schemas.segment import SegmentIn
from segserve.wire.schemas.semantic import SemanticIn
from segserve.wire.schemas.similar import SimilarIn
from tests import docs_blocks
from tests.docs_blocks import ROOT, Block, read_blocks

PACKAGE = ROOT / "service" / "segserve"
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted(DOCS.glob("*.md")),
]
BODIES: dict[str, type[BaseModel]] = {
    "/v1/segment": SegmentIn,
    "/v1/automatic": AutomaticIn,
    "/v1/similar": SimilarIn,
    "/v1/semantic": SemanticIn,
    "/v1/instances": InstancesIn,
    "/v1/images": FetchImageIn,
    "/v1/files": FetchFileIn,
    "/v1/jobs": JobIn,
    "/v1/jobs/JOB/prompts": AddPromptsIn,
    "/v1/links": LinkIn,
}

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
every_page_with_blocks = pytest.mark.parametrize(
    "page", docs_blocks.PAGES, ids=lambda page: str(page.relative_to(ROOT))
)


# The parts of a page.


def code_blocks(page: Path) -> list[str]:
    """The fenced blocks. A line that ends with a backslash goes on in the next one."""
    return [re.sub(r"\\\n *", "", block.text) for block in read_blocks(page)]


def code_spans(page: Path) -> list[str]:
    """What stands in backticks."""
    prose = docs_blocks.FENCED.sub("", page.read_text())
    return [re.sub(r"\s+", " ", span) for span in re.findall(r"`([^`]+)`", prose)]


def code_lines(page: Path) -> Iterator[str]:
    """Lines of blocks without their comments, and the spans."""
    for block in code_blocks(page):
        yield from (re.sub(r"(^|\s)#.*", "", line).strip() for line in block.splitlines())
    yield from code_spans(page)


# Blocks.


@every_page_with_blocks
def test_blocks_are_fenced(page: Path) -> None:
    """An indented block has no language, and no comment that says whether it is run."""
    prose = docs_blocks.FENCED.sub("", page.read_text())
    assert "```" not in prose
    assert re.findall(r"\n\n {4}[^\n]*", prose) == []


@every_page_with_blocks
def test_every_block_is_run_or_says_why_not(page: Path) -> None:
    for block in read_blocks(page):
        assert block.language in (*docs_blocks.RUN, *docs_blocks.READ, *docs_blocks.SHOWN), block.name
        assert not block.comment or block.is_slow or block.reason, block.name
        if block.language in docs_blocks.SHOWN:
            assert block.reason, f"{block.name} is shown, and nothing checks it: say why"


def blocks_of(language: str) -> list[Any]:
    blocks = [
        block for page in docs_blocks.PAGES for block in read_blocks(page) if block.language == language
    ]
    return [pytest.param(block, id=block.name) for block in blocks]


@pytest.mark.parametrize("block", blocks_of("bash"))
def test_commands_stand_apart_from_requests(block: Block) -> None:
    assert not re.search(r"^(GET|POST|DELETE|\{|->)", block.text, re.MULTILINE)


@pytest.mark.parametrize("block", blocks_of("json"))
def test_json_is_json(block: Block) -> None:
    fill_in(block.text)


@pytest.mark.parametrize("block", blocks_of("yaml"))
def test_yaml_is_yaml(block: Block) -> None:
    yaml.safe_load(block.text)


@pytest.mark.parametrize("block", blocks_of("http"))
def test_http_is_a_request_with_a_body(block: Block) -> None:
    """Its route and its body are checked below."""
    assert re.fullmatch(r"POST /v1/\S+\n\{.*\}\n", block.text, re.DOTALL)


# Commands and options.


@cache
def options_by_command() -> dict[tuple[str, ...], set[str]]:
    """The options of each command, by the words that call it: ("models", "pull")."""
    options = {}

    def collect(command: Any, words: tuple[str, ...]) -> None:
        options[words] = {
            "--help",
            *(name for param in command.params for name in (*param.opts, *param.secondary_opts)),
        }
        for name, child in getattr(command, "commands", {}).items():
            collect(child, (*words, name))

    collect(typer.main.get_command(cli), ())
    return options


def segserve_calls(page: Path) -> Iterator[tuple[str, tuple[str, ...], list[str]]]:
    """(line, words of the command, its options) of each `segserve ...` in the code of a page."""
    commands = options_by_command()
    for line in code_lines(page):
        if not re.match(r"(.*\s)?(\S*/)?segserve [a-z]", line):
            continue
        tokens = shlex.split(re.split(r"(?:^|\s)(?:\S*/)?segserve ", line, maxsplit=1)[1])
        words = tuple(tokens[:2]) if tuple(tokens[:2]) in commands else tuple(tokens[:1])
        yield line, words, [token for token in tokens if re.match(r"--?[a-zA-Z]", token)]


@every_page
def test_commands_and_their_options_exist(page: Path) -> None:
    commands = options_by_command()
    for line, words, options in segserve_calls(page):
        assert words in commands, line
        assert not set(options) - commands[words], line


@every_page
def test_options_in_prose_exist(page: Path) -> None:
    known = set().union(*options_by_command().values())
    options = [span.split()[0] for span in code_spans(page) if span.startswith("--")]
    assert not [option for option in options if option not in known]


def test_every_command_is_mentioned() -> None:
    mentioned = {words[:1] for page in PAGES for _, words, _ in segserve_calls(page)}
    assert {words for words in options_by_command() if len(words) == 1} <= mentioned


# Settings.


def option_variables() -> set[str]:
    """Variables that are read by options of commands alone."""

    def collect(command: Any) -> Iterator[str]:
        yield from (param.envvar for param in command.params if isinstance(param.envvar, str))
        for child in getattr(command, "commands", {}).values():
            yield from collect(child)

    return {*collect(typer.main.get_command(cli)), *COMMAND_VARIABLES}


@every_page
def test_settings_exist(page: Path) -> None:
    known = {f"SEGSERVE_{name.upper()}" for name in Settings.model_fields} | option_variables()
    known |= set(COMMAND_VARIABLES)
    assert set(re.findall(r"SEGSERVE_[A-Z0-9_]*[A-Z0-9]", page.read_text())) <= known


def test_every_setting_is_named_where_operators_look() -> None:
    """Defaults and meanings are in docs/settings.md, which is written from the code: tests/test_docs_site.py."""
    named = set(re.findall(r"SEGSERVE_(\w+)", (DOCS / "operate.md").read_text()))
    assert {name.upper() for name in Settings.model_fields} <= named


# Metrics.


@every_page
def test_metrics_exist(page: Path) -> None:
    known = set(re.findall(r"^# TYPE (\S+)", Metrics().expose().decode(), re.MULTILINE))
    packages = {path.parent.name for path in ROOT.glob("clients/*/src/*/__init__.py")} | {"segserve_api"}
    assert set(re.findall(r"\bsegserve_[a-z_]*[a-z]", page.read_text())) <= known | packages


# REST.


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], set[str]]:
    """The methods of each route, by the parts of its path; a parameter is "{...}"."""
    service = Service(Settings(data_dir=tmp_path_factory.mktemp("data"), redis_url="unix:///nowhere"))
    methods: dict[tuple[str, ...], set[str]] = {}
    for route in create_api(service).routes:
        if isinstance(route, APIRoute):
            methods.setdefault(tuple(route.path.split("/")), set()).update(route.methods)
    methods["", "openapi.json"] = {"GET"}
    return methods


def allowed_methods(routes: dict[tuple[str, ...], set[str]], path: str) -> set[str]:
    """The methods of a path; none where no route has it."""
    parts, found = path.split("?")[0].split("/"), set[str]()
    for route, methods in routes.items():
        same = [part == there or there.startswith("{") for part, there in zip(parts, route, strict=False)]
        if len(parts) == len(route) and all(same):
            found |= methods | ({"HEAD"} if "GET" in methods else set())
    return found


@every_page
def test_routes_exist(page: Path, routes: dict[tuple[str, ...], set[str]]) -> None:
    text = page.read_text()
    for path in re.findall(r"(?<![\w.])(?:https?://[\w.:]+)?(/v1/[\w/{}.]*[\w}])", text):
        assert allowed_methods(routes, path), path
    for method, path in re.findall(r"\b(GET|HEAD|POST|PUT|DELETE) (/[\w/{}.]*)", text):
        assert method in allowed_methods(routes, path.rstrip(".")), f"{method} {path}"


def request_bodies(page: Path) -> Iterator[tuple[str, str]]:
    """(route, JSON) of each request in a block: POST /route and a body, or curl with -d."""
    for block in code_blocks(page):
        block = re.sub(r"'\"\$\w+\"'", "ID", block)  # a variable of the shell between the quotes
        for path, body in re.findall(r"POST (/v1/\S+)\n((?:.+\n)+)", block):
            yield path, body
        for path, body in re.findall(
            r"(/v1/[^\s'?]+)(?:\?[^\s']*)?'?(?: -H '[^']*'| -o \S+| -N)* +-d '([^']*)'", block
        ):
            yield path, body


def fill_in(body: str) -> Any:
    """Parse a body of a page, with numbers for x, y, x0, ... and without what `...` stands for."""
    numbers = {"x": "1", "y": "1", "x0": "0", "y0": "0", "x1": "9", "y1": "9", "h": "9", "w": "9"}
    body = re.sub(r'(?<!["\w])([xyhw][01]?)(?!["\w])', lambda match: numbers[match[1]], body)
    return json.loads(re.sub(r", \.\.\.(?=[\]},\n])", "", body.replace("[...]", "[]")))


@every_page
def test_request_bodies_are_accepted(page: Path) -> None:
    for path, body in request_bodies(page):
        content = fill_in(body)
        if path == "/v1/segment" and "image_id" not in content:
            continue
        validate_body(BODIES[path], json.dumps(content).encode())


def test_request_bodies_of_most_routes_are_shown() -> None:
    shown = {path for page in PAGES for path, _ in request_bodies(page)}
    assert set(BODIES) <= shown


def test_the_manifest_in_the_docs_is_one() -> None:
    blocks = [
        block for block in code_blocks(DOCS / "whole-images.md") if block.strip().startswith("classes:")
    ]
    assert len(blocks) == 1
    content = yaml.safe_load(blocks[0])
    SemanticManifest.model_validate({"name": "organs", "architecture": "U-Net", "files": {}, **content})


# Paths and names.


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)", docs_blocks.FENCED.sub("", linked.read_text()), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


@cache
def file_names() -> set[str]:
    folders = ("service", "tests", "docs", "bench", "training", "examples", "deploy", "proto")
    return {path.name for folder in folders for path in (ROOT / folder).rglob("*")}


@every_page
def test_paths_exist(page: Path) -> None:
    """Paths start at the repository's root or at service/segserve; a file or a folder may be named alone."""
    missing = []
    for span in code_spans(page):
        if re.fullmatch(r"[\w./*-]+\.(py|md|proto|html|yml)", span) or re.fullmatch(r"\w[\w./-]*/", span):
            path = span.rstrip("/")
            exists = [*ROOT.glob(path), *PACKAGE.glob(path)] or path in file_names()
            missing += [] if exists else [span]
    assert missing == []


@cache
def defined_names() -> set[str]:
    """Names that the code defines: "name" of each function, class, field or constant, and "Class.name" of members."""
    names: set[str] = set()
    bases: dict[str, list[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                bases[node.name] = [base.id for base in node.bases if isinstance(base, ast.Name)]
                members = set(member_names(node))
                names |= {node.name, *members, *(f"{node.name}.{member}" for member in members)}
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names.add(node.name)
            elif isinstance(node, ast.Assign):
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    for child, parents in bases.items():
        for parent in parents:
            names |= {child + name[len(parent) :] for name in names if name.startswith(f"{parent}.")}
    return names


def member_names(node: ast.ClassDef) -> Iterator[str]:
    for child in ast.walk(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child.name
        elif isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
            yield child.target.id
        elif isinstance(child, ast.Attribute) and isinstance(child.ctx, ast.Store):
            yield child.attr


@pytest.mark.parametrize("page", ["architecture.md", "glossary.md"])
def test_names_of_code_exist(page: str) -> None:
    """`Class`, `Class.member` and `function_name`, with or without a module before it."""
    unknown = []
    for span in code_spans(DOCS / page):
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", span) or span.endswith((".py", ".yaml")):
            continue
        parts = span.split(".")
        name = ".".join(parts[-2:]) if parts[-2:-1] and parts[-2][0].isupper() else parts[-1]
        if name not in defined_names() and not name.startswith("SEGSERVE_"):
            unknown.append(span)
    assert unknown == []


def test_names_are_in_the_file_beside_them() -> None:
    """`name` (`file.py`), `name` in `file.py`."""
    text = (DOCS / "architecture.md").read_text()
    pairs = re.findall(r"`(\w+)[\w.]*`\s+(?:\(|in\s)`([\w/]+\.py)`", text)
    assert len(pairs) > 20
    for name, file in pairs:
        assert re.search(
            rf"^\s*(class|def|async def) {name}\b", (PACKAGE / file).read_text(), re.MULTILINE
        ), name


def test_the_architecture_names_every_package() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - {"v1"}
    spans = set(code_spans(DOCS / "architecture.md"))
    assert not [name for name in packages if f"{name}/" not in spans]


def test_the_version_is_in_the_changelog_and_in_the_citation() -> None:
    assert re.search(rf"^## {re.escape(__version__)} ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__


def test_the_citation_follows_its_schema() -> None:
    """By the schema of the Citation File Format that check-jsonschema carries."""
    check = [
        Path(sys.executable).with_name("check-jsonschema"),
        "--builtin-schema",
        "vendor.citation-file-format",
    ]
    done = subprocess.run([*check, ROOT / "CITATION.cff"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_glossary_is_alphabetical() -> None:
    terms = re.findall(r"^- \*\*([^*]+)\*\*", (DOCS / "glossary.md").read_text(), re.MULTILINE)
    assert len(terms) > 40
    assert terms == sorted(terms, key=str.casefold)
