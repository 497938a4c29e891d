#!/usr/bin/env bash
# Measures what one request costs through the whole stack: CPU by process, requests a second and latencies, at full speed.
#
# Usage: bench/stack.sh [--seconds N] [--replicas "N…"] [--connections "N…"]
#   --seconds N          how long each load runs, 2 to 120 (default 8)
#   --replicas "N…"      each in turn (default "1 2 8")
#   --connections "N…"   each in turn (default "32 256")
#   --help               this text
#
# It starts a stack of its own beside any other, on ports of its own, with the limits of nginx.conf lifted, and stops it. CPU
# is in microseconds a request, out of /proc: of all processes of that name, so let other stacks be idle. The load generator
# and its docker-proxy, which only clients on this machine have, take their share of the same cores. Linux only.

# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/../scripts/lib/common.sh"
# shellcheck source=scripts/lib/stack.sh
source "$ROOT/scripts/lib/stack.sh"
# shellcheck source=scripts/load.sh
source "$ROOT/scripts/load.sh"
# shellcheck source=bench/unlimited.sh
source "$ROOT/bench/unlimited.sh"

seconds=8 replicas='1 2 8' connections='32 256'
while (($#)); do
  case $1 in
    --seconds)
      need_number "$1" "${2:-}" 2 120
      seconds=$2
      shift
      ;;
    --replicas | --connections)
      [[ ${2:-} =~ ^([1-9][0-9]{0,2}\ *)+$ ]] || usage_error "$1 takes numbers"
      if [[ $1 == --replicas ]]; then replicas=$2; else connections=$2; fi
      shift
      ;;
    -h | --help) show_help ;;
    *) usage_error "unknown argument '$1'" ;;
  esac
  shift
done

[[ -r /proc/stat ]] || die "what processes cost is read from /proc, which only Linux has"
need_docker
need_oha

# cpu_times: `name ticks` of the processes that take part, in hundredths of a second since they began.
cpu_times() {
  cat /proc/[0-9]*/stat 2>/dev/null | awk '
    {
      name = $0; sub(/^[0-9]* \(/, "", name); sub(/\).*/, "", name)
      if (name !~ /^(nginx|mood|redis-server|dockerd|containerd-shim|docker-proxy)$/) next
      sub(/.*\) /, ""); ticks[name] += $12 + $13
    }
    END { for (name in ticks) print name, ticks[name] }'
}

start_unlimited_stack "${replicas%% *}"
printf '%8s %6s %10s %8s %8s  %7s %7s %7s %8s %7s %7s  %7s\n' \
  replicas conns requests/s 'p50 ms' 'p99 ms' nginx mood redis dockerd shim sum proxy
for count in $replicas; do
  "$ROOT/scripts/scale.sh" "$count" >/dev/null
  for number in $connections; do
    ask '' 2 "$folder/warm" "$number"
    cpu_times >"$folder/before"
    ask '' "$seconds" "$folder/result" "$number"
    cpu_times >"$folder/after"
    read -r requests failed p50 p99 _ <<<"$(figures "$folder/result")"
    ((requests > 0)) || die "no request was answered on $(base_url)"
    ((failed == 0)) || warn "$failed of $requests requests failed"
    awk -v replicas="$count" -v connections="$number" -v requests="$requests" -v seconds="$seconds" -v p50="$p50" -v p99="$p99" '
      NR == FNR { before[$1] = $2; next }
      { cost[$1] = ($2 - before[$1]) * 10000 / requests }
      END {
        sum = cost["nginx"] + cost["mood"] + cost["redis-server"] + cost["dockerd"] + cost["containerd-shim"]
        printf "%8d %6d %10.0f %8s %8s  %7.1f %7.1f %7.1f %8.1f %7.1f %7.1f  %7.1f\n", replicas, connections, requests / seconds, p50, p99,
          cost["nginx"], cost["mood"], cost["redis-server"], cost["dockerd"], cost["containerd-shim"], sum, cost["docker-proxy"]
      }' "$folder/before" "$folder/after"
  done
done
