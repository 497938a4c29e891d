"""The experiments of chaos.py, in the order of a complete run. Each breaks something, heals it, and states its limits."""

import json
import os
import resource
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone

import engine
from console import healing, note
from stack import (
    PORT, PROJECT, PROMETHEUS, SETTINGS, StackError, compose, containers, crash, docker, hosts, kill_processes, replica_count,
    scale_to, try_fetch, wait_for,
)
from trial import REPLICAS, experiment, is_cached, milliseconds_until


def faults_are_off():
    if "MOOD_FAULTS=on" not in one("app")["Config"]["Env"]:
        return "it needs replicas that fail on purpose (MOOD_FAULTS=on scripts/run.sh)"


def replicas_are_unreachable():
    if not can_connect(address_of(one("app")), 5000):
        return "it needs to reach the address of a replica from here (on a Mac it never can)"


# --- Replicas ---


@experiment(seconds=8, p99_ms=50)
def kill_replica(trial):
    """a replica crashes (kill -9) and is restarted by Docker"""
    crash(one("app"))
    trial.recovery(lambda: replica_count() == REPLICAS, most=3000)


@experiment(seconds=8, p99_ms=300)
def pause_replica(trial):
    """a replica hangs for 3 s: it accepts connections and does not respond"""
    replica = one("app")
    with paused(replica):
        time.sleep(1)
        trial.at_most("share of the hung replica after 1 s, %", share_of(replica), 15)
        time.sleep(2)


@experiment(seconds=8, obstacle=faults_are_off)
def sick_replica(trial):
    """a replica responds with 500 to everything for 5 s (needs MOOD_FAULTS=on)"""
    request_replica(one("app"), "/faults", "--post-data", '{"error_rate":1,"for_seconds":5}')


@experiment(seconds=10)
def slow_replica(trial):
    """a replica gets 1 ms of CPU time per second for 8 s"""
    replica = one("app")
    host = replica["HostConfig"]
    if host["NanoCpus"]:
        # Docker does not change the period of a container with a number of CPUs, which is 0.01 or more.
        slow, normal = ["--cpus=0.01"], [f"--cpus={host['NanoCpus'] / 1e9:.9f}"]
    else:
        # Zero is the default of a container, but an update ignores zero.
        normal = [f"--cpu-period={host['CpuPeriod'] or 100000}", f"--cpu-quota={host['CpuQuota'] or -1}"]
        slow = ["--cpu-period=1000000", "--cpu-quota=1000"]
    with healing(docker, "update", *normal, replica["Id"]):
        docker("update", *slow, replica["Id"])
        time.sleep(2)
        trial.at_most("share of the slow replica after 2 s, %", share_of(replica), 15)
        time.sleep(5)


@experiment(seconds=10, gap_ms=1500, slowest_ms=1000)
def kill_replicas(trial):
    """all replicas crash at once"""
    crash(*containers("app"))
    trial.recovery(is_served)


@experiment(seconds=30)
def scale(trial):
    """3 to 8 to 2 replicas"""
    with healing(scale_to, REPLICAS):
        scale_to(8)
        scale_to(2)


@experiment(seconds=40)
def replace(trial):
    """every replica is replaced by one of a new image, and back"""
    image = f"{PROJECT}-chaos:new"
    recipe = f"FROM {SETTINGS['APP_IMAGE']}\nLABEL mood.chaos={time.time()}\n"
    with healing(docker, "image", "rm", "-f", image), healing(replace_replicas):
        build = ["docker", "build", "-q", "-t", image, "-"]
        subprocess.run(build, input=recipe, text=True, check=True, capture_output=True, env={**os.environ, "DOCKER_BUILDKIT": "0"})
        replace_replicas(APP_IMAGE=image)
        new = docker("image", "inspect", "-f", "{{.Id}}", image)
        trial.exactly("replicas of the new image", sum(replica["Image"] == new for replica in containers("app")), REPLICAS)


@experiment(seconds=55)
def midnight(trial):
    """the day ends, in a zone where that is in half a minute"""
    name, today = zone_with_midnight_in(28)
    with healing(replace_replicas):
        replace_replicas(MOOD_TZ=name)
        responses, deadline = [], time.monotonic() + 24
        while time.monotonic() < deadline:
            before = today()
            body = try_fetch()[2].decode()
            responses.append(any(f'"date":"{day}"' in body for day in (before, today())))
            time.sleep(0.1)
        trial.at_most(f"responses of another day, of {len(responses)}", responses.count(False), 0)
        keys = set(redis_cli("--scan", "--pattern", "mood:????-??-??").split())
        trial.exactly("keys of the new day in Redis", sum(today() in key for key in keys), 1)
        check_agreement(trial)


# --- Redis ---


@experiment(seconds=12, p99_ms=50)
def kill_redis(trial):
    """Redis crashes and is restarted by Docker"""
    crash(one("redis"))
    trial.recovery(is_cached, most=1500)


@experiment(seconds=14, p99_ms=50)
def stop_redis(trial):
    """Redis is stopped for 6 s, then started"""
    server = one("redis")["Id"]
    with healing(docker, "start", server):
        docker("stop", "-t", "0", server)
        trial.at_most("time to BYPASS, ms", milliseconds_until(lambda: try_fetch()[1].get("X-Cache") == "BYPASS", 5), 500)
        time.sleep(6)
    trial.recovery(is_cached, most=1500)


@experiment(seconds=14, p99_ms=50)
def pause_redis(trial):
    """Redis hangs for 10 s"""
    with paused(one("redis")):
        time.sleep(10)
    trial.recovery(is_cached, most=1500)


@experiment(seconds=14, p99_ms=50)
def cut_redis(trial):
    """Redis loses its network for 6 s"""
    server, network = one("redis")["Id"], f"{PROJECT}_backend"

    def connect():
        if network not in one("redis")["NetworkSettings"]["Networks"]:
            docker("network", "connect", "--alias", "redis", network, server)

    with healing(connect):
        docker("network", "disconnect", network, server)
        time.sleep(6)
    trial.recovery(is_cached, most=1500)


@experiment(seconds=8, p99_ms=50)
def empty_redis(trial):
    """Redis loses all its keys"""
    redis_cli("eval", "for _, key in ipairs(redis.call('scan', 0, 'count', 1000)[2]) do redis.call('del', key) end", "0")
    trial.recovery(is_cached, most=1500, seconds=5)
    check_agreement(trial)


@experiment(seconds=20, p99_ms=50)
def full_redis(trial):
    """another client fills Redis beyond its memory limit"""
    with healing(redis_cli, "eval", "for i = 1, 80 do redis.call('del', 'junk:' .. i) end", "0"):
        # One key per script: within a script Redis evicts nothing, and would itself be killed for its memory.
        fill = 'redis-cli eval "redis.call(\\"set\\", KEYS[1], string.rep(\\"x\\", 1000000))" 1 junk:$i'
        docker("exec", one("redis")["Id"], "sh", "-c", f"i=0; while [ $i -lt 80 ]; do i=$((i + 1)); {fill}; done")
        time.sleep(12)
        trial.alert("RedisRejecting")
    check_agreement(trial)


@experiment(seconds=12)
def refreshes(trial):
    """100 refreshes at once, sent to the replicas directly"""

    def refreshed():
        return max(json.loads(mood)["refreshed"] for mood in moods())

    before = refreshed()
    refresh = 'wget -q -O /dev/null --post-data "" http://app:5000/refresh &'
    docker("exec", one("nginx")["Id"], "sh", "-c", f"i=0; while [ $i -lt 100 ]; do i=$((i + 1)); {refresh} done; wait")
    trial.exactly("refreshes counted, of 100", refreshed() - before, 100)
    check_agreement(trial)


# --- Nginx ---


@experiment(seconds=8)
def reload_nginx(trial):
    """Nginx reloads its configuration"""
    docker("exec", one("nginx")["Id"], "nginx", "-s", "reload")


@experiment(seconds=8)
def kill_nginx_worker(trial):
    """one of the Nginx workers crashes"""
    processes = docker("top", one("nginx")["Id"]).splitlines()
    # The second column is the process ID on the Docker host.
    kill_processes([next(int(line.split()[1]) for line in processes if "worker process" in line)])


@experiment(seconds=8, gap_ms=1500)
def kill_nginx(trial):
    """Nginx itself crashes"""
    crash(one("nginx"))
    trial.recovery(is_served)


@experiment(seconds=20, p99_ms=50)
def slow_clients(trial):
    """2,000 idle clients, and 500 that send a byte per second, at Nginx"""
    # Clients of other machines reach the address of Nginx directly. From here a published port leads through docker-proxy, whose
    # work for 2,500 connections would be measured too.
    addresses = [(network["IPAddress"], 8080) for network in one("nginx")["NetworkSettings"]["Networks"].values()]
    reachable = [address for address in addresses if can_connect(*address)]
    if not reachable:
        note("the address of Nginx is unreachable from here: the slow clients use the published port")
    with slow_connections(*(reachable or [("127.0.0.1", PORT)])[0]):
        pass


@experiment(seconds=20, obstacle=replicas_are_unreachable)
def slow_clients_at_a_replica(trial):
    """2,000 idle clients, and 500 that send a byte per second, at a replica itself"""
    replica = one("app")
    with slow_connections(address_of(replica), 5000):
        lines = request_replica(replica, "/metrics").splitlines()
        metrics = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        trial.at_most("memory of the replica, MB", int(float(metrics["process_resident_memory_bytes"])) // 1048576, 16)
        # One per connection, up to MAX_CONNECTIONS; some that wait for another connection; and those of the service.
        trial.at_most("threads of the replica", int(metrics["process_threads"]), 640)
        trial.exactly("the replica responds", int("http_connections_open" in metrics), 1)


@experiment(seconds=10, p99_ms=50)
def full_tmpfs(trial):
    """the memory disk of Nginx is full for 5 s"""
    with healing(docker, "exec", one("nginx")["Id"], "rm", "-f", "/tmp/full"):
        # It fails when the disk is full, as intended.
        docker("exec", one("nginx")["Id"], "dd", "if=/dev/zero", "of=/tmp/full", "bs=1M", "count=200", check=False)
        time.sleep(5)


# --- Everything else ---


@experiment(seconds=30)
def kill_monitoring(trial):
    """Prometheus, the exporters and Grafana crash"""
    crash(*(one for name in ("prometheus", "nginx-exporter", "redis-exporter", "grafana") for one in containers(name)))
    trial.recovery(is_monitored, most=15000, seconds=15)
    time.sleep(12)
    trial.alert("MonitoringRestarted")


@experiment(seconds=25, gap_ms=15000)
def kill_everything(trial):
    """everything crashes at once"""
    crash(*containers())
    healthy = [lambda: replica_count() == REPLICAS, is_monitored, is_cached, lambda: len(hosts(8 * REPLICAS)) == REPLICAS]
    trial.recovery(lambda: all(check() for check in healthy), most=15000, seconds=20)


@experiment(seconds=15, p99_ms=50, isolated=True, obstacle=engine.obstacle)
def fill_disk_of_engine(trial):
    """the disk of the container logs is full for 10 s (in a second Docker daemon: Linux, root)"""
    logs = engine.current().logs
    full = logs / "full"
    with healing(subprocess.run, ["rm", "-f", full]):
        # It fails when the disk is full, as intended.
        subprocess.run(["dd", "if=/dev/zero", f"of={full}", "bs=1M"], capture_output=True)
        disk = os.statvfs(logs)
        trial.at_most("free bytes", disk.f_bavail * disk.f_frsize, 0)
        time.sleep(10)


@experiment(seconds=45, gap_ms=30000, isolated=True, obstacle=engine.obstacle)
def restart_engine(trial):
    """Docker stops and starts again (in a second Docker daemon: Linux, root)"""
    daemon = engine.current()
    # A manually stopped container must stay stopped.
    docker("stop", "-t", "0", containers("nginx-exporter")[0]["Id"])
    before = running()
    with healing(daemon.start):
        daemon.stop()
    trial.recovery(is_served, seconds=30)
    milliseconds_until(lambda: running() == before, 30)
    trial.at_most("containers that run only before or only after", len(running() ^ before), 0)


# --- Helpers ---


def one(service):
    """A running container of a service."""
    found = containers(service)
    if not found:
        raise StackError(f"{service} does not run")
    return found[0]


def running():
    return set(docker("ps", "-q", "--no-trunc").split())


def address_of(container):
    return next(network["IPAddress"] for network in container["NetworkSettings"]["Networks"].values())


def host_of(container):
    return container["Config"]["Hostname"]


def can_connect(address, port):
    return try_fetch("/livez", base=f"http://{address}:{port}", timeout=1)[0] is not None


def is_served():
    return try_fetch()[0] == 200


def is_monitored():
    exporters_run = containers("nginx-exporter") and containers("redis-exporter")
    return bool(exporters_run) and try_fetch("/-/ready", base=PROMETHEUS, timeout=1)[0] == 200


def redis_cli(*arguments):
    return docker("exec", one("redis")["Id"], "redis-cli", *arguments)


def request_replica(replica, path, *options):
    """The response of one replica, through the Nginx container, which shares its network. The options are those of wget."""
    url = f"http://{address_of(replica)}:5000{path}"
    return docker("exec", one("nginx")["Id"], "wget", "-q", "-T", "5", "-O", "-", *options, url)


def moods():
    return [request_replica(replica, "/mood") for replica in containers("app")]


def check_agreement(trial):
    trial.exactly("different moods among the replicas", len(set(moods())), 1)


def share_of(replica):
    """The percentage of 60 requests to which the replica responds."""
    responses = [try_fetch()[1].get("X-Served-By") for _ in range(60)]
    return responses.count(host_of(replica)) * 100 // len(responses)


@contextmanager
def paused(container):
    def unpause():
        if docker("inspect", "-f", "{{.State.Paused}}", container["Id"]) == "true":
            docker("unpause", container["Id"])

    with healing(unpause):
        docker("pause", container["Id"])
        yield


def replace_replicas(**environment):
    """Starts REPLICAS new replicas with this environment, then stops the old ones one by one."""
    old = containers("app")
    count = len(old) + REPLICAS
    compose("up", "-d", "--no-build", "--no-deps", "--no-recreate", "--scale", f"app={count}", "app", **environment)
    new = {host_of(replica) for replica in containers("app")} - {host_of(replica) for replica in old}
    wait_for("Nginx reaches the new replicas", lambda: new <= hosts(8 * count), 30)
    for replica in old:
        docker("stop", replica["Id"])
        docker("rm", replica["Id"])


def zone_with_midnight_in(seconds):
    """A POSIX TZ string, and a function that returns the date in that zone."""
    then = datetime.now(timezone.utc) + timedelta(seconds=seconds)
    # East of UTC by the time that UTC is then short of midnight.
    east = 86400 - (then.hour * 3600 + then.minute * 60 + then.second)
    east -= 86400 if east > 43200 else 0
    zone = timezone(timedelta(seconds=east))
    hours, minutes = divmod(abs(east) // 60, 60)
    # POSIX counts westwards.
    name = f"DAY{'+' if east < 0 else '-'}{hours:02}:{minutes:02}:{abs(east) % 60:02}"
    return name, lambda: f"{datetime.now(zone):%Y-%m-%d}"


@contextmanager
def slow_connections(address, port):
    """2,000 connections without a byte, and 500 with a byte per second. The block begins after 12 s of that."""
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    except ValueError:
        raise StackError("2,500 connections need as many open files: ulimit -n 4096")
    clients = [socket.socket() for _ in range(2500)]
    try:
        for client in clients:
            client.settimeout(1)
            client.connect_ex((address, port))
        for _ in range(12):
            for client in clients[:500]:
                # The server closes clients that are too slow.
                with suppress(OSError):
                    client.send(b"G")
            time.sleep(1)
        yield
    finally:
        for client in clients:
            client.close()
