# A second Docker engine on this machine, in a network namespace of its own: for what would harm everybody's containers. Its
# containers' logs are on a small disk. Sourced by chaos.sh.
# shellcheck shell=bash

readonly ENGINE_NAMESPACE=mood-chaos
# Where it keeps all it has; only inside it is this set.
ENGINE=${MOOD_ENGINE:-}

# engine_obstacle: why it cannot be had here; nothing if it can.
engine_obstacle() {
  local tool
  if [[ $(uname -s) != Linux ]]; then echo "it takes Linux"; return; fi
  if [[ $(id -u) != 0 ]]; then echo "it takes root (sudo $0)"; return; fi
  for tool in dockerd ip nsenter setsid; do
    if ! has $tool; then echo "$tool is missing: $(how_to_install docker.io iproute2 util-linux)"; return; fi
  done
}

# start_engine: gives back when it answers.
start_engine() {
  # Not by `ip netns exec`, which would hide the control groups. In a session of its own: Ctrl-C is for those who use it.
  setsid nsenter --net=/run/netns/$ENGINE_NAMESPACE dockerd --config-file "$ENGINE/empty.json" --data-root "$ENGINE/data" \
    --exec-root "/run/$ENGINE_NAMESPACE" --pidfile "$ENGINE/docker.pid" --host "unix://$ENGINE/docker.sock" \
    --storage-driver "$(cat "$ENGINE/driver")" >>"$ENGINE/log" 2>&1 &
  wait_until 60 "the second engine answers" in_engine docker info
}

# stop_engine: as its service manager does.
stop_engine() {
  local pid
  pid=$(cat "$ENGINE/docker.pid" 2>/dev/null) || return 0
  kill "$pid" 2>/dev/null || return 0
  wait_until 60 "the second engine ends" is_gone "$pid"
}
is_gone() { ! kill -0 "$1" 2>/dev/null; }

# open_engine: makes it, with the images of this one, and starts the stack there.
open_engine() {
  local name image images=()
  step "Starting a second engine, and the stack in it (about a minute)"
  # On a disk, where the first one is: the images are large.
  ENGINE=$(docker info -f '{{.DockerRootDir}}')/mood-chaos
  mkdir -p "$ENGINE/data/containers"
  echo '{}' >"$ENGINE/empty.json"
  docker info -f '{{.Driver}}' >"$ENGINE/driver"
  mount -t tmpfs -o size=32m tmpfs "$ENGINE/data/containers"
  ip netns add $ENGINE_NAMESPACE
  ip -n $ENGINE_NAMESPACE link set lo up
  start_engine
  while read -r name; do
    image=$(env_value "$name")
    if [[ $name != BUILDER_IMAGE ]] && image_exists "$image"; then images[${#images[@]}]=$image; fi
  done < <(sed -n 's/^\([A-Z_]*_IMAGE\)=.*/\1/p' "$ROOT/.env")
  docker save ${images[@]+"${images[@]}"} | in_engine docker load >/dev/null
  in_engine "$ROOT/scripts/run.sh" --replicas "$REPLICAS" >>"$ENGINE/log" 2>&1 || {
    tail -n 5 "$ENGINE/log" >&2
    die "the stack does not start in a second engine (above is why)"
  }
}

# in_engine COMMAND…: there.
in_engine() {
  nsenter --net=/run/netns/$ENGINE_NAMESPACE env DOCKER_HOST="unix://$ENGINE/docker.sock" COMPOSE_PROJECT_NAME=mood-chaos \
    MOOD_ENGINE="$ENGINE" "$@"
}

# close_engine: ends it, and removes all it had.
close_engine() {
  [[ -n $ENGINE ]] || return 0
  if [[ -e $ENGINE/docker.sock ]]; then in_engine "$ROOT/scripts/stop.sh" >/dev/null 2>&1 || true; fi
  stop_engine
  ip netns del $ENGINE_NAMESPACE 2>/dev/null || true
  umount "$ENGINE/data/containers" 2>/dev/null || true
  rm -rf "$ENGINE" "$ROOT/state/mood-chaos"
  ENGINE=''
}
