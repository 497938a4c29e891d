# A stack of its own beside any other, on ports of its own, with the limits of one client lifted. Sourced by the benchmarks that
# ask through Nginx at full speed.
# shellcheck shell=bash

export COMPOSE_PROJECT_NAME=mood-bench COMPOSE_PROFILES='' COMPOSE_FILE=compose.yaml:target/bench/compose.yaml
export HTTP_PORT=18180 PROMETHEUS_PORT=19190 GRAFANA_PORT=13100 ALERTMANAGER_PORT=19193

# start_unlimited_stack REPLICAS: and makes `folder`; both are gone when the script ends.
start_unlimited_stack() {
  folder=$(temp_folder)
  trap 'scripts/stop.sh >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
  trap 'exit 130' INT TERM
  cd "$ROOT" || return
  mkdir -p target/bench
  sed -e 's|rate=1000r/s|rate=1000000r/s|' -e 's|limit_conn  .*clients 512;|limit_conn clients 4096;|' nginx.conf >target/bench/nginx.conf
  cat >target/bench/compose.yaml <<'COMPOSE'
services:
  nginx:
    volumes: ["./target/bench/nginx.conf:/etc/nginx/nginx.conf:ro"]
COMPOSE
  step "Starting a stack of its own"
  scripts/run.sh --replicas "$1" >/dev/null
}
