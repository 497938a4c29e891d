#!/usr/bin/env bash
# Compares what the service costs with what others cost, side by side; or starts as many replicas as you like.
#
# Usage: scripts/density.sh [--peers "NAME…"] [--replicas N] [--rounds N] [--seconds N] [--json FILE] [--chart FILE]
#        scripts/density.sh --wall N
#   --peers "NAME…"   of axum, go, flask; whoami, podinfo and http-echo where a registry answers (default: all that can be had)
#   --replicas N      containers of each, for what a replica costs the host; 0: none (default 30)
#   --rounds N        medians of so many rounds (default 3)
#   --seconds N       how long each load runs (default 5)
#   --json FILE       where the figures go (default target/bench/density.json)
#   --chart FILE      draws a chart of them as SVG
#   --wall N          starts N replicas behind one Nginx, asks until each has answered, and stops them: up to 1000
#   --help            this text
#
# Needs Linux, root, Docker, redis-server and Python 3. Load goes to loopback and to its own containers alone. Machines are noisy:
# compare the ratios to ours, in brackets.

# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/images.sh
source "$ROOT/scripts/lib/images.sh"
# shellcheck source=scripts/lib/stack.sh
source "$ROOT/scripts/lib/stack.sh"
# shellcheck source=scripts/load.sh
source "$ROOT/scripts/load.sh"
# shellcheck source=bench/peers.sh
source "$ROOT/bench/peers.sh"

peers='' replicas=30 rounds=3 seconds=5 json=$ROOT/target/bench/density.json chart='' wall=''
while (($#)); do
  case $1 in
    --peers)
      [[ -n ${2:-} ]] || usage_error "--peers takes names"
      peers=$2
      shift
      ;;
    --replicas)
      [[ ${2:-} == 0 ]] || need_number "$1" "${2:-}" 1 200
      replicas=$2
      shift
      ;;
    --rounds)
      need_number "$1" "${2:-}" 1 50
      rounds=$2
      shift
      ;;
    --seconds)
      need_number "$1" "${2:-}" 1 120
      seconds=$2
      shift
      ;;
    --json | --chart)
      [[ -n ${2:-} ]] || usage_error "$1 takes a file"
      if [[ $1 == --json ]]; then json=$2; else chart=$2; fi
      shift
      ;;
    --wall)
      need_number "$1" "${2:-}" 1 "$MAX_REPLICAS"
      wall=$2
      shift
      ;;
    -h | --help) show_help ;;
    *) usage_error "unknown argument '$1'" ;;
  esac
  shift
done

[[ -r /proc/meminfo ]] || die "what services cost is read from /proc, which only Linux has"
need_docker
need_oha

# check_host N: names what of the host would not carry N replicas, before they are started.
check_host() {
  local available
  check_neighbours "$1"
  available=$(awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo)
  # A replica takes about 10 MB of the host, nearly all of it the engine's shim.
  if ((available < $1 * 12)); then
    warn "$1 replicas take about $(($1 * 10)) MB, and $available are available"
  fi
}

# answered FILE: asks through Nginx until each of the replicas has answered, or no further one has in ten rounds; the names of
# those that answered into FILE, one a request.
answered() {
  local vain=0 before=0 now
  : >"$1"
  while ((vain < 10)); do
    curl -s -m 20 -o /dev/null -D - "$(base_url)/mood?[1-$((wall < 50 ? 100 : wall * 2))]" | tr -d '\r' |
      awk 'tolower($1) == "x-served-by:" { print $2 } /^HTTP/ && $2 != 200 { print "failed" }' >>"$1"
    now=$(grep -v '^failed$' "$1" | sort -u | wc -l)
    if ((now >= wall)); then return 0; fi
    vain=$((now > before ? 0 : vain + 1)) before=$now
  done
}

# are_ready FILE: asks each of the addresses in FILE that has not said yet that it is ready, from Nginx' container; those that
# still have to stay in FILE. The engine's own check takes 55 ms of CPU or more: a thousand of them in a minute would be a core.
are_ready() {
  docker exec -i "$(containers nginx)" sh -c 'while read -r address; do
    wget -q -T 2 -O /dev/null "http://$address:5000/readyz" || echo "$address"
  done' <"$1" >"$1.rest"
  mv "$1.rest" "$1"
  [[ ! -s $1 ]]
}

raise_wall() {
  local began started ready before
  # shellcheck source=bench/unlimited.sh
  source "$ROOT/bench/unlimited.sh"
  check_host "$wall"
  start_unlimited_stack 1
  # Asked here instead (see are_ready).
  export APP_HEALTH_INTERVAL=1h
  before=$(awk '/^MemAvailable/ { print $2 }' /proc/meminfo)
  began=$SECONDS
  step "Starting $wall replicas"
  busy - start_replicas "$wall" --no-deps --no-recreate app
  started=$((SECONDS - began))
  # shellcheck disable=SC2046
  docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{"\n"}}{{end}}' $(containers app) | grep . >"$folder/addresses"
  busy - wait_until 600 "all replicas are ready" are_ready "$folder/addresses"
  ready=$((SECONDS - began))
  step "Asking until each has answered"
  answered "$folder/names"
  sort "$folder/names" | uniq -c | awk '$2 != "failed" { print $1 }' | sort -n >"$folder/spread"
  say "replicas        $wall, all started after $started s, all ready after $ready s"
  say "answered        $(wc -l <"$folder/spread" | tr -d ' ') of $wall, $(grep -c '^failed$' "$folder/names" || true) failed of $(wc -l <"$folder/names" | tr -d ' ') requests"
  say "spread          least $(head -n 1 "$folder/spread"), median $(awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }' "$folder/spread"), most $(tail -n 1 "$folder/spread") requests a replica"
  awk -v before="$before" -v replicas="$wall" '/^MemAvailable/ {
    printf "memory          %.0f MB of the host, %.1f MB a replica with its shim\n", (before - $2) / 1024, (before - $2) / 1024 / (replicas - 1 ? replicas - 1 : 1)
  }' /proc/meminfo
  awk '{ pss += $1 } END { printf "of it           %.2f MB a replica by itself (proportional)\n", pss / 1024 / NR }' <(
    # shellcheck disable=SC2046
    for pid in $(docker inspect -f '{{.State.Pid}}' $(containers app)); do awk '/^Pss:/ { print $2 }' "/proc/$pid/smaps_rollup"; done
  )
  (($(wc -l <"$folder/spread") == wall)) && ! grep -q '^failed$' "$folder/names"
}

# root_of NAME IMAGE: the image's files, in a folder.
root_of() {
  local folder=$ROOT/target/bench/roots/$1 id container
  id=$(docker image inspect -f '{{.Id}}' "$2")
  if [[ $(cat "$folder.id" 2>/dev/null) == "$id" ]]; then return; fi
  rm -rf "$folder"
  mkdir -p "$folder"
  container=$(docker create "$2" /nothing)
  docker export "$container" | tar -C "$folder" -xf -
  docker rm "$container" >/dev/null
  printf '%s' "$id" >"$folder.id"
}

# chosen_peers: those that were named, or all that can be had.
chosen_peers() {
  local name
  if [[ -n $peers ]]; then
    printf '%s' "$peers"
    return
  fi
  printf '%s' "$WRITTEN_PEERS"
  is_offline_image "$(env_value BUILDER_IMAGE)" || for name in $READY_PEERS; do printf ' %s' "$name"; done
}

compare() {
  local name services
  [[ $(id -u) == 0 ]] || die "reading what others' processes cost needs root: sudo $0"
  need redis-server redis-server
  need python3 python3
  image_exists "$(peer_image ours)" || "$ROOT/scripts/build.sh"
  services=("ours=$(peer_image ours)")
  root_of ours "$(peer_image ours)"
  for name in $(chosen_peers); do
    case " $WRITTEN_PEERS " in
      *" $name "*) build_peer "$name" ;;
      *)
        case " $READY_PEERS " in *" $name "*) ;; *) usage_error "there is no peer '$name'" ;; esac
        have_official "$(peer_image "$name")" || die "$PULL_SENTENCE"
        ;;
    esac
    root_of "$name" "$(peer_image "$name")"
    services+=("$name=$(peer_image "$name")")
  done
  mkdir -p "$(dirname "$json")"
  step "Measuring (about $((rounds * ${#services[@]} * (seconds + 6) / 10 + 1)) minutes)"
  # What it mounts is gone with it.
  unshare --mount --propagation private python3 "$ROOT/bench/density.py" --oha "$(command -v "$OHA")" --roots "$ROOT/target/bench/roots" \
    --rounds "$rounds" --seconds "$seconds" --replicas "$replicas" --json "$json" "${services[@]}"
  say ''
  say "machine  $(getconf _NPROCESSORS_ONLN) cores, kernel $(uname -r), engine $(docker version -f '{{.Server.Version}}'); figures in $json"
  if [[ -n $chart ]]; then
    "$(python_tools chart 'matplotlib>=3.9,<4')" "$ROOT/bench/chart.py" "$json" "$chart"
    say "chart    $chart"
  fi
}

if [[ -n $wall ]]; then raise_wall; else compare; fi
