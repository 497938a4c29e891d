# The running stack, as the scripts see it. Sourced by them.
# shellcheck shell=bash

# compose ARGUMENTS…: Compose v2 where it is installed, else docker-compose 1.29. Eight calls at a time are as quick as 64, which
# wait for each other in the engine until those of a few hundred replicas run out of time.
compose() {
  local -x COMPOSE_PARALLEL_LIMIT=${COMPOSE_PARALLEL_LIMIT:-8} COMPOSE_HTTP_TIMEOUT=${COMPOSE_HTTP_TIMEOUT:-300}
  if docker compose version >/dev/null 2>&1; then
    (cd "$ROOT" && docker compose "$@")
  elif has docker-compose; then
    (cd "$ROOT" && docker-compose "$@")
  else
    die "Compose is missing: $(how_to_install docker-compose)"
  fi
}

# start_replicas N ARGUMENTS…: `compose up` with N replicas; what it says is shown only if it fails. Waits until Nginx
# reaches them (twenty of them, if there are more).
start_replicas() {
  local log replicas=$1
  shift
  expect_replicas "$replicas"
  log=$(temp_folder)/compose.log
  if ! compose up -d --no-build --scale app="$replicas" "$@" >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    die "Compose could not start the replicas (above is why)"
  fi
  rm -rf "$(dirname "$log")"
  wait_until 60 "the stack answers on $(base_url)" is_served
  wait_until 60 "Nginx reaches all replicas" reached "$((replicas > 20 ? 20 : replicas))"
}

# need_docker: dies with what to do if containers cannot be run.
need_docker() {
  need docker docker.io
  local answer
  answer=$(docker info 2>&1 >/dev/null) && return
  case $answer in
    *"permission denied"*) die "you may not talk to the Docker daemon: sudo usermod -aG docker $(id -un), then log in again" ;;
    *)
      ! is_mac || die "the Docker daemon does not answer: start Docker Desktop (or what you use instead)"
      die "the Docker daemon does not answer: sudo service docker start"
      ;;
  esac
}

http_port() { env_value HTTP_PORT; }
base_url() { printf 'http://localhost:%s' "$(http_port)"; }
prometheus_url() { printf 'http://localhost:%s' "$(env_value PROMETHEUS_PORT)"; }

# need_stack: dies with what to do if it does not run.
need_stack() { [[ -n $(containers nginx) ]] || die "the stack does not run: scripts/run.sh"; }

# containers SERVICE [OPTION…]: the ids of its running containers; options go to docker ps.
containers() {
  docker ps -q "${@:2}" --filter "label=com.docker.compose.project=$(env_value COMPOSE_PROJECT_NAME)" \
    --filter "label=com.docker.compose.service=$1"
}

# Some wc's write spaces before the number.
replica_count() { containers app | wc -l | tr -d ' '; }

# reached COUNT: whether Nginx passes requests to this many different replicas.
reached() {
  local seen i url
  url=$(base_url)/mood
  seen=$(for ((i = 0; i < $1 * 8; i++)); do curl -s -m 2 -o /dev/null -D - "$url" || true; done |
    header X-Served-By all | sort -u | wc -l)
  ((seen >= $1))
}

is_served() { curl -sf -m 2 -o /dev/null "$(base_url)/mood"; }

# check_neighbours COUNT: near 300 replicas the kernel's neighbour table overflows, for all namespaces together.
check_neighbours() {
  local limit
  # Elsewhere than on Linux the engine's kernel is in a virtual machine that sizes itself.
  limit=$(cat /proc/sys/net/ipv4/neigh/default/gc_thresh3 2>/dev/null || echo 16384)
  if (($1 > 250 && limit < 16384)); then
    warn "with $1 replicas connections will time out; type: sudo sysctl -w net.ipv4.neigh.default.gc_thresh3=16384"
  fi
}

# The most replicas that a Linux bridge has ports for, beside the other services.
# shellcheck disable=SC2034
readonly MAX_REPLICAS=1000

# is_count TEXT: a number of replicas.
is_count() { is_number "$1" 1 "$MAX_REPLICAS"; }

# expect_replicas N: tells Prometheus how many there should be, for the alert about fewer.
expect_replicas() {
  local folder prometheus
  folder=$ROOT/state/$(env_value COMPOSE_PROJECT_NAME)
  mkdir -p "$folder"
  cat >"$folder/expected.yml" <<EOF
groups:
  - name: expected
    rules:
      - record: mood:replicas:expected
        expr: vector($1)
EOF
  prometheus=$(containers prometheus)
  # On SIGHUP it reads its rules again. From inside: after a `docker kill`, of whatever signal, the engine takes a container
  # for stopped by hand and never starts it again by itself.
  [[ -z $prometheus ]] || docker exec "$prometheus" sh -c 'kill -s HUP 1'
}
