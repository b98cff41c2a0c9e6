"""Configuration, rules and alerts of Prometheus, checked by promtool (Debian: apt-get install prometheus)."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.deployment_files import PROMETHEUS, load_compose

RULES = sorted(PROMETHEUS.glob("rules/*.yml"))
RULE_TESTS = sorted(PROMETHEUS.glob("tests/*.yml"))

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing: apt-get install prometheus"
)


def run_promtool(*arguments: str | Path) -> None:
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def load_rules(name: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "rules" / name).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = load_rules("alerts.yml")


@needs_promtool
def test_the_configuration_is_valid_and_finds_every_rule_file() -> None:
    run_promtool("check", "config", PROMETHEUS / "prometheus.yml")
    run_promtool("check", "rules", *RULES)


@needs_promtool
def test_rules_record_and_alerts_fire_as_their_tests_say() -> None:
    run_promtool("test", "rules", *RULE_TESTS)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert["alert"]))
def test_an_alert_says_what_is_wrong_and_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert alert["annotations"]["summary"]
    assert len(alert["annotations"]["description"]) > 100


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert["alert"]))
def test_an_alert_has_a_test_that_fires_and_one_that_does_not(alert: dict[str, Any]) -> None:
    tests = yaml.safe_load((PROMETHEUS / "tests" / "alerts.yml").read_text())["tests"]
    about = [t["promql_expr_test"][0] for t in tests if t["name"].startswith(f"{alert['alert']} ")]
    assert any(test["exp_samples"] for test in about)
    assert any(not test["exp_samples"] for test in about)


def test_memory_limits_are_those_of_compose() -> None:
    services = load_compose()["services"]
    limits = {rule["labels"]["job"]: rule["expr"] for rule in load_rules("limits.yml")}
    for name in ("api", "encoder", "encoder-gpu", "worker"):
        gib = services[name]["mem_limit"].removesuffix("g")
        assert limits[f"segserve-{name.removesuffix('-gpu')}"] == f"{gib} * 1024^3"
