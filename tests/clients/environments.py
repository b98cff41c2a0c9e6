"""Environments of their own for real clients, whose packages must not come near ours."""

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
from platformdirs import user_cache_path

TIMEOUT_S = 900


def install(name: str, *requirements: str, other_packages: str | None = None) -> Path:
    """Return the Python of an environment that has the requirements, made once for each set of them.

    other_packages: a folder of packages that it has too, and does not install again.

    Skips the test where they cannot be installed.
    """
    key = sha256("\n".join(requirements).encode()).hexdigest()[:12]
    folder = user_cache_path("segserve-tests") / f"{name}-{key}"
    python = folder / "bin" / "python"
    if not (folder / ".installed").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True, timeout=TIMEOUT_S)
        if other_packages is not None:
            [site_packages] = folder.glob("lib/python*/site-packages")
            (site_packages / "other.pth").write_text(other_packages)
        command = [str(python), "-m", "pip", "install", "--quiet", *requirements]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
        if done.returncode:
            pytest.skip(f"{name} cannot be installed, it is not tested: {done.stderr[-400:]}")
        (folder / ".installed").touch()
    return python


def run(python: Path, script: Path, *arguments: str, **env: str) -> str:
    """Run a script in an environment, and return what it prints. Fails with its output where it fails."""
    command = [str(python), str(script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=env or None)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout
