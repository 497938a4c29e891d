#!/usr/bin/env bash
# Scales the app to N replicas without losing a request, then shows how a burst of requests is distributed.
#
# Usage: scripts/scale.sh N
#   N        1 to 1000
#   --help   this text

# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/stack.sh
source "$ROOT/scripts/lib/stack.sh"

case ${1:-} in
  -h | --help) show_help ;;
  '') usage_error "the number of replicas is missing" ;;
esac
if (($# != 1)) || ! is_count "$1"; then usage_error "'$*' is not a number of replicas from 1 to $MAX_REPLICAS"; fi
wanted=$1

need_docker
[[ -n $(containers nginx) ]] || die "the stack is not running: scripts/run.sh"
check_neighbours "$wanted"

step "Scaling from $(replica_count) to $wanted replicas"
start_replicas "$wanted" --no-deps --no-recreate app

requests=$((wanted * 20 > 2000 ? 2000 : wanted * 20 < 100 ? 100 : wanted * 20))
step "$requests requests, by replica"
url=$(base_url)/mood
# On one connection, like a browser.
spread=$(for ((i = 0; i < requests; i++)); do printf 'url = "%s"\noutput = "/dev/null"\n' "$url"; done |
  curl -s -m 120 -D - -K - | header X-Served-By all | sort | uniq -c | sort -rn)

# memory_of_replicas: `memory ID AMOUNT` per replica. From the control groups if the daemon runs on this machine, because
# docker stats takes 0.1 s per replica.
memory_of_replicas() {
  local id file groups=/sys/fs/cgroup
  id=$(containers app --no-trunc | head -n 1)
  # Version 1 of control groups, and version 2 with either driver.
  for file in $groups/memory/docker/ID/memory.usage_in_bytes $groups/docker/ID/memory.current \
    $groups/system.slice/docker-ID.scope/memory.current; do
    [[ -r ${file/ID/$id} ]] || continue
    for id in $(containers app --no-trunc); do
      printf 'memory %.12s %s\n' "$id" "$(cat "${file/ID/$id}")"
    done
    return
  done
  # shellcheck disable=SC2046
  docker stats --no-stream --format 'memory {{.ID}} {{.MemUsage}}' $(containers app)
}

# One line per replica: name, requests, bar, memory.
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
