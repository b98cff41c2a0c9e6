"""The wheel of `make wheel`: what is in it, and that it serves without the repository."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from segserve import __version__
from segserve.errors import MissingDependency
from tests.serving import Server

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make wheel` does, by the build backend that is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", folder, ROOT], check=True, timeout=300)
    (built,) = folder.glob("segserve-*.whl")
    return built


def test_the_wheel_holds_all_data_of_the_package(wheel: Path) -> None:
    package = ROOT / "service" / "segserve"
    data = {
        path.relative_to(package.parent).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    for part in ("web", "js/src", "js/vendor"):
        files = [path for path in (ROOT / "clients" / part).rglob("*") if path.is_file()]
        data |= {
            f"segserve/{path.relative_to(ROOT).as_posix()}"
            for path in files
            if "__pycache__" not in path.parts
        }
    assert {"segserve/models/built_in/starter/model.yaml", "segserve/clients/web/index.html"} <= data
    assert data <= set(zipfile.ZipFile(wheel).namelist())


def test_the_client_is_in_it_and_has_a_wheel_of_its_own(wheel: Path, tmp_path: Path) -> None:
    client = ROOT / "clients" / "python"
    modules = {
        path.relative_to(client / "src").as_posix()
        for path in client.rglob("*")
        if path.is_file() and path.parent.name == "segserve_client" and "__pycache__" not in path.parts
    }
    assert "segserve_client/py.typed" in modules
    assert modules <= set(zipfile.ZipFile(wheel).namelist())
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", tmp_path, client], check=True, timeout=300)
    (alone,) = tmp_path.glob(f"segserve_client-{__version__}-*.whl")
    names = {name for name in zipfile.ZipFile(alone).namelist() if ".dist-info/" not in name}
    assert names == modules
    program = "import segserve_client, sys; print(sorted(name for name in sys.modules if name == 'segserve'))"
    only = {"PYTHONPATH": str(alone), "PATH": os.environ["PATH"]}
    assert (
        subprocess.check_output([sys.executable, "-c", program], text=True, env=only, cwd=tmp_path) == "[]\n"
    )


def test_the_wheel_serves_on_its_own(
    wheel: Path, tmp_path: Path, nuclei: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site]
    subprocess.run([*pip, wheel], check=True, timeout=300)
    monkeypatch.setenv("PYTHONPATH", str(site))
    where = [sys.executable, "-c", "import segserve; print(segserve.__file__)"]
    assert subprocess.check_output(where, text=True, cwd=tmp_path).startswith(os.fspath(site))
    server = Server(tmp_path / "data")
    try:
        server.wait_ready()
        answer = server.click(server.upload(nuclei), 413, 190)
        assert answer.status_code == 200
        assert answer.json()["results"][0]["masks"][0]["score"] > 0.5
        (address,) = re.findall(r'src="(/clients/[^"]+/main\.js)"', server.client.get("/").text)
        assert server.client.get(address).status_code == 200
        assert server.client.get("/docs").status_code == 200
    finally:
        assert server.stop() == 0


def test_a_missing_extra_is_told_with_the_packages_that_it_needs() -> None:
    """Not `segserve[video]`: no registry has segserve."""
    assert "pip install 'av>=" in (MissingDependency("PyAV", "video", "Reading a video").remedy or "")
