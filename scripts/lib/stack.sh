# The Docker daemon and the running stack. Sourced by the scripts.
# shellcheck shell=bash

# A Linux bridge has 1,024 ports, which the other services share.
# shellcheck disable=SC2034
readonly MAX_REPLICAS=1000

# is_count TEXT: a valid number of replicas.
is_count() { [[ $1 =~ ^[1-9][0-9]{0,3}$ ]] && (($1 <= MAX_REPLICAS)); }

# need_docker: dies with the fix if this user cannot use the Docker daemon.
need_docker() {
  local reply start="sudo service docker start"
  need docker docker.io
  reply=$(docker info 2>&1 >/dev/null) && return
  [[ $reply != *"permission denied"* ]] ||
    die "permission to use the Docker daemon is denied: sudo usermod -aG docker $(id -un), then log in again"
  [[ $(uname -s) != Darwin ]] || start="start Docker Desktop, or its replacement"
  die "the Docker daemon does not respond: $start"
}

has_compose_v2() { docker compose version >/dev/null 2>&1; }

# compose ARGUMENT…: Compose v2 if installed, else docker-compose 1.29. With more than eight parallel calls, the daemon is no
# faster, and with hundreds of replicas the calls time out.
compose() {
  local -x COMPOSE_PARALLEL_LIMIT=${COMPOSE_PARALLEL_LIMIT:-8} COMPOSE_HTTP_TIMEOUT=${COMPOSE_HTTP_TIMEOUT:-300}
  if has_compose_v2; then
    (cd "$ROOT" && docker compose "$@")
  else
    need docker-compose docker-compose
    (cd "$ROOT" && docker-compose "$@")
  fi
}

# containers SERVICE [OPTION…]: the ids of the running containers of a service; options go to docker ps.
containers() {
  docker ps -q "${@:2}" --filter "label=com.docker.compose.project=$(env_value COMPOSE_PROJECT_NAME)" \
    --filter "label=com.docker.compose.service=$1"
}

# Some implementations of wc pad the number.
replica_count() { containers app | wc -l | tr -d ' '; }

base_url() { printf 'http://localhost:%s' "$(env_value HTTP_PORT)"; }

# start_replicas N ARGUMENT…: `compose up` with N replicas. Waits until Nginx uses all of them, or twenty.
start_replicas() {
  local replicas=$1
  shift
  expect_replicas "$replicas"
  quietly "Compose could not start the stack" compose up -d --no-build --scale app="$replicas" "$@"
  wait_until 60 "the stack responds on $(base_url)" is_served
  wait_until 60 "Nginx uses all replicas" reached "$((replicas > 20 ? 20 : replicas))"
}

is_served() { curl -sf -m 2 -o /dev/null "$(base_url)/mood"; }

# reached COUNT: whether Nginx passes requests to this many different replicas.
reached() {
  local seen i url
  url=$(base_url)/mood
  seen=$(for ((i = 0; i < $1 * 8; i++)); do curl -s -m 2 -o /dev/null -D - "$url" || true; done |
    header X-Served-By all | sort -u | wc -l)
  ((seen >= $1))
}

# expect_replicas N: writes the rule from which Prometheus detects missing replicas.
expect_replicas() {
  local folder prometheus
  folder=$ROOT/state/$(env_value COMPOSE_PROJECT_NAME)
  mkdir -p "$folder"
  [[ -w $folder ]] || die "$folder belongs to another user: sudo chown -R $(id -un) $ROOT/state"
  cat >"$folder/expected.yml" <<RULES
groups:
  - name: expected
    rules:
      - record: mood:replicas:expected
        expr: vector($1)
RULES
  # Prometheus runs as another user.
  chmod -R go+rX "$folder"
  prometheus=$(containers prometheus)
  # SIGHUP reloads the rules. It is sent from inside, because the daemon never restarts a container after a `docker kill`.
  [[ -z $prometheus ]] || docker exec "$prometheus" sh -c 'kill -s HUP 1'
}

# check_neighbours COUNT: near 300 replicas, the kernel's neighbour table overflows. All namespaces share it.
check_neighbours() {
  local limit
  # Outside Linux, the daemon runs in a virtual machine that adapts its limit.
  limit=$(cat /proc/sys/net/ipv4/neigh/default/gc_thresh3 2>/dev/null || echo 16384)
  if (($1 > 250 && limit < 16384)); then
    warn "with $1 replicas, connections will time out: sudo sysctl -w net.ipv4.neigh.default.gc_thresh3=16384"
  fi
}
