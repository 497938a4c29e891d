#!/usr/bin/env bash
# Scales the app to N replicas, up or down, losing no request; then shows how a burst of requests spread over them.
#
# Usage: scripts/scale.sh N
#   N        1 to 1000
#   --help   this text

# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/images.sh
source "$ROOT/scripts/images.sh"
# shellcheck source=scripts/stack.sh
source "$ROOT/scripts/stack.sh"

case ${1:-} in
  -h | --help) show_help ;;
  '') usage_error "say how many replicas" ;;
esac
if (($# != 1)) || ! is_count "$1"; then usage_error "'$*' is not a number of replicas from 1 to $MAX_REPLICAS"; fi
wanted=$1

need_docker
[[ -n $(containers nginx) ]] || die "the stack does not run: scripts/run.sh"
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

# chart: a line a replica: its name, its requests, a bar, and the memory charged to it. Asked for one by one, the engine
# would take two seconds for each.
chart() {
  {
    # shellcheck disable=SC2046
    docker stats --no-stream --format 'memory {{.ID}} {{.MemUsage}}' $(containers app)
    printf '%s\n' "$spread"
  } | awk '
    $1 == "memory" { memory[$2] = $3; next }
    !most { most = $1 }
    {
      bar = ""
      for (i = 0; i < int($1 * 40 / most); i++) bar = bar "#"
      printf "%-14s %5d  %-40s  %s\n", $2, $1, bar, memory[$2]
    }'
}
chart
