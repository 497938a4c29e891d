#!/usr/bin/env bash
# Plays a ten-minute story on the running stack, to be watched in Grafana: load, scaling, the loss of Redis, recovery.
#
# Usage: scripts/story.sh [--minutes N] [--draw]
#   --minutes N   how long it takes in all, 2 to 60 (default 10)
#   --draw        afterwards, draw what Prometheus recorded into docs/story-*.png (needs python3 with matplotlib)
#   --help        this text
#
# The stack must run (scripts/run.sh). At the end it is as before.

# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/images.sh
source "$ROOT/scripts/lib/images.sh"
# shellcheck source=scripts/lib/stack.sh
source "$ROOT/scripts/lib/stack.sh"

minutes=10 draw=false
while (($#)); do
  case $1 in
    --minutes)
      need_number "$1" "${2:-}" 2 60
      minutes=$2
      shift
      ;;
    --draw) draw=true ;;
    -h | --help) show_help ;;
    *) usage_error "unknown argument '$1'" ;;
  esac
  shift
done

need_docker
need curl curl
need_stack
replicas=$(replica_count)
redis=$(containers redis)
began=$(date +%s)
chapter=$((minutes * 60 / 10))
load=()

# end_story: nothing of it stays, however it ends.
end_story() {
  ((${#load[@]} == 0)) || kill "${load[@]}" 2>/dev/null || true
  docker start "$redis" >/dev/null
  "$ROOT/scripts/scale.sh" "$replicas" >/dev/null
}
trap end_story EXIT

# clients N: N more clients, each asking about ten times a second, each tenth time for the page.
clients() {
  local client path
  for ((client = 0; client < $1; client++)); do
    while true; do
      for path in mood mood mood mood mood mood mood mood mood ''; do
        printf 'url = "%s/%s"\noutput = "/dev/null"\n' "$(base_url)" "$path"
      done | curl -s -m 20 -H 'Accept: text/html;q=0.9,*/*' -K - || true
      sleep 1
    done &
    load+=($!)
  done
}

# tell TEXT CHAPTERS: says what happens now, and lets that many tenths of the story pass.
tell() {
  printf '%s%4d s%s  %s\n' "$DIM" $(($(date +%s) - began)) "$RESET" "$1"
  sleep $((chapter * $2))
}

where=$(prometheus_url)/alerts
[[ -z $(containers grafana) ]] || where="http://localhost:$(env_value GRAFANA_PORT), or $where"
say "Watch $where. It takes $minutes minutes."
tell "quiet: nobody asks" 1
clients 4
tell "morning: four clients" 1
"$ROOT/scripts/scale.sh" 4 >/dev/null
clients 8
tell "noon: twelve clients, four replicas" 2
curl -s -o /dev/null -X POST "$(base_url)/refresh"
tell "somebody refreshes the mood" 1
docker stop -t 1 "$redis" >/dev/null
tell "Redis is gone: moods are computed locally, and an alert fires" 2
docker start "$redis" >/dev/null
tell "Redis is back: the cache fills, the alert clears" 1
"$ROOT/scripts/scale.sh" 2 >/dev/null
tell "evening: two replicas are enough" 1
((${#load[@]} == 0)) || kill "${load[@]}" 2>/dev/null || true
load=()
tell "night: nobody asks" 1

if $draw; then
  step "Drawing"
  "${PYTHON:-python3}" "$ROOT/docs/draw.py" "$(prometheus_url)" "$began" "$(date +%s)"
fi
