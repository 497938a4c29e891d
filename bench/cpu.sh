#!/usr/bin/env bash
# Measures what a request costs: CPU time of the service, requests a second and p99, at 1, 32 and 256 connections.
#
# Usage: bench/cpu.sh [--seconds N] [BINARY…]
#   --seconds N   how long each load runs (default 5)
#   BINARY        the service to measure (default target/release/mood); several are measured in turn, side by side
#
# Load goes to loopback only, from wrk with one thread. A Redis of its own is started, as the service has in
# production. CPU time is that of the service alone, out of /proc/<pid>/stat.

# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/../scripts/lib/common.sh"

seconds=5
binaries=()
while (($#)); do
  case $1 in
    --seconds)
      need_number "$1" "${2:-}" 1 99
      seconds=$2
      shift
      ;;
    -h | --help) show_help ;;
    -*) usage_error "unknown argument '$1'" ;;
    *) binaries+=("$1") ;;
  esac
  shift
done
((${#binaries[@]})) || binaries=("$ROOT/target/release/mood")
need wrk wrk
need redis-server redis-server
for binary in "${binaries[@]}"; do
  [[ -x $binary ]] || die "$binary is not there: cargo build --release"
done

redis_port=16379
port=15000
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true' EXIT
redis-server --port $redis_port --bind 127.0.0.1 --save '' --appendonly no >/dev/null &
pids+=($!)

# cpu_ticks PID: user and system time, in hundredths of a second.
cpu_ticks() { awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$1/stat"; }
resident() { awk '/^VmRSS/ { print $2 * 1024 }' "/proc/$1/status"; }

printf '%-28s %5s %10s %12s %10s %10s\n' binary conns requests/s 'CPU/request' p99 resident
for connections in 1 32 256; do
  for binary in "${binaries[@]}"; do
    port=$((port + 1))
    LISTEN_ADDR=127.0.0.1:$port REDIS_URL=redis://127.0.0.1:$redis_port "$binary" >/dev/null &
    pid=$!
    pids+=("$pid")
    wait_until 10 "$binary answers" curl -sf "http://127.0.0.1:$port/mood"
    wrk -t1 -c"$connections" -d1 "http://127.0.0.1:$port/mood" >/dev/null
    before=$(cpu_ticks "$pid")
    report=$(wrk -t1 -c"$connections" -d"$seconds" --latency "http://127.0.0.1:$port/mood")
    ticks=$(($(cpu_ticks "$pid") - before))
    requests=$(awk '/requests in/ { print $1 }' <<<"$report")
    if grep -qE 'Non-2xx|Socket errors' <<<"$report"; then warn "$(grep -E 'Non-2xx|Socket errors' <<<"$report")"; fi
    printf '%-28s %5s %10s %9s µs %10s %10s\n' "$(basename "$binary")" "$connections" \
      "$(awk '/Requests\/sec/ { printf "%.0f", $2 }' <<<"$report")" \
      "$(awk -v t="$ticks" -v n="$requests" 'BEGIN { printf "%.1f", t * 10000 / n }')" \
      "$(awk '/ 99%/ { print $2 }' <<<"$report")" "$(human "$(resident "$pid")")"
    kill "$pid"
    wait "$pid" 2>/dev/null || true
  done
done
