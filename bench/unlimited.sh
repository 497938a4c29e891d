# A stack of its own beside any other, on ports of its own, with the limits of one client lifted. Sourced by the benchmarks that
# ask through Nginx at full speed.
# shellcheck shell=bash

export COMPOSE_PROJECT_NAME=mood-bench COMPOSE_PROFILES='' NGINX_LIMITS=off
export HTTP_PORT=18180 PROMETHEUS_PORT=19190 GRAFANA_PORT=13100 ALERTMANAGER_PORT=19193

# start_unlimited_stack REPLICAS: and makes `folder`; both are gone when the script ends.
start_unlimited_stack() {
  folder=$(temp_folder)
  trap 'scripts/stop.sh >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
  trap 'exit 130' INT TERM
  cd "$ROOT" || return
  step "Starting a stack of its own"
  scripts/run.sh --replicas "$1" >/dev/null
}
