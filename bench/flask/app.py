"""GET /mood as a Flask service would have it: one Redis GET, JSON, metrics, a JSON log line. For comparison only."""

import datetime
import json
import logging
import os
import sys
import time

import redis
from flask import Flask, Response, g, jsonify, request
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest

app = Flask(__name__)
store = redis.Redis.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"))
log = logging.getLogger("mood")
log.addHandler(logging.StreamHandler(sys.stdout))
log.setLevel(logging.INFO)

REQUESTS = Counter("http_requests", "Requests.", ["method", "path", "status"])
LATENCY = Histogram("http_request_latency_seconds", "Latency.", ["method", "path"])


@app.before_request
def begin():
    g.began = time.perf_counter()


@app.after_request
def observe(response):
    took = time.perf_counter() - g.began
    REQUESTS.labels(request.method, request.path, response.status_code).inc()
    LATENCY.labels(request.method, request.path).observe(took)
    log.info(json.dumps({
        "ts": datetime.datetime.now(datetime.UTC).isoformat(), "msg": "request", "method": request.method,
        "path": request.path, "status": response.status_code, "duration_ms": took * 1000,
    }))
    return response


@app.get("/mood")
def mood():
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    key = f"mood:{date}"
    stored = store.get(key)
    if stored is not None:
        return jsonify(json.loads(stored))
    answer = {"date": date, "mood": "Calm", "emoji": "😌", "message": "Nothing is so urgent that it cannot wait for a breath."}
    store.set(key, json.dumps(answer), ex=86400)
    return jsonify(answer)


@app.get("/metrics")
def metrics():
    return Response(generate_latest(), content_type=CONTENT_TYPE_LATEST)
