"""The files of the deployment: where they are, and how to read them."""

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "Dockerfile"
PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))


def load_compose() -> dict[str, Any]:
    compose: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return compose


def instructions(target: str) -> list[tuple[str, str]]:
    """Return (instruction, rest) of each line of the Dockerfile's stage `target`; continued lines are joined."""
    text = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.M))
    stages = re.split(r"^(?=FROM )", text, flags=re.M)
    stage = next(s for s in stages if re.match(rf"FROM \S+ AS {target}\n", s))
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in stage.splitlines() if line]
