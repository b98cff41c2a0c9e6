"""deploy/kubernetes: rendered by kustomize, valid by the schemas of two versions of Kubernetes and of KEDA.

It has no more rights and connections than needed, and settings and metrics that exist.
"""

import os
import re
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from segserve.identity.tenant_policies import TenantPolicies, TenantPolicy
from segserve.metrics import Metrics
from segserve.settings import COMMAND_VARIABLES, Settings, load_settings
from segserve.wire.server import MAX_LATE_DRAIN_S, SHUTDOWN_GRACE_S
from tests.deploy.deployment_files import ROOT, load_compose
from tests.deploy.kubernetes_manifests import (
    COMPONENT,
    OVERLAYS,
    Manifest,
    container,
    environment,
    of_kind,
    overlay,
    pod_templates,
    ports_by_name,
    render,
)
from tests.deploy.test_prometheus import needs_promtool, run_promtool

VERSIONS = ("1.33", "1.37")  # the oldest that is meant, and the newest that the package knows
SEGSERVE = ("api", "encoder", "worker")
# Kinds that extensions bring. KEDA's has a test of its own; the operator of Prometheus has its schema in no package.
EXTENSIONS = ("ScaledObject", "PodMonitor")
# Time in which endpoints, DNS (the balancer holds an answer for 5 s) and the balancer's checks (3 s) forget a pod.
MIN_API_DRAIN_S = 10
Arrow = tuple[str, str, int]  # from, to, port

every_overlay = pytest.mark.parametrize("name", OVERLAYS)


def all_manifests() -> list[Manifest]:
    """Return the manifests of all overlays, and of the component that none of them has, each once."""
    found = [each for name in OVERLAYS for each in overlay(name)]
    return [each for number, each in enumerate(found) if each not in found[:number]]


def test_there_are_three_overlays() -> None:
    assert OVERLAYS == ["cpu", "gpu", "s3"]


@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_follow_the_schemas(version: str) -> None:
    for manifest in all_manifests():
        if manifest["kind"] not in EXTENSIONS:
            kubernetes_validate.validate(manifest, version, strict=True)


@every_overlay
def test_scaled_objects_follow_the_schema_of_keda(name: str) -> None:
    """What the schema does not know would be dropped."""
    from cloudcoil.models.keda.v1alpha1 import ScaledObject  # a second of imports, which only this test needs

    for scaled_object, manifest in of_kind(overlay(name), "ScaledObject").items():
        read = ScaledObject.model_validate(manifest)
        again = read.model_dump(mode="json", by_alias=True, exclude_unset=True)
        assert again["spec"] == manifest["spec"], scaled_object


# Rights.


@every_overlay
def test_no_container_has_more_rights_than_it_needs(name: str) -> None:
    for component, template in pod_templates(overlay(name)).items():
        pod, only = template["spec"], container(template)
        assert pod["automountServiceAccountToken"] is False, component
        assert pod["serviceAccountName"] == component
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert only["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & pod.keys()
        assert not [volume for volume in pod.get("volumes", []) if "hostPath" in volume]


@every_overlay
def test_service_accounts_have_no_token_and_the_namespace_refuses_more(name: str) -> None:
    manifests = overlay(name)
    accounts = of_kind(manifests, "ServiceAccount")
    assert accounts.keys() == pod_templates(manifests).keys()
    assert all(account["automountServiceAccountToken"] is False for account in accounts.values())
    (namespace,) = of_kind(manifests, "Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    namespaced = [each for each in manifests if each["kind"] != "Namespace"]
    assert {each["metadata"]["namespace"] for each in namespaced} == {"segserve"}
    assert not {each["kind"] for each in manifests} & {"Role", "ClusterRole", "RoleBinding", "Secret"}


@every_overlay
def test_images_run_as_the_user_that_they_are_built_for(name: str) -> None:
    for component in (*SEGSERVE, "models"):
        assert pod_templates(overlay(name))[component]["spec"]["securityContext"]["runAsUser"] == 10001
    assert (ROOT / "Dockerfile").read_text().count("USER 10001:10001") == 2


@every_overlay
def test_images_are_those_of_compose(name: str) -> None:
    services = load_compose()["services"]
    compose = {"balancer": "balancer", "redis-cache": "redis", "redis-jobs": "redis-jobs", "api": "api"}
    for component, service in compose.items():
        assert container(pod_templates(overlay(name))[component])["image"] == services[service]["image"]
    # One name each: who names a registry for one image would name it for the other.
    encoder = container(pod_templates(overlay(name))["encoder"])["image"]
    assert encoder == ("segserve-gpu:gpu" if name == "gpu" else services["encoder"]["image"])


@every_overlay
def test_memory_is_bounded_and_the_cpu_is_asked_for(name: str) -> None:
    for component, template in pod_templates(overlay(name)).items():
        resources = container(template)["resources"]
        assert {"cpu", "memory"} <= resources["requests"].keys(), component
        assert "memory" in resources["limits"], component
        assert "cpu" not in resources["limits"], "it would throttle clicks"
    gpus = container(pod_templates(overlay(name))["encoder"])["resources"]["limits"].get("nvidia.com/gpu")
    assert gpus == ("1" if name == "gpu" else None)


@every_overlay
def test_memory_limits_are_those_of_compose(name: str) -> None:
    """deploy/prometheus/rules/limits.yml has the same, and alerts by them."""
    services = load_compose()["services"]
    for component in SEGSERVE:
        limit = container(pod_templates(overlay(name))[component])["resources"]["limits"]["memory"]
        assert limit == services[component]["mem_limit"].replace("g", "Gi")


# Names that must be someone's.


@every_overlay
def test_what_selects_pods_finds_some(name: str) -> None:
    manifests = overlay(name)
    templates = pod_templates(manifests)
    selecting = [
        each for each in manifests if each["kind"] in ("Service", "PodDisruptionBudget", "PodMonitor")
    ]
    assert len(selecting) >= 9
    for each in selecting:
        selector = each["spec"]["selector"]
        labels = selector.get("matchLabels", selector)
        assert labels.items() <= templates[labels[COMPONENT]]["metadata"]["labels"].items()
    for service in of_kind(manifests, "Service").values():
        ports = ports_by_name(templates[service["spec"]["selector"][COMPONENT]])
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"], "what is called is what is listened to"
    for monitor in of_kind(manifests, "PodMonitor").values():
        ports = ports_by_name(templates[monitor["spec"]["selector"]["matchLabels"][COMPONENT]])
        assert monitor["spec"]["podMetricsEndpoints"][0]["port"] in ports


@every_overlay
def test_scaled_objects_scale_what_is_there_and_nobody_else_does(name: str) -> None:
    deployments = of_kind(overlay(name), "Deployment")
    for scaled in of_kind(overlay(name), "ScaledObject").values():
        target = deployments[scaled["spec"]["scaleTargetRef"]["name"]]
        assert "replicas" not in target["spec"], "kubectl apply would undo what KEDA does"
    lowest = {
        n: each["spec"]["minReplicaCount"] for n, each in of_kind(overlay(name), "ScaledObject").items()
    }
    assert (
        lowest
        == {
            "cpu": {},
            "s3": {"api": 2, "encoder": 1, "worker": 1},
            "gpu": {"api": 2, "encoder": 0, "worker": 1},
        }[name]
    )


@every_overlay
def test_what_may_be_disturbed_one_by_one(name: str) -> None:
    budgets = of_kind(overlay(name), "PodDisruptionBudget")
    assert budgets.keys() == {*SEGSERVE, "balancer"}
    assert all(budget["spec"]["maxUnavailable"] == 1 for budget in budgets.values())


# Settings.


@every_overlay
@pytest.mark.parametrize("component", SEGSERVE)
def test_every_variable_is_a_setting_and_has_a_value_that_it_may_have(
    name: str, component: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {
        key: value
        for key, value in environment(overlay(name), component).items()
        if key.startswith("SEGSERVE_")
    }
    known = {f"SEGSERVE_{field.upper()}" for field in Settings.model_fields}
    assert variables.keys() <= known | set(COMMAND_VARIABLES)
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    settings = load_settings()
    assert settings.host == "0.0.0.0"
    assert settings.is_exposed
    assert (component == "api") == settings.asks_for_keys
    # Services are variables too, unless told otherwise: the one named segserve would be SEGSERVE_PORT=tcp://...
    assert pod_templates(overlay(name))[component]["spec"]["enableServiceLinks"] is False


@every_overlay
def test_all_processes_share_what_they_must(name: str) -> None:
    manifests = overlay(name)
    shared = [environment(manifests, component) for component in SEGSERVE]
    for variable in ("SEGSERVE_REDIS_URL", "SEGSERVE_OBJECT_STORE", "SEGSERVE_MODELS_DIR", "AWS_REGION"):
        assert len({each.get(variable) for each in shared}) == 1, variable
    assert ("SEGSERVE_OBJECT_STORE" in shared[0]) == (name != "cpu")
    volumes = [pod_templates(manifests)[component]["spec"]["volumes"][0] for component in SEGSERVE]
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    assert all((volume == claim) == (name == "cpu") for volume in volumes)


@every_overlay
def test_ports_are_those_that_the_processes_listen_on(name: str) -> None:
    manifests = overlay(name)
    templates = pod_templates(manifests)
    assert ports_by_name(templates["api"]) == {"http": 8000, "grpc": 8001, "operators": 8002}
    api = environment(manifests, "api")
    assert (api["SEGSERVE_GRPC_PORT"], api["SEGSERVE_OPERATOR_PORT"]) == ("8001", "8002")
    assert ports_by_name(templates["encoder"]) == {"grpc": 8010, "operators": 8011}  # defaults of the command
    assert ports_by_name(templates["worker"]) == {"operators": 8012}


# Probes, and the way out.


@every_overlay
@pytest.mark.parametrize("component", SEGSERVE)
def test_probes_mean_what_they_are_for(name: str, component: str) -> None:
    only = container(pod_templates(overlay(name))[component])
    startup, ready, alive = (only[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness"))
    # Being busy, or without Redis, is no reason to be killed: /livez asks for neither.
    assert startup["httpGet"] == alive["httpGet"] == {"path": "/livez", "port": "operators"}
    assert ready["httpGet"] == {"path": "/readyz", "port": "operators"}
    assert alive["periodSeconds"] * alive["failureThreshold"] >= 60
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 120


@every_overlay
@pytest.mark.parametrize("component", SEGSERVE)
def test_a_pod_that_goes_is_left_first_and_has_time_to_end(name: str, component: str) -> None:
    template = pod_templates(overlay(name))[component]
    drain_s = float(environment(overlay(name), component).get("SEGSERVE_DRAIN_S", 0))
    late_s = MAX_LATE_DRAIN_S if drain_s else 0
    assert drain_s >= {"api": MIN_API_DRAIN_S, "encoder": 5, "worker": 0}[component]
    assert template["spec"]["terminationGracePeriodSeconds"] >= drain_s + late_s + SHUTDOWN_GRACE_S + 10
    strategy = of_kind(overlay(name), "Deployment")[component]["spec"]["strategy"]["rollingUpdate"]
    surges = {"maxSurge": 1, "maxUnavailable": 0}
    takes_turns = {"maxSurge": 0, "maxUnavailable": 1}  # a second GPU is rarely free
    assert strategy == (takes_turns if (name, component) == ("gpu", "encoder") else surges)


@every_overlay
def test_the_balancer_ends_with_its_last_connection(name: str) -> None:
    template = pod_templates(overlay(name))["balancer"]
    config = of_kind(overlay(name), "ConfigMap")[
        next(n for n in of_kind(overlay(name), "ConfigMap") if n.startswith("balancer-"))
    ]["data"]["haproxy.cfg"]
    assert config == (ROOT / "deploy" / "haproxy" / "haproxy.cfg").read_text()
    (_, wait_s) = container(template)["lifecycle"]["preStop"]["exec"]["command"]
    (hard_stop_s,) = re.findall(r"hard-stop-after (\d+)s", config)
    assert template["spec"]["terminationGracePeriodSeconds"] >= int(wait_s) + int(hard_stop_s)
    assert environment(overlay(name), "balancer")["API_NAME"] == "api.segserve.svc.cluster.local"


# Connections.


def needed_arrows(manifests: tuple[Manifest, ...]) -> set[Arrow]:
    """Return who connects to whom at which port, as the settings and the balancer's configuration say."""
    arrows: set[Arrow] = set()
    for component in SEGSERVE:
        for value in environment(manifests, component).values():
            for host, port in re.findall(r"(?:@|dns:///)([a-z-]+):(\d+)", value):
                arrows.add((component, host, int(port)))
    config = (ROOT / "deploy" / "haproxy" / "haproxy.cfg").read_text()
    ports = re.findall(r'server-template .*"\$\{API_NAME-api\}":(\d+)', config)
    ports += re.findall(r"check port (\d+)", config)
    return arrows | {("balancer", "api", int(port)) for port in ports}


def allowed_arrows(manifests: tuple[Manifest, ...], way: str) -> set[Arrow]:
    """Return the arrows between pods that the policies allow. way: "ingress" or "egress"."""
    arrows: set[Arrow] = set()
    for policy in of_kind(manifests, "NetworkPolicy").values():
        mine = policy["spec"]["podSelector"].get("matchLabels", {}).get(COMPONENT)
        for rule in policy["spec"].get(way, []):
            for peer in rule["from" if way == "ingress" else "to"]:
                if "namespaceSelector" in peer or "ipBlock" in peer:
                    continue
                other = peer["podSelector"]["matchLabels"][COMPONENT]
                pair = (other, mine) if way == "ingress" else (mine, other)
                arrows |= {(*pair, port["port"]) for port in rule["ports"]}
    return arrows


@every_overlay
def test_only_the_connections_that_are_made_are_allowed(name: str) -> None:
    manifests = overlay(name)
    needed = needed_arrows(manifests)
    assert ("api", "redis-cache", 6379) in needed
    assert ("encoder", "redis-jobs", 6379) not in needed
    assert allowed_arrows(manifests, "ingress") == needed
    assert allowed_arrows(manifests, "egress") == needed


# Labels of pods that are not ours, as CoreDNS's own manifests and kube-prometheus-stack set them.
FOREIGN_PODS = {
    "kube-system": {"k8s-app": "kube-dns", "pod-template-hash": "5dd5756b68"},
    "monitoring": {"app.kubernetes.io/name": "prometheus", "operator.prometheus.io/name": "k8s"},
}


def selects(selector: Manifest, labels: dict[str, str]) -> bool:
    """Return whether a selector of labels selects what has these."""
    in_lists = all(
        each["operator"] == "In" and labels.get(each["key"]) in each["values"]
        for each in selector.get("matchExpressions", [])
    )
    return in_lists and selector.get("matchLabels", {}).items() <= labels.items()


@every_overlay
def test_peers_outside_the_namespace_are_pods_that_exist(name: str) -> None:
    """Kustomize adds our label to selectors: with it a peer elsewhere would be nobody."""
    peers = [
        (policy["metadata"]["name"], peer)
        for policy in of_kind(overlay(name), "NetworkPolicy").values()
        for way, side in (("ingress", "from"), ("egress", "to"))
        for rule in policy["spec"].get(way, [])
        for peer in rule[side]
        if "namespaceSelector" in peer
    ]
    assert "dns" in {policy for policy, _ in peers}
    for policy, peer in peers:
        namespace = peer["namespaceSelector"]["matchLabels"].get("kubernetes.io/metadata.name")
        if namespace is None:
            assert "podSelector" not in peer, policy  # a front door: all pods of the namespace
        else:
            assert selects(peer["podSelector"], FOREIGN_PODS[namespace]), (policy, peer)


@every_overlay
def test_everything_else_is_denied(name: str) -> None:
    policies = of_kind(overlay(name), "NetworkPolicy")
    denial = policies["default-deny"]["spec"]
    assert denial["podSelector"].get("matchLabels", {}) in ({}, {"app.kubernetes.io/name": "segserve"})
    assert denial["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in denial
    assert "egress" not in denial
    outside = {
        each["metadata"]["name"]
        for each in policies.values()
        if any("ipBlock" in str(rule) for rule in each["spec"].get("egress", []))
    }
    assert outside == {"models"} | ({"object-store"} if name != "cpu" else set())
    ends = {template["metadata"]["labels"][COMPONENT] for template in pod_templates(overlay(name)).values()}
    ruled = {
        policy["spec"]["podSelector"].get("matchLabels", {}).get(COMPONENT) for policy in policies.values()
    }
    assert ends <= ruled, "every kind of pod has a policy of its own"


@every_overlay
def test_prometheus_reaches_the_ports_that_it_scrapes(name: str) -> None:
    manifests = overlay(name)
    for monitor in of_kind(manifests, "PodMonitor").values():
        component = monitor["spec"]["selector"]["matchLabels"][COMPONENT]
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": f"segserve-{component}"}]
        (rule,) = of_kind(manifests, "NetworkPolicy")[f"metrics-{component}"]["spec"]["ingress"]
        assert [p["port"] for p in rule["ports"]] == [
            ports_by_name(pod_templates(manifests)[component])[endpoint["port"]]
        ]


# Queries of KEDA.


def queries() -> dict[str, str]:
    """Return the queries by the scaled object and the trigger's number."""
    return {
        f"{name}-{number}": trigger["metadata"]["query"]
        for name, scaled in of_kind(overlay("gpu"), "ScaledObject").items()
        for number, trigger in enumerate(scaled["spec"]["triggers"])
        if trigger["type"] == "prometheus"
    }


def test_queries_name_metrics_that_exist() -> None:
    families = set(re.findall(r"^# TYPE (segserve_\w+)", Metrics().expose().decode(), re.MULTILINE))
    named = {
        re.sub(r"_bucket$", "", name)
        for query in queries().values()
        for name in re.findall(r"segserve_\w+", query)
    }
    assert named == {"segserve_encodes_in_progress", "segserve_stage_seconds", "segserve_active_jobs"}
    assert named <= families


def waited_for(role: str, images: int) -> dict[str, str]:
    labels = f'namespace="segserve", job="segserve-{role}", instance="{role}"'
    return {f"segserve_encodes_in_progress{{{labels}}}": f"{images}x20"}


def waits(**counts: str) -> dict[str, str]:
    """Return the buckets of the time that images wait: counts by their upper ends."""
    labels = 'namespace="segserve", job="segserve-encoder", stage="wait"'
    ends = {"one": "1", "two": "2", "inf": "+Inf"}
    return {
        f'segserve_stage_seconds_bucket{{{labels}, le="{ends[name]}"}}': values
        for name, values in counts.items()
    }


def jobs(priority: str, count: int) -> dict[str, str]:
    """Return what two replicas say, each of which counts all jobs."""
    labels = f'namespace="segserve", job="segserve-api", priority="{priority}", state="queued"'
    return {f'segserve_active_jobs{{{labels}, instance="{instance}"}}': f"{count}x20" for instance in "ab"}


@needs_promtool
@pytest.mark.parametrize(
    ("query", "series", "value"),
    [
        ("encoder-0", {}, 0),
        ("encoder-0", waited_for("api", 0), 0),
        ("encoder-0", waited_for("api", 2) | waited_for("worker", 3) | waited_for("encoder", 5), 5),
        ("encoder-1", {}, 0),
        ("encoder-1", waits(one="0x20", two="0x20", inf="0x20"), 0),
        ("encoder-1", waits(one="0x20", two="0+10x20", inf="0+10x20"), 1.95),
        ("worker-0", {}, 0),
        ("worker-0", jobs("interactive", 1) | jobs("batch", 4), 5),
    ],
)
def test_queries_say_what_is_wanted(query: str, series: dict[str, str], value: float, tmp_path: Path) -> None:
    """Prometheus evaluates them. With nothing to do, or nobody who says so, they are 0 and not nothing."""
    test = {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": queries()[query], "eval_time": "5m", "exp_samples": [{"labels": "{}", "value": value}]}
        ],
    }
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump({"evaluation_interval": "15s", "tests": [test]}))
    run_promtool("test", "rules", file)


# ingress-nginx, which hashes itself.


def render_in(folder: Path, kustomization: str) -> tuple[Manifest, ...]:
    """Return what kustomize makes of an overlay that lies elsewhere. It takes no absolute paths."""
    folder.mkdir(exist_ok=True)
    deploy = os.path.relpath(ROOT / "deploy", folder)
    (folder / "kustomization.yaml").write_text(kustomization.replace("../segserve/deploy", deploy))
    return render(str(folder))


@pytest.fixture(scope="module")
def with_ingress_nginx(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, ...]:
    components = [
        f"../segserve/deploy/kubernetes/components/{name}" for name in ("shared-folder", "ingress-nginx")
    ]
    overlay = {
        "namespace": "segserve",
        "resources": ["../segserve/deploy/kubernetes/base"],
        "components": components,
    }
    return render_in(tmp_path_factory.mktemp("overlay"), yaml.safe_dump(overlay))


def read_overlay(folder: str) -> str:
    """Return the overlay of this folder that docs/kubernetes.md shows."""
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    (block,) = re.findall(rf"```yaml\n(# {folder}/.*?)```", page, re.DOTALL)
    return str(block)


def test_the_overlay_of_the_page_renders(tmp_path: Path) -> None:
    manifests = render_in(tmp_path, read_overlay("mine"))
    images = {name: container(template)["image"] for name, template in pod_templates(manifests).items()}
    cpu, gpu = "registry.example.org/segserve:0.2.0-cpu", "registry.example.org/segserve:0.2.0-gpu"
    assert images["encoder"] == gpu
    assert images["api"] == images["worker"] == images["models"] == cpu
    worker = environment(manifests, "worker")
    assert worker["SEGSERVE_OBJECT_STORE"] == "s3://labels/segserve"
    (ingress,) = of_kind(manifests, "Ingress").values()
    host = ingress["spec"]["rules"][0]["host"]
    assert ingress["spec"]["ingressClassName"] == "nginx"
    assert [host] == ingress["spec"]["tls"][0]["hosts"]
    assert host in yaml.safe_load(environment(manifests, "api")["SEGSERVE_ALLOWED_HOSTS"])


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_overlay_of_the_page_fits_every_overlay(name: str, tmp_path: Path) -> None:
    block = read_overlay("mine").replace("overlays/gpu", f"overlays/{name}")
    assert f"overlays/{name}" in block
    images = {
        component: container(template)["image"]
        for component, template in pod_templates(render_in(tmp_path, block)).items()
    }
    for component in (*SEGSERVE, "models"):
        kind = "gpu" if (name, component) == ("gpu", "encoder") else "cpu"
        assert images[component] == f"registry.example.org/segserve:0.2.0-{kind}"


def test_patches_of_the_page_change_what_they_say(tmp_path: Path) -> None:
    overlays = "[../segserve/deploy/kubernetes/overlays/s3]"
    larger = render_in(tmp_path / "larger", read_overlay("larger").replace("[../mine]", overlays))
    redis = container(pod_templates(larger)["redis-cache"])
    assert redis["args"][redis["args"].index("--maxmemory") + 1] == "8gb"
    assert redis["resources"]["limits"]["memory"] == redis["resources"]["requests"]["memory"] == "10Gi"
    minio = render_in(tmp_path / "minio", read_overlay("minio").replace("[../mine]", overlays))
    (rule,) = of_kind(minio, "NetworkPolicy")["object-store"]["spec"]["egress"]
    assert rule == {"to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}], "ports": [{"port": 9000}]}
    assert environment(minio, "api")["AWS_ENDPOINT_URL"].endswith(":9000")


@every_overlay
def test_the_ingress_lets_large_uploads_and_events_through(name: str) -> None:
    (ingress,) = of_kind(overlay(name), "Ingress").values()
    annotations = {
        key.removeprefix("nginx.ingress.kubernetes.io/"): value
        for key, value in ingress["metadata"]["annotations"].items()
    }
    assert annotations == {
        "proxy-body-size": "5g",
        "proxy-request-buffering": "off",
        "proxy-buffering": "off",
        "proxy-read-timeout": "300",
    }


def test_ingress_nginx_takes_the_place_of_the_balancer(with_ingress_nginx: tuple[Manifest, ...]) -> None:
    assert "balancer" not in pod_templates(with_ingress_nginx)
    for version in VERSIONS:
        for manifest in of_kind(with_ingress_nginx, "Ingress").values():
            kubernetes_validate.validate(manifest, version, strict=True)
    needed = {arrow for arrow in needed_arrows(with_ingress_nginx) if arrow[0] != "balancer"}
    assert allowed_arrows(with_ingress_nginx, "ingress") == needed


def test_ingress_nginx_hashes_on_what_haproxy_hashes_on(with_ingress_nginx: tuple[Manifest, ...]) -> None:
    annotation = "nginx.ingress.kubernetes.io/upstream-hash-by"
    by_name = of_kind(with_ingress_nginx, "Ingress")
    images = by_name["segserve-images"]
    assert images["metadata"]["annotations"][annotation] == "$1"
    (path,) = [each["path"] for each in images["spec"]["rules"][0]["http"]["paths"]]
    config = (ROOT / "deploy" / "haproxy" / "haproxy.cfg").read_text()
    assert "path,field(4,/) if { path_beg /v1/images/ }" in config
    assert "req.hdr(x-image-id)" in config
    image_id = "5f" * 32
    for uri in (
        f"/v1/images/{image_id}",
        f"/v1/images/{image_id}/segment",
        f"/v1/images/{image_id}/tiles/0/1/2",
    ):
        match = re.match(path, uri)  # nginx anchors it at the beginning
        assert match
        assert match[1] == uri.split("/")[3] == image_id
    assert re.match(path, "/v1/images") is None, "an upload goes anywhere"
    for rest in ("segserve", "segserve-grpc"):
        assert by_name[rest]["metadata"]["annotations"][annotation].startswith("$http_x_image_id")


def test_rules_of_prometheus_become_objects_of_its_operator(tmp_path: Path) -> None:
    """By the loop in docs/kubernetes.md."""
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    (block,) = re.findall(r"```bash\n(for rules in .*?)```", page, re.DOTALL)
    script = block.replace("| kubectl apply -f -", "")
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    objects = [each for each in yaml.safe_load_all(done.stdout) if each]
    assert [each["metadata"]["name"] for each in objects] == [
        "segserve-recording",
        "segserve-alerts",
        "segserve-limits",
    ]
    for each, name in zip(objects, ("recording", "alerts", "limits"), strict=True):
        rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules" / f"{name}.yml").read_text())
        assert each["kind"] == "PrometheusRule"
        assert each["spec"] == rules


# Optional components: TLS, and the tenants' file.


@pytest.fixture(scope="module", params=["cpu", "gpu"])
def with_tls(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Manifest, ...]:
    """An overlay as docs/kubernetes.md writes it, with both components."""
    kubernetes = "../segserve/deploy/kubernetes"
    mine = {
        "resources": [f"{kubernetes}/overlays/{request.param}"],
        "components": [f"{kubernetes}/components/{name}" for name in ("tenants", "tls")],
    }
    return render_in(tmp_path_factory.mktemp("overlay"), yaml.safe_dump(mine))


def mounted_secrets(manifests: tuple[Manifest, ...], component: str) -> dict[str, str]:
    """Return the Secrets of a component's pods by the folder where they are mounted."""
    template = pod_templates(manifests)[component]
    secrets = {
        volume["name"]: volume["secret"]["secretName"]
        for volume in template["spec"]["volumes"]
        if "secret" in volume
    }
    mounts = container(template)["volumeMounts"]
    assert not [mount for mount in mounts if "subPath" in mount], "what is renewed would never arrive"
    return {mount["mountPath"]: secrets[mount["name"]] for mount in mounts if mount["name"] in secrets}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_components_follow_the_schemas(with_tls: tuple[Manifest, ...], version: str) -> None:
    for manifest in with_tls:
        if manifest["kind"] not in EXTENSIONS:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_with_tls_nobody_speaks_without(
    with_tls: tuple[Manifest, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for component in SEGSERVE:
        variables = environment(with_tls, component)
        for name in ("SEGSERVE_REDIS_URL", "SEGSERVE_JOBS_REDIS_URL"):
            url = variables.get(name, "rediss://")
            assert url.startswith("rediss://")
            assert "$(" not in url, "a password must stand before what names it"
        with monkeypatch.context() as patched:
            for key, value in variables.items():
                if key.startswith("SEGSERVE_"):
                    patched.setenv(key, value)
            settings = load_settings()
        folder = Path("/etc/segserve/tls")
        assert mounted_secrets(with_tls, component)[str(folder)] == f"segserve-{component}-tls"
        assert (settings.tls_cert, settings.tls_key) == (folder / "tls.crt", folder / "tls.key")
        only_callers = folder / "ca.crt" if component == "encoder" else None
        assert settings.tls_client_ca == only_callers
        if component != "encoder":
            shown = (settings.encoder_tls_ca, settings.encoder_tls_cert, settings.encoder_tls_key)
            assert shown == tuple(folder / name for name in ("ca.crt", "tls.crt", "tls.key"))
        only = container(pod_templates(with_tls)[component])
        for kind in ("startup", "readiness", "liveness"):
            assert only[f"{kind}Probe"]["httpGet"]["scheme"] == "HTTPS"
    for monitor in of_kind(with_tls, "PodMonitor").values():
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        component = monitor["spec"]["selector"]["matchLabels"][COMPONENT]
        assert endpoint["scheme"] == "https"
        assert endpoint["tlsConfig"]["serverName"] == component
    for service in ("segserve", "api", "encoder"):
        ports = of_kind(with_tls, "Service")[service]["spec"]["ports"]
        assert {port["appProtocol"] for port in ports} == {"https"}


@pytest.mark.parametrize("kind", ["cache", "jobs"])
def test_redis_has_users_and_asks_for_certificates(with_tls: tuple[Manifest, ...], kind: str) -> None:
    component = f"redis-{kind}"
    only = container(pod_templates(with_tls)[component])
    arguments = only["args"]
    options = dict(zip(arguments[1::2], arguments[2::2], strict=True))
    assert (options["--port"], options["--tls-port"]) == ("0", "6379")
    assert options["--tls-auth-clients"] == "yes"
    assert options["--aclfile"] == f"/users/{kind}.acl"
    assert "--requirepass" not in options
    plain = container(pod_templates(overlay("cpu"))[component])["args"]
    kept = dict(zip(plain[1::2], plain[2::2], strict=True))
    kept.pop("--requirepass")
    assert kept.items() <= options.items(), "what it keeps is as without TLS"
    assert mounted_secrets(with_tls, component) == {
        "/tls": f"segserve-{component}-tls",
        "/users": "segserve-redis-users",
    }
    for probe in ("startup", "readiness", "liveness"):
        command = only[f"{probe}Probe"]["exec"]["command"]
        assert command[command.index("--user") + 1] == f"segserve-{kind}"
        assert command[-1] == "ping"


def test_the_balancers_configuration_differs_by_tls_alone(with_tls: tuple[Manifest, ...]) -> None:
    plain = (ROOT / "deploy" / "haproxy" / "haproxy.cfg").read_text()
    with_words = (ROOT / "deploy" / "kubernetes" / "components" / "tls" / "haproxy.cfg").read_text()
    without = re.sub(r"^# As deploy/haproxy.*\n#\n", "", with_words)
    without = re.sub(r"^    ssl-.*\n", "", without, flags=re.MULTILINE)
    without = without.replace(
        " ssl verify required ca-file /etc/haproxy/tls/ca.crt verifyhost api check-ssl", ""
    )
    without = without.replace(" alpn h2 check-alpn http/1.1", " proto h2 check-proto h1")
    without = without.replace(" ssl crt /etc/haproxy/tls/tls.crt alpn h2", " proto h2")
    without = without.replace(" ssl crt /etc/haproxy/tls/tls.crt alpn http/1.1", "").replace(
        " alpn http/1.1", ""
    )
    assert without == plain
    config = next(c for n, c in of_kind(with_tls, "ConfigMap").items() if n.startswith("balancer-"))
    assert config["data"]["haproxy.cfg"] == with_words
    assert mounted_secrets(with_tls, "balancer") == {"/etc/haproxy/tls": "segserve-balancer-tls"}


def test_connections_and_rights_stay_as_they_were(with_tls: tuple[Manifest, ...]) -> None:
    needed = needed_arrows(with_tls)
    assert ("api", "redis-cache", 6379) in needed
    assert allowed_arrows(with_tls, "ingress") == allowed_arrows(with_tls, "egress") == needed
    for template in pod_templates(with_tls).values():
        assert container(template)["securityContext"]["readOnlyRootFilesystem"] is True
        assert template["spec"]["securityContext"]["fsGroup"] > 0, "who reads the Secrets"


def test_tenants_have_a_file_that_may_change(with_tls: tuple[Manifest, ...], tmp_path: Path) -> None:
    config = of_kind(with_tls, "ConfigMap")["segserve-tenants"]
    (tmp_path / "tenants.yaml").write_text(config["data"]["tenants.yaml"])
    assert TenantPolicies(TenantPolicy(), tmp_path / "tenants.yaml").get("any").max_jobs == 20
    for component in SEGSERVE:
        variables = environment(with_tls, component)
        mounts = container(pod_templates(with_tls)[component])["volumeMounts"]
        has_file = "/etc/segserve/tenants" in [mount["mountPath"] for mount in mounts]
        assert has_file == ("SEGSERVE_TENANTS_FILE" in variables) == (component != "encoder")


def test_the_secrets_of_the_page_are_those_that_are_mounted(with_tls: tuple[Manifest, ...]) -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    components = (*SEGSERVE, "balancer", "redis-cache", "redis-jobs")
    for component in components:
        for secret in mounted_secrets(with_tls, component).values():
            assert secret in page, secret
