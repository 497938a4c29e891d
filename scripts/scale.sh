#!/usr/bin/env bash
# Scales the app to N replicas, up or down, losing no request; then shows how a burst of requests spread over them.
#
# Usage: scripts/scale.sh N
#   N        1 to 1000
#   --help   this text

# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/images.sh
source "$ROOT/scripts/lib/images.sh"
# shellcheck source=scripts/lib/stack.sh
source "$ROOT/scripts/lib/stack.sh"

case ${1:-} in
  -h | --help) show_help ;;
  '') usage_error "say how many replicas" ;;
esac
if (($# != 1)) || ! is_count "$1"; then usage_error "'$*' is not a number of replicas from 1 to $MAX_REPLICAS"; fi
wanted=$1

need_docker
need_stack
check_neighbours "$wanted"

before=$(replica_count)
step "Scaling from $before to $wanted replicas"
# The rest stays as it is. A replica that goes away drains: it answers what it has and tells Nginx so.
start_replicas "$wanted" --no-deps --no-recreate app

requests=$((wanted * 20 > 2000 ? 2000 : wanted * 20 < 100 ? 100 : wanted * 20))
step "$requests requests, by replica"
url=$(base_url)/mood
# One connection, as a proxy or a browser would have.
spread=$(for ((i = 0; i < requests; i++)); do printf 'url = "%s"\noutput = "/dev/null"\n' "$url"; done |
  curl -s -m 120 -D - -K - | header X-Served-By all | sort | uniq -c | sort -rn)

# memory_of_replicas: `memory ID BYTES` for each, as charged to it: from the kernel where it is this machine's (200 in a second),
# else from the engine, which takes a tenth of a second for each, asked for all at once.
memory_of_replicas() {
  local id file
  id=$(containers app --no-trunc | head -n 1)
  # Control groups of version 1, and of 2 by either driver.
  for file in /sys/fs/cgroup/memory/docker/ID/memory.usage_in_bytes /sys/fs/cgroup/docker/ID/memory.current \
    /sys/fs/cgroup/system.slice/docker-ID.scope/memory.current ''; do
    if [[ -z $file || -r ${file/ID/$id} ]]; then break; fi
  done
  if [[ -n $file ]]; then
    for id in $(containers app --no-trunc); do
      printf 'memory %.12s %s\n' "$id" "$(cat "${file/ID/$id}")"
    done
  else
    # shellcheck disable=SC2046
    docker stats --no-stream --format 'memory {{.ID}} {{.MemUsage}}' $(containers app)
  fi
}

# chart: a line a replica: its name, its requests, a bar, and its memory.
chart() {
  {
    memory_of_replicas
    printf '%s\n' "$spread"
  } | awk '
    $1 == "memory" { memory[$2] = $3 ~ /^[0-9]+$/ ? sprintf("%.1fMiB", $3 / 1048576) : $3; next }
    !most { most = $1 }
    {
      bar = ""
      for (i = 0; i < int($1 * 40 / most); i++) bar = bar "#"
      printf "%-14s %5d  %-40s  %s\n", $2, $1, bar, memory[$2]
    }'
}
chart
