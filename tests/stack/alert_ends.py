"""Test cases for promtool: each alert's fault, of many durations, ends, and no alert begins to fire afterwards.

A fault ends for Prometheus after one scrape and one evaluation. Until then an alert may begin.
"""

STEP = 5
NOTICED = 2 * STEP
# Samples of calm before and after. Before: all of the five-minute windows. After: until they have forgotten the fault.
BEFORE, AFTER = 66, 72
# In samples: shorter and longer than each window and each `for`, with the steps between them.
DURATIONS = (1, 2, 3, 4, 6, 8, 11, 13, 20)

NGINX = 'nginx_responses_total{job="nginx-responses",instance="n",client="user",status="%s"}'
LATENCY = 'http_request_latency_seconds_%s{job="app",instance="a:5000",method="GET",path="/mood"%s}'
BUCKET = LATENCY % ("bucket", ',le="%s"')


def counter(series, well, ill, after=None):
    """Increments a sample: before, during and after the fault."""
    return series, lambda duration: _counted([well] * BEFORE + [ill] * duration + [well if after is None else after] * AFTER)


def gauge(series, well, ill):
    return series, lambda duration: [well] * BEFORE + [ill] * duration + [well] * AFTER


def _counted(increments):
    total, values = 0, []
    for increment in increments:
        total += increment
        values.append(total)
    return values


def failing(after):
    """Every request fails; afterwards so many a sample come."""
    return [counter(NGINX % 200, MANY, 0, after), counter(NGINX % 503, 0, MANY, 0)]


def slow(after):
    return [
        counter(NGINX % 200, MANY, MANY, after),
        counter(BUCKET % "0.025", MANY, 0, after),
        counter(BUCKET % "0.05", MANY, MANY, after),
        counter(BUCKET % "+Inf", MANY, MANY, after),
        counter(LATENCY % ("count", ""), MANY, MANY, after),
    ]


# A sample; enough for a ratio over three days to count although there are minutes of it.
MANY = 2000
ERRORS = {"ErrorsBurnFast", "ErrorsBurnMedium", "ErrorsBurnSlow", "ErrorRatioHigh"}
LATENCIES = {"LatencyBurnFast", "LatencyBurnMedium", "LatencyBurnSlow", "LatencyHigh"}
A, B = 'up{job="app",instance="a:5000"}', 'up{job="app",instance="b:5000"}'

# What goes wrong at once, and the alerts that it is the fault of. Requests go on afterwards, become few, or end.
FAULTS = {
    "all fails": (
        ERRORS | {"NoReplica", "RedisDown", "NginxDown", "RedisMemoryHigh", "RedisRejecting", "RateLimitingInForce",
                  "RunningOnBypass", "ScrapeFailing"},
        [*failing(MANY), gauge(A, 1, 0), gauge('redis_up{job="redis",instance="r"}', 1, 0),
         gauge('up{job="nginx-responses",instance="n"}', 1, 0), gauge('redis_memory_used_bytes{job="redis",instance="r"}', 10, 95),
         gauge('redis_memory_max_bytes{job="redis",instance="r"}', 100, 100),
         counter('redis_evicted_keys_total{job="redis",instance="r"}', 0, 9), counter(NGINX % 429, 0, 500),
         counter('mood_cache_requests_total{job="app",instance="a:5000",result="bypass"}', 0, 50)]),
    "all is gone": (
        ERRORS | {"NoReplica", "RedisDown", "NginxDown"},
        [*failing(1), gauge(A, 1, "stale"), gauge('redis_up{job="redis",instance="r"}', 1, "stale"),
         gauge('up{job="nginx-responses",instance="n"}', 1, "stale")]),
    "a replica fails": (
        ERRORS | {"ReplicaDown", "RedisRejecting", "NginxDroppingConnections"},
        [*failing(0), gauge(A, 1, 0), gauge(B, 1, 1), counter('redis_rejected_connections_total{job="redis",instance="r"}', 0, 9),
         counter('nginx_connections_accepted{job="nginx",instance="n"}', 9, 9),
         counter('nginx_connections_handled{job="nginx",instance="n"}', 9, 8, 9)]),
    "a replica is gone": (
        LATENCIES | {"ReplicasFewerThanExpected"},
        [*slow(MANY), gauge(A, 1, "stale"), gauge(B, 1, 1), gauge("mood:replicas:expected", 2, 2)]),
    "a replica is slow and fat": (
        LATENCIES | {"ReplicaMemoryHigh"},
        [*slow(1), gauge(A, 1, 1), gauge('process_resident_memory_bytes{job="app",instance="a:5000"}', 2e6, 30e6)]),
    "rules fail": (
        LATENCIES | {"RuleEvaluationFailing"},
        [*slow(0), counter('prometheus_rule_evaluation_failures_total{rule_group="app"}', 0, 1)]),
}
# Told once a restart has happened, which is over by then.
EVENTS = {"ReplicaRestarting", "RedisRestarted", "MonitoringRestarted", "DeadMansSwitch"}


def case(fault, alerts, inputs, duration):
    gone = (BEFORE + duration - 1) * STEP + NOTICED
    end = (BEFORE + duration + AFTER - 1) * STEP
    firing = 'ALERTS{alertname=~"%s",alertstate="firing"}' % "|".join(sorted(alerts))
    begun = f"count by (alertname) ({firing} unless {firing} offset {STEP}s)"
    checks = [{"expr": f"max_over_time({begun}[{end - gone}s:{STEP}s])", "exp_samples": []}]
    if duration == max(DURATIONS):
        # And they do fire while the fault is there.
        checks.append({
            "expr": f"max_over_time(count by (alertname) ({firing})[{end}s:{STEP}s])",
            "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(alerts)]})
    return {
        "name": f"{fault} for {duration * STEP} s",
        "interval": f"{STEP}s",
        "input_series": [{"series": series, "values": " ".join(map(str, values(duration)))} for series, values in inputs],
        "promql_expr_test": [{**check, "eval_time": f"{end}s"} for check in checks],
    }


def cases(rules, durations):
    """A file of promtool's tests; `rules` is the path of alerts.yml as seen from that file."""
    tests = [case(fault, *known, duration) for fault, known in FAULTS.items() for duration in durations]
    return {"rule_files": [rules], "evaluation_interval": f"{STEP}s", "tests": tests}
