"""Values that several files need: each follows its one definition."""

import re

import yaml

from compose_files import compose_service, services
from stack import ROOT, defaults


def test_the_version_is_that_of_cargo_toml():
    version = re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    image = re.search(r'org\.opencontainers\.image\.version="(.+?)"', (ROOT / "Dockerfile.scratch").read_text())[1]
    api = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())["info"]["version"]
    overlay = yaml.safe_load((ROOT / "deploy/kubernetes/overlays/production/kustomization.yaml").read_text())["images"][0]["newTag"]
    assert {image, api, overlay} == {version}


def test_the_memory_limit_of_a_replica_is_that_of_env():
    limit = defaults()["APP_MEMORY"]
    assert compose_service("app")["mem_limit"] == limit
    assert services("deploy/swarm/stack.yaml", MOOD_CONFIG="1")["app"]["deploy"]["resources"]["limits"]["memory"] == limit
    # Kubernetes: test_kubernetes.py compares the manifests with compose.yaml.
    mebibytes = re.fullmatch(r"(\d+)m", limit)[1]
    assert f"> 0.8 * {mebibytes} * 1024 * 1024)" in (ROOT / "prometheus/alerts.yml").read_text()
