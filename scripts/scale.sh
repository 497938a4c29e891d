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

# memory_of ID: the bytes charged to a container.
memory_of() { docker stats --no-stream --format '{{.MemUsage}}' "$1" | cut -d/ -f1 | tr -d ' '; }

requests=$((wanted * 20 > 2000 ? 2000 : wanted * 20 < 100 ? 100 : wanted * 20))
step "$requests requests, by replica"
url=$(base_url)
# One connection, as a proxy or a browser would have.
spread=$(for _ in $(seq "$requests"); do printf 'url = "%s/mood"\noutput = "/dev/null"\n' "$url"; done |
  curl -s -m 120 -D - -K - | sed -n 's/^X-Served-By: //Ip' | tr -d '\r' | sort | uniq -c | sort -rn)
most=$(awk 'NR == 1 { print $1 }' <<<"$spread")
shown=0
while read -r count host; do
  ((shown < 40)) || break
  shown=$((shown + 1))
  bar=$(printf '%*s' $((count * 40 / most)) '' | tr ' ' '#')
  printf '%-14s %5d  %-40s  %s\n' "$host" "$count" "$bar" "$(memory_of "$host")"
done <<<"$spread"
total=$(wc -l <<<"$spread")
((total <= shown)) || say "… and $((total - shown)) more"
