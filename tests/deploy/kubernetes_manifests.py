"""The manifests of deploy/kubernetes, as kustomize renders them, and what they say."""

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from tests.deploy.deployment_files import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
COMPONENT = "app.kubernetes.io/component"  # label that tells the parts apart

Manifest: TypeAlias = dict[str, Any]


@cache
def render(folder: str) -> tuple[Manifest, ...]:
    """Return what kustomize makes of a folder of deploy/kubernetes. kubectl is the official one, out of a wheel."""
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run([kubectl, "kustomize", KUBERNETES / folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # warnings, such as of fields that are deprecated
    return tuple(yaml.safe_load_all(done.stdout))


def overlay(name: str) -> tuple[Manifest, ...]:
    return render(f"overlays/{name}")


def of_kind(manifests: tuple[Manifest, ...], kind: str) -> dict[str, Manifest]:
    """Return the manifests of a kind by their names."""
    return {each["metadata"]["name"]: each for each in manifests if each["kind"] == kind}


def pod_templates(manifests: tuple[Manifest, ...]) -> dict[str, Manifest]:
    """Return the pod templates by their component."""
    found = {}
    for each in manifests:
        if each["kind"] in ("Deployment", "StatefulSet"):
            template = each["spec"]["template"]
        elif each["kind"] == "CronJob":
            template = each["spec"]["jobTemplate"]["spec"]["template"]
        else:
            continue
        found[template["metadata"]["labels"][COMPONENT]] = template
    return found


def container(template: Manifest) -> Manifest:
    (only,) = template["spec"]["containers"]
    return dict(only)


def environment(manifests: tuple[Manifest, ...], component: str) -> dict[str, str]:
    """Return the variables of a component's container. A secret's value is its name; $(NAME) is filled in."""
    only = container(pod_templates(manifests)[component])
    variables: dict[str, str] = {}
    for source in only.get("envFrom", []):
        variables |= of_kind(manifests, "ConfigMap")[source["configMapRef"]["name"]]["data"]
    for entry in only.get("env", []):
        if "value" in entry:
            value = entry["value"]
            for name, known in variables.items():
                value = value.replace(f"$({name})", known)
        elif "resourceFieldRef" in entry["valueFrom"]:
            kind, resource = entry["valueFrom"]["resourceFieldRef"]["resource"].split(".")
            value = only["resources"][kind][resource]
        else:
            value = entry["valueFrom"]["secretKeyRef"]["key"]
        variables[entry["name"]] = value
    return variables


def ports_by_name(template: Manifest) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container(template).get("ports", [])}
