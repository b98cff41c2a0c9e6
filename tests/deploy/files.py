"""Where the deployment's files are, and what stands in them."""

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
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return found


def instructions(target: str) -> list[tuple[str, str]]:
    """(instruction, rest) of the Dockerfile's stage `target`, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.M))
    stages = re.split(r"^(?=FROM )", text, flags=re.M)
    stage = next(s for s in stages if re.match(rf"FROM \S+ AS {target}\n", s))
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in stage.splitlines() if line]
