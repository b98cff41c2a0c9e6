"""Clients generated from the OpenAPI document: they type-check, and use a real service without a cast."""

import json
import os
import re
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from platformdirs import user_cache_path

from tests.serving import Server

pytestmark = pytest.mark.clients

HERE = Path(__file__).parent
PYTHON_GENERATOR = "openapi-python-client==0.29.1"
TIMEOUT_S = 300
# What the Python generator leaves out of an operation: a picture as the answer, and any kind of bytes as the body.
LEFT_OUT = {
    "POST /v1/images",
    "POST /v1/files",
    "POST /v1/segment.png",
    "POST /v1/images/{image_id}/segment.png",
    "GET /v1/images/{image_id}/preview",
    "GET /v1/files/{file_id}/frames/{frame}",
    "GET /v1/images/{image_id}/tiles/{level}/{x}/{y}",
}


@pytest.fixture(scope="module")
def document(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("openapi") / "openapi.json"
    path.write_bytes(server.client.get("/openapi.json").content)
    return path


def run(*command: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command. Fails with its output where it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done


def install_node_modules() -> Path:
    """Return a folder with the packages of typescript/package.json, installed once per version of that file."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed: the TypeScript client is not tested")
    package = HERE / "typescript" / "package.json"
    folder = user_cache_path("segserve-tests") / f"npm-{sha256(package.read_bytes()).hexdigest()[:12]}"
    if not (folder / ".installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(package, folder)
        command = [npm, "install", "--no-audit", "--no-fund", "--loglevel", "error"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S)
        if done.returncode:
            pytest.skip(f"npm install failed, the TypeScript client is not tested: {done.stderr[-400:]}")
        (folder / ".installed").touch()
    return folder / "node_modules"


def install_python_generator() -> Path:
    """Return the programs of an environment that has PYTHON_GENERATOR, installed once: it needs an older typer."""
    folder = user_cache_path("segserve-tests") / PYTHON_GENERATOR.replace("==", "-")
    if not (folder / ".installed").exists():
        run(sys.executable, "-m", "venv", "--clear", folder, cwd=HERE)
        command = [folder / "bin" / "pip", "install", "--quiet", PYTHON_GENERATOR]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
        if done.returncode:
            pytest.skip(f"pip install failed, the Python client is not tested: {done.stderr[-400:]}")
        (folder / ".installed").touch()
    return folder / "bin"


def check_first_click(done: subprocess.CompletedProcess[str], server: Server) -> None:
    """Check what first_click.ts and first_click.py print: they did the same with the same picture."""
    result: dict[str, Any] = json.loads(done.stdout)
    image = server.client.get(f"/v1/images/{result['image_id']}").json()
    assert result.pop("area") > 1000
    assert result == {
        "image_id": image["image_id"],
        "mask": f"rle of {image['height']} x {image['width']}",
        "polygon": "polygon of 1 rings",
        "state": "succeeded",
        "refusal": "urn:segserve:problem:image_not_found",
    }


def test_typescript(document: Path, server: Server, nuclei: Path, tmp_path: Path) -> None:
    modules = install_node_modules()
    for name in ("first_click.ts", "package.json", "tsconfig.json"):
        shutil.copy(HERE / "typescript" / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(modules)
    run(modules / ".bin" / "openapi-typescript", document, "-o", "api.d.ts", cwd=tmp_path)
    run(modules / ".bin" / "tsc", "--project", ".", cwd=tmp_path)
    check_first_click(run("node", "built/first_click.js", server.url, nuclei, cwd=tmp_path), server)


def test_python(document: Path, server: Server, nuclei: Path, tmp_path: Path) -> None:
    tools = install_python_generator()
    config = HERE / "python" / "generator.yaml"
    generate = ("generate", "--path", document, "--output-path", "generated", "--config", config)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"  # it formats what it writes by ruff
    generated = run(tools / "openapi-python-client", *generate, cwd=tmp_path, PATH=path)
    assert set(re.findall(r"WARNING parsing (.*) within", generated.stderr)) == LEFT_OUT, generated.stderr
    script = HERE / "python" / "first_click.py"
    found = {"MYPYPATH": str(tmp_path / "generated"), "PYTHONPATH": str(tmp_path / "generated")}
    settings = ("--config-file", os.devnull, "--strict", "--follow-imports", "silent")
    run(
        sys.executable,
        "-m",
        "mypy",
        *settings,
        "--cache-dir",
        tmp_path / "mypy",
        script,
        cwd=tmp_path,
        **found,
    )
    check_first_click(run(sys.executable, script, server.url, nuclei, cwd=tmp_path, **found), server)
