"""The scripts: what they say when something is wrong, and what they do without Docker."""

import os
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from stack import ROOT, SETTINGS, docker, fetch, run, wait_for


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


def assert_one_sentence(result, *words, code=1):
    assert result.returncode == code, result.stdout + result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    for word in words:
        assert word in result.stderr


def test_each_script_has_help():
    for name in ("run.sh", "stop.sh", "scale.sh", "smoke.sh", "build.sh", "test.sh", "story.sh", "chaos.sh"):
        result = run(name, "--help")
        assert result.returncode == 0, name
        assert f"Usage: scripts/{name}" in result.stdout


def test_the_tests_name_the_line_to_type_where_they_may_not_install():
    with tempfile.TemporaryDirectory() as folder:
        for directory in reversed(os.environ["PATH"].split(":")):
            for program in Path(directory).glob("*"):
                if program.name not in ("giftext", "shellcheck"):
                    Path(folder, program.name).unlink(missing_ok=True)
                    Path(folder, program.name).symlink_to(program)
        result = run("test.sh", "--no-install", "--quick", PATH=folder)
    assert_one_sentence(result, "sudo apt-get install --no-install-recommends giflib-tools shellcheck")


def derived(request, variable, command):
    """The name of an image like the one in `variable`, changed by a command."""
    name = f"mood-test-{variable.lower()}:local"
    recipe = f"FROM {SETTINGS[variable]}\nUSER 0\nRUN {command}\n"
    subprocess.run(["docker", "build", "-q", "-t", name, "-"], input=recipe, text=True, check=True, capture_output=True,
                   env=os.environ | {"DOCKER_BUILDKIT": "0"})
    request.addfinalizer(lambda: docker("rmi", "-f", name))
    return name


@pytest.mark.parametrize("variable, command, reason", [
    ("NGINX_IMAGE", "rm -f $(find / -name ngx_http_js_module.so)", "ngx_http_js_module.so"),
    ("REDIS_IMAGE", "rm -f $(which redis-server)", "redis-server"),
    ("PROMETHEUS_IMAGE", "rm -f $(which prometheus)", "prometheus"),
    ("REDIS_IMAGE", "printf '#!/bin/sh\\necho v=6.2.21\\n' >/usr/bin/redis-server", "version 6.2.21, and the stack needs 7 or later"),
    ("NGINX_IMAGE", "printf '#!/bin/sh\\necho nginx/1.3.9\\n' >/usr/sbin/nginx", "version 1.3.9, and the stack needs 1.29.3 or later"),
])
def test_an_unsuitable_image_is_refused(request, variable, command, reason):
    name = derived(request, variable, command)
    ports = {port: free_port() for port in ("HTTP_PORT", "PROMETHEUS_PORT")}
    result = run("run.sh", COMPOSE_PROJECT_NAME="mood-nobody", **{variable: name}, **ports)
    assert_one_sentence(result, name, reason, f"correct {variable} in .env")


def test_unknown_arguments_are_named():
    for name in ("run.sh", "stop.sh", "smoke.sh", "build.sh", "test.sh", "story.sh", "chaos.sh"):
        assert_one_sentence(run(name, "--bogus"), "--bogus", "--help", code=2)


def test_wrong_counts_of_replicas_are_refused():
    for wrong in ("0", "-1", "1001", "99999999999", "many", "1.5", "1 2"):
        assert_one_sentence(run("scale.sh", wrong), wrong, "1 to 1000", code=2)
        assert_one_sentence(run("run.sh", "--replicas", wrong), "1 to 1000", code=2)
    assert_one_sentence(run("scale.sh"), "number of replicas", code=2)


def test_a_port_in_use_is_named_with_the_way_out():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        result = run("run.sh", COMPOSE_PROJECT_NAME="mood-nobody", HTTP_PORT=port)
    assert_one_sentence(result, port, "in use", "HTTP_PORT=")


def test_a_file_that_the_containers_may_not_read_is_named(request):
    port = free_port()
    path = ROOT / "nginx/nginx.js"
    mode = path.stat().st_mode
    path.chmod(0o600)
    request.addfinalizer(lambda: path.chmod(mode))
    result = run("run.sh", COMPOSE_PROJECT_NAME="mood-nobody", HTTP_PORT=port, PROMETHEUS_PORT=port)
    assert_one_sentence(result, "nginx.js", "chmod")


def test_a_published_image_cannot_be_built():
    port = free_port()
    result = run("run.sh", "--build", APP_IMAGE="a/b:c", COMPOSE_PROJECT_NAME="mood-nobody", HTTP_PORT=port, PROMETHEUS_PORT=port)
    assert_one_sentence(result, "a/b:c", "--build", code=2)


def assert_refused_after(preparation, *words):
    """run.sh says so in a mount namespace where `preparation` was done."""
    port = free_port()
    command = f"{preparation} && exec {ROOT}/scripts/run.sh"
    environment = os.environ | {"COMPOSE_PROJECT_NAME": "mood-nobody", "HTTP_PORT": port, "PROMETHEUS_PORT": port}
    result = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command], capture_output=True, text=True, timeout=60, env=environment
    )
    assert_one_sentence(result, *words)


@pytest.mark.root
def test_a_full_disk_is_named_with_the_way_out():
    root = docker("info", "-f", "{{.DockerRootDir}}")
    assert_refused_after(f"mount -t tmpfs -o size=50m tmpfs {root}", "50 MiB of disk are free", "docker system prune")


@pytest.mark.root
def test_too_little_memory_is_named_with_the_way_out():
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("MemTotal: 1000000 kB\nMemAvailable: 102400 kB\n")
        file.flush()
        assert_refused_after(f"mount --bind {file.name} /proc/meminfo", "100 MiB of memory", "stop other programs")


def test_a_dead_daemon_is_named_with_the_way_out():
    for name in ("run.sh", "stop.sh"):
        assert_one_sentence(run(name, DOCKER_HOST="unix:///nonexistent.sock"), "daemon", "service docker start")


def test_stopping_reports_the_failure_of_compose():
    result = run("stop.sh", COMPOSE_FILE="/nonexistent.yaml")
    assert result.returncode == 1
    assert "/nonexistent.yaml" in result.stderr
    assert "Compose could not stop the stack" in result.stderr


def test_scaling_what_does_not_run_says_so():
    assert_one_sentence(run("scale.sh", "2", COMPOSE_PROJECT_NAME="mood-nobody"), "scripts/run.sh")


def test_smoke_counts_its_failures():
    result = run("smoke.sh", "http://127.0.0.1:1")
    failed = result.stdout.count("FAILED")
    assert failed > 10
    assert result.returncode == failed


def test_the_service_runs_alone_and_passes_the_smoke_test():
    with tempfile.TemporaryDirectory() as folder:
        # All programs there are, except docker.
        for directory in reversed(os.environ["PATH"].split(":")):
            for program in Path(directory).glob("*"):
                link = Path(folder, program.name)
                if program.name != "docker" and os.access(program, os.X_OK):
                    link.unlink(missing_ok=True)
                    link.symlink_to(program)
        port = free_port()
        environment = os.environ | {"PATH": folder, "HTTP_PORT": port}
        process = subprocess.Popen(
            [ROOT / "scripts/run.sh"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        )
        try:
            assert "Docker is not installed" in process.stdout.readline()

            def answers():
                try:
                    return fetch("/mood", base=f"http://127.0.0.1:{port}")[0] == 200
                except OSError:
                    return False

            wait_for("the service answers", answers, 300)
            result = run("smoke.sh", f"http://127.0.0.1:{port}")
            assert result.returncode == 0, result.stdout
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=10)
