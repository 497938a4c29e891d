"""The running stack, from inside and outside: what is published, who may do what, what is measured and logged."""

import json
import re
import time
from pathlib import Path

import pytest

from stack import (
    PORT, PROJECT, SETTINGS, URL, Load, StackError, address_of, containers, connects, crash, docker, fetch, helper, query, script,
    service_of, targets, unpause, wait_for,
)

pytestmark = pytest.mark.usefixtures("stack")


def test_nginx_alone_is_published_to_the_world():
    published = set()
    for container in containers():
        for port, bindings in (container["HostConfig"]["PortBindings"] or {}).items():
            for binding in bindings:
                published.add((service_of(container), port, binding["HostIp"], binding["HostPort"]))
    expected = {
        ("nginx", "8080/tcp", "", str(PORT)),
        ("prometheus", "9090/tcp", "127.0.0.1", SETTINGS["PROMETHEUS_PORT"]),
    }
    if containers("grafana"):
        expected.add(("grafana", "3000/tcp", "127.0.0.1", SETTINGS["GRAFANA_PORT"]))
    assert published == expected


def test_a_second_start_takes_less_than_five_seconds():
    began = time.monotonic()
    script("run.sh")
    assert time.monotonic() - began < 5


def test_the_smoke_test_passes():
    assert "0 failed" in script("smoke.sh", URL)


def test_app_and_redis_have_no_route_out():
    nginx = address_of(containers("nginx")[0], "frontend")
    prometheus = address_of(containers("prometheus")[0], "observability")
    for service in ("app", "redis"):
        inside = f"container:{containers(service)[0]['Id']}"
        assert not connects(inside, nginx, "8080"), service
        assert not connects(inside, prometheus, "9090"), service
        # The same question, where the answer is yes.
        assert connects(inside, address_of(containers("redis")[0], "backend"), "6379"), service


def test_app_and_redis_cannot_be_reached_from_the_frontend():
    frontend = f"{PROJECT}_frontend"
    for service, port in (("app", "5000"), ("redis", "6379")):
        address = address_of(containers(service)[0], "backend")
        assert not connects(frontend, address, port), service
        assert helper(frontend, "nslookup", service).returncode != 0, service
    nginx = address_of(containers("nginx")[0], "frontend")
    assert connects(frontend, nginx, "8080")


def test_nginx_tells_its_status_where_it_is_needed_alone():
    nginx = containers("nginx")[0]
    for network, expected in (("frontend", False), ("backend", True), ("observability", True)):
        reached = connects(f"{PROJECT}_{network}", address_of(nginx, network), "8081")
        assert reached == expected, network


def test_nginx_may_open_as_many_files_as_it_has_connections():
    master = containers("nginx")[0]["State"]["Pid"]
    workers = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    # The cache's manager is one of them.
    assert len(workers) >= 2
    for worker in workers:
        limits = Path(f"/proc/{worker}/limits").read_text()
        assert re.search(r"Max open files +8192 ", limits)


def test_every_container_is_non_root_read_only_and_without_capabilities():
    running = containers()
    assert len(running) >= 6
    for container in running:
        host = container["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert host["Memory"] > 0
        assert host["RestartPolicy"]["Name"] == "unless-stopped"
        assert "max-size" in host["LogConfig"]["Config"]
        with open(f"/proc/{container['State']['Pid']}/status") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        assert "0" not in status["Uid"].split()
        assert int(status["CapEff"], 16) | int(status["CapBnd"], 16) == 0
        assert status["NoNewPrivs"].strip() == "1"


def test_the_image_holds_one_static_binary_and_nothing_else():
    image = json.loads(docker("image", "inspect", SETTINGS["APP_IMAGE"]))[0]
    # Debian's compiler makes it a little smaller than the official one.
    builder = json.loads(docker("image", "inspect", SETTINGS["BUILDER_IMAGE"]))[0]
    is_debian = "mood.offline" in (builder["Config"]["Labels"] or {})
    assert image["Size"] <= (985_000 if is_debian else 1_000_000)
    assert len(image["RootFS"]["Layers"]) == 1
    assert image["Config"]["User"] == "65532:65532"
    assert image["Config"]["Entrypoint"] == ["/mood"]
    assert "5000/tcp" in image["Config"]["ExposedPorts"]
    assert image["Config"]["Healthcheck"]["Test"] == ["CMD", "/mood", "healthcheck"]
    assert "org.opencontainers.image.revision" in image["Config"]["Labels"]


def test_redis_has_its_dangerous_commands_off_and_a_limit():
    redis = containers("redis")[0]["Id"]
    for command in ("CONFIG GET maxmemory", "FLUSHALL", "DEBUG SLEEP 0", "KEYS *", "SHUTDOWN"):
        answer = docker("exec", redis, "redis-cli", *command.split(), check=False).stdout
        assert "unknown command" in answer, command
    memory = docker("exec", redis, "redis-cli", "INFO", "memory")
    assert "maxmemory:33554432" in memory
    assert "maxmemory_policy:allkeys-lru" in memory


def test_every_replica_and_exporter_is_a_target_that_is_up():
    replicas = len(containers("app"))
    wait_for("all targets up", lambda: len(query('up{job="app"} == 1')) == replicas, 60)
    for job in ("nginx", "redis", "prometheus"):
        wait_for(f"{job} is up", lambda job=job: len(query(f'up{{job="{job}"}} == 1')) == 1)
    assert query("up == 0") == []


def test_the_metrics_that_matter_are_there():
    fetch("/mood")
    for name in (
        "http_requests_total", "http_request_latency_seconds_bucket", "process_cpu_seconds_total",
        "process_resident_memory_bytes", "nginx_connections_active", "redis_connected_clients",
        "mood_cache_requests_total", "mood_build_info", "mood_info", "redis_memory_max_bytes",
    ):
        wait_for(name, lambda name=name: query(name), 30)
    types = json.loads(fetch("/api/v1/metadata?metric=http_requests_total", base="http://localhost:" + SETTINGS["PROMETHEUS_PORT"])[2])
    assert types["data"]["http_requests_total"][0]["type"] == "counter"


def test_the_logs_parse_and_share_a_request_id():
    name = f"stack-test-{time.time_ns()}"
    assert fetch("/mood", headers={"X-Request-Id": name})[1]["X-Request-Id"] == name

    def lines(service):
        text = "".join(docker("logs", "--tail", "500", container["Id"]) + "\n" for container in containers(service))
        return [json.loads(line) for line in text.splitlines() if line]

    def both():
        ours = [[line for line in lines(service) if line.get("request_id") == name] for service in ("nginx", "app")]
        return ours if all(ours) else None

    nginx, app = wait_for("both logs", both, 10)
    assert (nginx[0]["status"], app[0]["status"]) == (200, 200)
    assert nginx[0]["remote"] == app[0]["remote"]
    assert re.search(r"^[0-9.]+:5000$", nginx[0]["upstream"])


def test_every_answer_is_counted_once_and_has_one_line():
    """Also those that no script counts: a user's 200 at the first try."""
    name = f"counted-{time.time_ns()}"
    mood = fetch("/mood")
    gif = json.loads(mood[2])["gif"]
    fetch(gif)
    kinds = {
        "/mood": (200, {}), "/nothing": (404, {}), "/health": (200, {}), gif: (200, {}),
        "/mood?again": (304, {"If-None-Match": mood[1]["ETag"]}),
    }

    def counts():
        answer = docker("exec", containers("nginx")[0]["Id"], "wget", "-q", "-O", "-", "http://127.0.0.1:8081/metrics")
        return {labels: int(count) for labels, count in re.findall(r"^nginx_responses_total\{(.*)\} (\d+)$", answer, re.M)}

    def settled():
        first, second = counts(), counts()
        return first if first == second else None

    before = wait_for("nothing is under way", settled)
    for number in range(100):
        for path, (status, headers) in kinds.items():
            answer = fetch(path, headers={"X-Request-Id": f"{name}-{number}-{status}", **headers})
            assert answer[0] == status, path
    after = wait_for("nothing is under way", settled)
    grown = {labels: after[labels] - before.get(labels, 0) for labels in after if after[labels] != before.get(labels, 0)}
    assert grown == {
        'client="user",status="200"': 200, 'client="probe",status="200"': 100,
        'client="user",status="404"': 100, 'client="user",status="304"': 100,
    }

    def lines():
        text = docker("logs", "--tail", "2000", containers("nginx")[0]["Id"])
        ours = [json.loads(line) for line in text.splitlines() if name in line]
        return ours if len(ours) >= 500 else None

    found = wait_for("all lines", lines, 10)
    assert len({(line["request_id"], line["path"]) for line in found}) == 500
    assert len(found) == 500


def test_nginx_writes_its_last_lines_before_it_ends():
    name, nginx = f"last-{time.time_ns()}", containers("nginx")[0]["Id"]
    for number in range(20):
        fetch("/mood", headers={"X-Request-Id": f"{name}-{number}"})
    docker("stop", nginx)
    written = docker("logs", "--tail", "200", nginx).count(name)
    docker("start", nginx)
    wait_for("it is back", is_served)
    assert written == 20


def is_served():
    try:
        return fetch("/mood")[0] == 200
    except OSError:
        return False


def test_the_configurations_are_valid():
    docker("exec", containers("nginx")[0]["Id"], "nginx", "-t", "-q")
    checked = docker("exec", containers("prometheus")[0]["Id"], "promtool", "check", "config", "/etc/prometheus/prometheus.yml")
    assert "SUCCESS" in checked


def test_what_is_for_the_inside_is_not_reachable_from_outside():
    for path in ("/metrics", "/faults", "/livez", "/readyz", "/stub_status"):
        assert fetch(path)[0] == 404, path
    assert fetch("/faults", "POST")[0] == 404


def test_the_server_does_not_tell_its_version():
    assert not re.search(r"[0-9]", fetch("/mood")[1]["Server"] or "")


def test_each_answer_has_one_request_id_and_an_insane_one_is_replaced():
    for path in ("/mood", "/nothing", "/metrics"):
        headers = fetch(path, headers={"X-Request-Id": "a b\"c"})[1]
        assert len(headers.get_all("X-Request-Id")) == 1, path
        assert re.search(r"^[0-9a-f]{32}$", headers["X-Request-Id"])
        assert headers.get_all("X-Content-Type-Options") == ["nosniff"], path


def test_gifs_are_cached():
    path = json.loads(fetch("/mood")[2])["gif"]
    fetch(path)
    status, headers, body = fetch(path)
    assert (status, headers["X-Cache"], body[:6]) == (200, "HIT", b"GIF89a")


def test_long_bodies_and_targets_are_refused_in_json():
    status, headers, body = fetch("/" + "x" * 40000)
    assert (status, headers["Content-Type"]) == (414, "application/json")
    assert "error" in json.loads(body)


def test_the_rate_limit_bites_refreshes_and_spares_reads():
    answers = [fetch("/refresh", "POST") for _ in range(20)]
    limited = [answer for answer in answers if answer[0] == 429]
    assert limited
    _, headers, body = limited[0]
    assert (headers["Content-Type"], headers["Retry-After"]) == ("application/json", "1")
    assert "error" in json.loads(body)
    assert fetch("/mood")[0] == 200


"""Scaling and faults under load. Each leaves the stack as it was."""


def assert_no_failure(load):
    assert load.count > 200
    assert load.failures == [], f"of {load.count} requests"


def test_scaling_from_1_to_4_to_2_loses_no_request():
    script("scale.sh", "1")
    with Load() as load:
        time.sleep(1)
        chart = script("scale.sh", "4")
        assert len(re.findall(r"#+", chart)) == 4, chart
        time.sleep(1)
        script("scale.sh", "2")
        time.sleep(1)
    assert_no_failure(load)
    # What was scaled away leaves neither a target nor an alarm.
    wait_for("two targets", lambda: len(query('up{job="app"}')) == 2, 60)


def test_a_killed_or_paused_replica_loses_no_request_and_hardly_any_time():
    script("scale.sh", "3")
    victim, other, _ = containers("app")
    with Load() as load:
        time.sleep(1)
        crash(victim)
        time.sleep(2)
        hung_at = time.monotonic()
        docker("pause", other["Id"])
        time.sleep(5)
        mended_at = time.monotonic()
        unpause([other])
    assert_no_failure(load)
    assert load.p99(hung_at, mended_at) <= 0.3


def test_whatever_crashes_comes_back_by_itself():
    """Also what run.sh and scale.sh have told to read its files again."""
    script("run.sh")
    script("scale.sh", "2")
    before = containers()
    assert len(before) >= 7
    for container in before:
        crash(container)
    crashed_at = time.monotonic()

    def is_back(container):
        now = json.loads(docker("inspect", container["Id"]))[0]
        return now["State"]["Running"] and now["RestartCount"] > container["RestartCount"]

    def is_well():
        try:
            if not all(is_back(container) for container in before):
                return False
            cache = fetch("/mood")[1]["X-Cache"]
            reached = [series["value"][1] for series in query("nginx_up or redis_up")]
            health = targets()
        except (OSError, StackError, ValueError):
            return False
        # Two replicas, both sides of Nginx, Redis, Prometheus itself; and what the exporters reach.
        return cache == "HIT" and health == ["up"] * 6 and reached == ["1", "1"]

    wait_for("everything is back and well", is_well, 15)
    print(f"all back after {time.monotonic() - crashed_at:.1f} s")


def test_a_redis_that_is_off_the_network_is_used_again_once_it_is_back():
    redis, network = containers("redis")[0]["Id"], f"{PROJECT}_backend"
    with Load() as load:
        for held in (3, 5):
            docker("network", "disconnect", network, redis)
            time.sleep(held)
            assert fetch("/mood")[1]["X-Cache"] == "BYPASS"
            docker("network", "connect", "--alias", "redis", network, redis)
            joined_at = time.monotonic()
            streak = 0
            # Each replica has to notice.
            while streak < 40:
                if fetch("/mood")[1]["X-Cache"] == "HIT":
                    streak += 1
                else:
                    streak = 0
                    assert time.monotonic() - joined_at < 1.5
    assert_no_failure(load)


def test_a_redis_restart_loses_no_request():
    with Load() as load:
        time.sleep(1)
        docker("restart", "-t", "1", containers("redis")[0]["Id"])
        wait_for("Redis is used again", lambda: fetch("/mood")[1]["X-Cache"] == "HIT", 30)
        time.sleep(1)
    assert_no_failure(load)


def test_without_a_replica_the_answer_fits_the_client():
    replicas = containers("app")
    for replica in replicas:
        docker("pause", replica["Id"])
    try:
        began = time.monotonic()
        status, headers, body = fetch("/mood")
        assert time.monotonic() - began <= 1
        assert (status, headers["Content-Type"]) == (502, "application/json")
        assert "error" in json.loads(body)
        status, headers, body = fetch("/", headers={"Accept": "text/html"})
        assert b"<!doctype html>" in body
        assert (status, headers.get_content_type()) == (502, "text/html")
        assert len(headers.get_all("X-Request-Id")) == 1
    finally:
        unpause(replicas)
    wait_for("it is back", lambda: fetch("/mood")[0] == 200)
