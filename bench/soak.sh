#!/usr/bin/env bash
# Half an hour at half of what the stack carries: memory, threads, open files and Redis connections of each replica must stay flat.
#
# Usage: bench/soak.sh [--minutes N] [--rate N]
#   --minutes N   2 to 1440 (default 30)
#   --rate N      requests a second (default: half of what one minute at full speed gives)
#   --help        this text
#
# It starts a stack of its own beside any other, with the limits of one client lifted, and stops it. Samples come from Prometheus. Flat: the median of
# the last quarter is at most a tenth (and at least one) above that of the second; the first is warm-up. Exits with the number that
# were not.

# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/../scripts/lib/common.sh"
# shellcheck source=scripts/lib/stack.sh
source "$ROOT/scripts/lib/stack.sh"
# shellcheck source=scripts/load.sh
source "$ROOT/scripts/load.sh"
# shellcheck source=bench/unlimited.sh
source "$ROOT/bench/unlimited.sh"

minutes=30 rate=''
while (($#)); do
  case $1 in
    --minutes)
      need_number "$1" "${2:-}" 2 1440
      minutes=$2
      shift
      ;;
    --rate)
      need_number "$1" "${2:-}" 1 999999
      rate=$2
      shift
      ;;
    -h | --help) show_help ;;
    *) usage_error "unknown argument '$1'" ;;
  esac
  shift
done

need_docker
need curl curl
need_oha
start_unlimited_stack 3

# median EXPRESSION FROM TO: of all its samples between two times, over all series.
median() {
  curl -s -m 20 "$(prometheus_url)/api/v1/query_range" --data-urlencode "query=$1" \
    --data-urlencode "start=$2" --data-urlencode "end=$3" --data-urlencode step=5 |
    tr '[' '\n' | sed -n 's/^[0-9.]*,"\([0-9.e+]*\)".*/\1/p' | sort -n |
    awk '{ value[NR] = $1 } END { print value[int((NR + 1) / 2)] + 0 }'
}

if [[ -z $rate ]]; then
  step "A minute at full speed"
  ask '' 60 "$folder/full"
  read -r requests _ <<<"$(figures "$folder/full")"
  rate=$((requests / 120))
fi
step "$minutes minutes at $rate requests a second"
began=$(date +%s)
busy /dev/null ask "$rate" $((minutes * 60)) "$folder/soak"
ended=$(date +%s)
read -r requests failed p50 p99 slowest <<<"$(figures "$folder/soak")"
say "$requests requests, $failed failed, p50 $p50, p99 $p99, slowest $slowest ms"

grown=0
quarter=$(((ended - began) / 4))
printf '%-28s %14s %14s\n' '' 'second quarter' 'last quarter'
while IFS='|' read -r what expression; do
  early=$(median "$expression" $((began + quarter)) $((began + 2 * quarter)))
  late=$(median "$expression" $((began + 3 * quarter)) "$ended")
  verdict=flat
  if ! awk -v early="$early" -v late="$late" 'BEGIN { exit !(late <= early * 1.1 || late <= early + 1) }'; then
    verdict=GROWN
    grown=$((grown + 1))
  fi
  printf '%-28s %14s %14s  %s\n' "$what" "$early" "$late" "$verdict"
done <<'LIST'
memory of a replica, bytes|process_resident_memory_bytes{job="app"}
threads of a replica|process_threads{job="app"}
open files of a replica|process_open_fds{job="app"}
connections to Redis|redis_connected_clients{job="redis"}
memory of Redis, bytes|redis_memory_used_bytes{job="redis"}
LIST
((failed == 0)) || warn "$failed requests failed"
exit $((grown + (failed > 0)))
