"""A soak test at half of maximum throughput: memory, threads, open files and Redis connections of each replica must stay flat.

Starts a separate stack of three replicas and stops it. Flat means: the median of the last quarter is at most 10% (but always at
least 1 unit) above that of the second quarter; the first quarter is warm-up. Exits with the number of series that grew.
"""

import json
import statistics
import time
from urllib.parse import urlencode

import load
from common import need
from console import number, step
from stack import PROMETHEUS, fetch
from whole_stack import isolated_stack

SERIES = {
    "memory of a replica, bytes": 'process_resident_memory_bytes{job="app"}',
    "threads of a replica": 'process_threads{job="app"}',
    "open files of a replica": 'process_open_fds{job="app"}',
    "connections to Redis": 'redis_connected_clients{job="redis"}',
    "memory of Redis, bytes": 'redis_memory_used_bytes{job="redis"}',
}


def add_arguments(parser):
    parser.add_argument("--minutes", type=number(2, 1440), default=30, help="default: 30")
    parser.add_argument("--rate", type=number(1, 999_999), help="requests per second (default: half of those in one minute at full speed)")


def run(arguments):
    need("docker")
    load.program()
    with isolated_stack(3):
        rate = arguments.rate
        if not rate:
            step("One minute at full speed")
            rate = load.measure(60).requests // 120
        step(f"{arguments.minutes} minutes at {rate} requests per second")
        began = time.time()
        figures = load.measure(arguments.minutes * 60, rate)
        print(f"{figures.requests} requests, {figures.failed} failed, p50 {figures.p50:.1f}, p99 {figures.p99:.1f}, slowest {figures.slowest:.1f} ms")
        return count_grown(began, time.time()) + (figures.failed > 0)


def count_grown(began, ended):
    quarter = (ended - began) / 4
    print(f"{'':28} {'second quarter':>14} {'last quarter':>14}")
    grown = 0
    for title, expression in SERIES.items():
        early = median(expression, began + quarter, began + 2 * quarter)
        late = median(expression, began + 3 * quarter, ended)
        flat = late <= max(early * 1.1, early + 1)
        grown += not flat
        print(f"{title:28} {early:14.0f} {late:14.0f}  {'flat' if flat else 'GROWN'}")
    return grown


def median(expression, start, end):
    """Of all samples of all series between two times."""
    parameters = urlencode({"query": expression, "start": start, "end": end, "step": 5})
    _, _, body = fetch(f"/api/v1/query_range?{parameters}", base=PROMETHEUS)
    return statistics.median_low(float(value) for series in json.loads(body)["data"]["result"] for _, value in series["values"])
