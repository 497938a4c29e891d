"""The manifests of deploy/kubernetes: rendered, valid for two versions, held against compose.yaml, and their script run."""

import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from compose_files import compose_service
from programs import unpacked
from stack import ROOT

FOLDER = ROOT / "deploy/kubernetes"
VERSIONS = ("1.34", "1.36")
# What only a cluster that has them knows: no schema of Kubernetes itself.
CUSTOM = {"ServiceMonitor", "PrometheusRule", "HTTPRoute"}


@cache
def rendered(overlay, component=None):
    """All objects of an overlay, with a component besides."""
    folder = FOLDER / "overlays" / overlay
    if component is None:
        return list(yaml.safe_load_all(manifests(folder)))
    extra = ROOT / "target/kustomize" / component
    extra.mkdir(parents=True, exist_ok=True)
    (extra / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
        f"resources: [../../../deploy/kubernetes/overlays/{overlay}]\ncomponents: [../../../deploy/kubernetes/components/{component}]\n"
    )
    return list(yaml.safe_load_all(manifests(extra)))


def manifests(folder):
    kubectl = shutil.which("kubectl") or unpacked("kubernetes-client") / "usr/bin/kubectl"
    result = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout


def renderings():
    yield "local", rendered("local")
    yield "production", rendered("production")
    yield "local with the gateway", rendered("local", "gateway")


def find(objects, kind, name):
    found = [one for one in objects if one["kind"] == kind and re.sub(r"-[0-9a-z]{10}$", "", one["metadata"]["name"]) == name]
    assert len(found) == 1, (kind, name, len(found))
    return found[0]


def pod(objects, name):
    return find(objects, "Deployment", name)["spec"]["template"]["spec"]


def container(objects, deployment, name):
    return next(one for one in pod(objects, deployment)["containers"] if one["name"] == name)


def environment(one):
    return {variable["name"]: variable.get("value") for variable in one.get("env", [])}


def test_every_object_fits_the_strict_schema_of_two_versions():
    for name, objects in renderings():
        checked = 0
        for one in objects:
            if one["kind"] in CUSTOM:
                continue
            checked += 1
            for version in VERSIONS:
                kubernetes_validate.validate(one, version, strict=True)
        assert checked >= 14, name


def test_the_validation_would_tell():
    wrong = dict(find(rendered("local"), "Service", "app"), spec={"prots": []})
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


@pytest.fixture(scope="module")
def violates(tmp_path_factory):
    """Whether checkov finds a violation. It has many dependencies, so it has an environment of its own."""
    environment = ROOT / "target/python/checkov"
    if not (environment / "bin/checkov").exists():
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        subprocess.run([environment / "bin/pip", "-q", "install", "checkov==3.3.30"], check=True)
    file = tmp_path_factory.mktemp("checkov") / "manifests.yaml"

    def check(text):
        file.write_text(text)
        return subprocess.run([environment / "bin/checkov", "--config-file", FOLDER / "checkov.yaml", "-f", file]).returncode != 0

    return check


@pytest.mark.slow
def test_policies_of_checkov_are_kept(violates):
    local, production = (manifests(FOLDER / "overlays" / name) for name in ("local", "production"))
    assert not violates(local)
    assert not violates(production)
    assert violates(local.replace("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false"))


def test_what_refers_to_something_finds_it():
    """Ports by name, selectors, secrets and files: an API server takes them all, and then nothing works."""
    for name, objects in renderings():
        pods = {one["metadata"]["name"]: one["spec"]["template"] for one in objects if one["kind"] == "Deployment"}
        names = {(one["kind"], one["metadata"]["name"]) for one in objects}
        for deployment, template in pods.items():
            spec = template["spec"]
            for one in spec["containers"] + spec.get("initContainers", []):
                ports = {port["name"] for port in one.get("ports", [])}
                for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                    for action in ("httpGet", "tcpSocket"):
                        if action in one.get(probe, {}):
                            assert one[probe][action]["port"] in ports, (name, deployment, probe)
                volumes = {volume["name"] for volume in spec.get("volumes", [])}
                assert {mount["name"] for mount in one.get("volumeMounts", [])} <= volumes
                for variable in one.get("env", []):
                    # In production somebody puts it there first.
                    if "valueFrom" in variable and not name.startswith("production"):
                        assert ("Secret", variable["valueFrom"]["secretKeyRef"]["name"]) in names
            for volume in spec.get("volumes", []):
                if "configMap" in volume:
                    assert ("ConfigMap", volume["configMap"]["name"]) in names
        for service in (one for one in objects if one["kind"] == "Service"):
            template = pods[service["spec"]["selector"]["app.kubernetes.io/name"]]
            known = {port["name"] for one in template["spec"]["containers"] for port in one.get("ports", [])}
            for port in service["spec"]["ports"]:
                assert port["targetPort"] in known, (name, service["metadata"]["name"])
        services = {one["metadata"]["labels"]["app.kubernetes.io/name"]: one for one in objects if one["kind"] == "Service"}
        for monitor in (one for one in objects if one["kind"] == "ServiceMonitor"):
            known = {port["name"] for port in services[monitor["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"]]["spec"]["ports"]}
            assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= known
        for rule in (one for one in objects if one["kind"] in ("NetworkPolicy", "PodDisruptionBudget")):
            selector = rule["spec"].get("podSelector") or rule["spec"]["selector"]
            assert selector["matchLabels"]["app.kubernetes.io/name"] in pods


def test_pods_fit_the_restricted_level():
    """As the Pod Security Standards have it; a user without a name has to be a number."""
    for name, objects in renderings():
        for deployment in (one for one in objects if one["kind"] == "Deployment"):
            spec = deployment["spec"]["template"]["spec"]
            assert spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
            assert spec["securityContext"]["runAsNonRoot"] is True
            assert spec["automountServiceAccountToken"] is False
            for one in spec["containers"] + spec.get("initContainers", []):
                context = one["securityContext"]
                assert context["allowPrivilegeEscalation"] is False
                assert context["readOnlyRootFilesystem"] is True
                assert context["capabilities"] == {"drop": ["ALL"]}
                assert context.get("runAsUser", spec["securityContext"]["runAsUser"]) > 0
                assert "memory" in one["resources"]["limits"]
                assert {"cpu", "memory"} <= set(one["resources"]["requests"])


def test_images_users_and_memory():
    objects = rendered("local")
    for service, deployment, name in (
        ("app", "app", "app"), ("nginx", "nginx", "nginx"), ("redis", "redis", "redis"),
        ("nginx-exporter", "nginx", "exporter"), ("redis-exporter", "redis", "exporter"),
    ):
        ours, theirs = compose_service(service), container(objects, deployment, name)
        assert theirs["image"] == ours["image"]
        user = theirs["securityContext"].get("runAsUser", pod(objects, deployment)["securityContext"]["runAsUser"])
        assert str(user) == ours["user"].split(":")[0]
        assert theirs["resources"]["limits"]["memory"] == ours["mem_limit"].replace("m", "Mi")


def test_environments():
    objects = rendered("local")
    app = environment(container(objects, "app", "app"))
    assert app.pop("REDIS_URL") == "redis://:$(REDIS_PASSWORD)@redis:6379"
    assert app.pop("REDIS_PASSWORD") is None
    # A Service of Kubernetes balances connections; and the kubelet's patience is longer than Compose's.
    assert (app.pop("MAX_CONNECTION_AGE_S"), app.pop("DRAIN_MS")) == ("300", "1500")
    compose = compose_service("app")["environment"]
    compose.pop("REDIS_URL")
    assert app == {name: {True: "on", False: "off"}.get(value, value) for name, value in compose.items()}
    exporter = environment(container(objects, "redis", "exporter"))
    assert exporter.pop("REDIS_PASSWORD") is None
    compose = compose_service("redis-exporter")["environment"]
    assert exporter == compose | {"REDIS_ADDR": "redis://127.0.0.1:6379"}


def test_commands():
    objects = rendered("local")
    assert container(objects, "nginx", "nginx")["command"] == compose_service("nginx")["entrypoint"]
    assert container(objects, "redis", "redis")["command"] == [*compose_service("redis")["entrypoint"], "--requirepass", "$(REDIS_PASSWORD)"]
    exporter = container(objects, "nginx", "exporter")["args"]
    assert [argument.replace("127.0.0.1", "nginx") for argument in exporter] == compose_service("nginx-exporter")["command"]


def test_ports_and_probes():
    objects = rendered("local")
    image = (ROOT / "Dockerfile.scratch").read_text()
    app = container(objects, "app", "app")
    assert f"EXPOSE {app['ports'][0]['containerPort']}" in image
    assert [app[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")] == ["/livez", "/livez", "/readyz"]
    assert app["resources"]["requests"]["cpu"] == "10m"
    inside = container(objects, "nginx", "nginx")["livenessProbe"]["httpGet"]["path"]
    assert f"8081{inside}" in str(compose_service("nginx")["healthcheck"]["test"])


def test_a_replica_drains_within_its_grace():
    spec = pod(rendered("local"), "app")
    app = spec["containers"][0]
    waits = app["lifecycle"]["preStop"]["sleep"]["seconds"] + int(environment(app)["DRAIN_MS"]) / 1000
    assert waits + 2 < spec["terminationGracePeriodSeconds"]


def test_what_is_taken_from_other_files_is_the_same():
    objects = rendered("production")
    assert find(objects, "ConfigMap", "nginx")["data"]["nginx.conf"] == (ROOT / "nginx.conf").read_text(), "run deploy/kubernetes/generate.sh"
    assert find(objects, "PrometheusRule", "mood")["spec"] == yaml.safe_load((ROOT / "prometheus/alerts.yml").read_text()), "run deploy/kubernetes/generate.sh"
    jobs = {one["replacement"] for monitor in objects if monitor["kind"] == "ServiceMonitor" for endpoint in monitor["spec"]["endpoints"]
            for one in endpoint["relabelings"]}
    scraped = {job["job_name"] for job in yaml.safe_load((ROOT / "prometheus.yml").read_text())["scrape_configs"]}
    assert jobs == scraped - {"prometheus"}


def test_isolation():
    """Who may reach whom, as the networks of compose.yaml have it."""
    objects = rendered("local")

    def peers(name, direction):
        rules = find(objects, "NetworkPolicy", name)["spec"].get(direction.lower(), [])
        key = {"Ingress": "from", "Egress": "to"}[direction]
        return {(selector.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/name")
                 or ("dns" if "podSelector" in selector else "monitoring"), port["port"])
                for rule in rules for selector in rule.get(key, [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "everybody"}}}])
                for port in rule["ports"]}

    assert peers("redis", "Ingress") == {("app", 6379), ("monitoring", 9121)}
    assert peers("redis", "Egress") == set()
    assert peers("app", "Ingress") == {("nginx", 5000), ("monitoring", 5000)}
    assert peers("app", "Egress") == {("redis", 6379), ("dns", 53)}
    assert peers("nginx", "Ingress") == {("everybody", 8080), ("monitoring", 8081), ("monitoring", 9113)}
    assert peers("nginx", "Egress") == {("app", 5000), ("dns", 53)}


def test_nginx_runs_the_start_script_with_its_files():
    nginx = container(rendered("local"), "nginx", "nginx")
    mounts = {mount["mountPath"]: mount.get("subPath") for mount in nginx["volumeMounts"]}
    assert mounts == {"/etc/nginx/nginx.conf": "nginx.conf", "/etc/nginx/mood": None, "/tmp": None}
    files = find(rendered("local"), "ConfigMap", "nginx")["data"]
    assert Path(nginx["command"][1]).name in files
    # A NetworkPolicy governs access to the inner port.
    assert environment(nginx) == {"NGINX_INNER_CLIENTS": "all"}
