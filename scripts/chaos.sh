#!/usr/bin/env bash
# Breaks the running stack on purpose, one thing at a time, under a steady load through Nginx; and says whether it kept its
# promises.
#
# Usage: scripts/chaos.sh [EXPERIMENT…] [--rate N] [--seconds S] [--json] [--list]
#   EXPERIMENT    some of those that --list names (default: all of them, about a quarter of an hour)
#   --rate N      requests a second, 10 to 5000 (default 300)
#   --seconds S   of load before and after each experiment, 2 to 600 (default 4)
#   --json        the results as JSON, and nothing else, on standard output
#   --list        the experiments, and what each does
#   --help        this text
#
# The stack must run (scripts/run.sh). It gets three replicas, and as many as before at the end. Whatever was broken is healed,
# also on Ctrl-C. Exits with the number of bounds that were missed.

# What experiments.sh calls looks unused from here.
# shellcheck disable=SC2317

# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/images.sh
source "$ROOT/scripts/lib/images.sh"
# shellcheck source=scripts/lib/stack.sh
source "$ROOT/scripts/lib/stack.sh"
# shellcheck source=scripts/load.sh
source "$ROOT/scripts/load.sh"
# shellcheck source=scripts/experiments.sh
source "$ROOT/scripts/experiments.sh"
# shellcheck source=scripts/engine.sh
source "$ROOT/scripts/engine.sh"

# What the bounds are for.
readonly REPLICAS=3
rate=300 seconds=4 json=false
wanted=''
while (($#)); do
  case $1 in
    --rate)
      need_number "$1" "${2:-}" 10 5000
      rate=$2
      shift
      ;;
    --seconds)
      need_number "$1" "${2:-}" 2 600
      seconds=$2
      shift
      ;;
    --json) json=true ;;
    --list)
      experiments | awk -F '|' '{ printf "%-18s %s\n", $1, $3 }'
      exit 0
      ;;
    -h | --help) show_help ;;
    -*) usage_error "unknown argument '$1'" ;;
    *)
      experiments | grep -q "^$1|" || usage_error "there is no experiment '$1'; --list names them"
      wanted="$wanted $1"
      ;;
  esac
  shift
done
# With --json only that goes to standard output.
exec 3>&1
if $json; then exec 1>&2; fi

# now_ms: milliseconds; whole seconds where there is no perl (POSIX has nothing finer).
now_ms() { perl -MTime::HiRes=time -e 'printf "%d", time * 1000' 2>/dev/null || date +%s000; }

# time_of SECONDS COMMAND…: how many milliseconds pass until COMMAND succeeds; gives up after so many seconds.
time_of() {
  local limit=$1 began
  shift
  began=$(now_ms)
  until "$@" >/dev/null 2>&1; do
    (($(now_ms) - began < limit * 1000)) || break
    sleep 0.05
  done
  printf '%d' $(($(now_ms) - began))
}

# recover SECONDS COMMAND…: until it is well again, as COMMAND tells.
recover() { RECOVERY=$(time_of "$@"); }

# heal: undoes what is broken, once.
heal() {
  local healing=$HEALING
  HEALING=''
  [[ -z $healing ]] || eval "$healing" >/dev/null
}

# bound WHAT VALUE MOST [LEAST]: one line of the verdict.
bound() {
  local kept=true mark="${GREEN}ok$RESET    " allowed="at most $3"
  if [[ -n ${4:-} ]]; then allowed="exactly $3"; fi
  if ! awk -v value="$2" -v most="$3" -v least="${4:-0}" 'BEGIN { exit value > most || value < least }'; then
    kept=false mark="${RED}MISSED$RESET"
    missed=$((missed + 1))
  fi
  printf '    %s  %s: %s (%s)\n' "$mark" "$1" "$2" "$allowed"
  bounds="$bounds${bounds:+,}{\"what\":\"$1\",\"value\":$2,\"most\":$3,\"kept\":$kept}"
}

# measure WHAT VALUE MOST [LEAST]: while it is broken; judged with the rest.
measure() { measured[${#measured[@]}]="$1|$2|$3|${4:-}"; }

# expect_alert NAME: it must have fired within the last minute.
expect_alert() {
  local found=0
  if alerts_since 60 | grep -qx "$1"; then found=1; fi
  measure "the alert $1" "$found" 1 1
}

# alerts_since SECONDS: those that fired.
alerts_since() {
  curl -s -m 5 "$(prometheus_url)/api/v1/query" --data-urlencode \
    "query=count by (alertname) (max_over_time(ALERTS{alertstate=\"firing\",alertname!=\"DeadMansSwitch\"}[$1s]))" |
    tr ',{}' '[\n*]' | sed -n 's/.*"alertname":"\([A-Za-z]*\)".*/\1/p' | sort -u
}

# gap MOST: how long nobody was answered, from the requests that failed at a constant rate.
gap() {
  note "$FAILED requests failed"
  bound "gap, ms" $((FAILED * 1000 / rate)) "$1"
}

# tidy: heals, and takes back what the experiments changed.
tidy() {
  trap - EXIT INT TERM
  [[ -z $load ]] || kill "$load" 2>/dev/null || true
  heal || true
  # Whoever runs inside it has not made it.
  [[ -n ${MOOD_ENGINE:-} ]] || close_engine || true
  [[ $(replica_count) == "$before" ]] || scale_to "$before" || true
  rm -rf "$folder"
}

# show WHEN FIGURES: a line of them.
show() {
  local requests failed p50 p99 slowest
  read -r requests failed p50 p99 slowest <<<"$2"
  printf '    %-7s %6d requests, %d failed, p50 %s, p99 %s, slowest %s ms\n' "$1" "$requests" "$failed" "$p50" "$p99" "$slowest"
}

# run NAME SECONDS ABOUT: one experiment.
run() {
  local name=$1 length=$2 during one what value most least alerts began
  step "$name: $3"
  HEALING='' RECOVERY='' bounds='' measured=()
  began=$(now_ms)
  has_replicas "$REPLICAS" || scale_to "$REPLICAS"
  wait_until 30 "the stack is well before $name" is_cached
  ask "$rate" "$seconds" "$folder/before"
  ask "$rate" "$length" "$folder/during" &
  load=$!
  sleep 1
  "break_${name//-/_}"
  wait "$load" || true
  load=''
  ask "$rate" "$seconds" "$folder/after"
  show before "$(figures "$folder/before")"
  during=$(figures "$folder/during")
  show broken "$during"
  show after "$(figures "$folder/after")"
  read -r REQUESTS FAILED _ P99 SLOWEST <<<"$during"
  ((REQUESTS > 0)) || die "no request was made while $name: is $(base_url) reachable?"
  judge "$name"
  for one in ${measured[@]+"${measured[@]}"}; do
    IFS='|' read -r what value most least <<<"$one"
    bound "$what" "$value" "$most" "$least"
  done
  alerts=$(alerts_since $((($(now_ms) - began) / 1000 + 5)) | tr '\n' ' ')
  note "alerts: ${alerts:-none}"
  rows="$rows$name|$during|${RECOVERY:--}|$bounds|$alerts
"
}

need_docker
need curl curl
need_stack
need_oha
before=$(replica_count)
folder=$(temp_folder)
missed=0 load='' rows='' HEALING='' skipped='' elsewhere=''
trap 'tidy' EXIT
trap 'exit 130' INT TERM

# Replicas that are added here fail on purpose if those that run do.
can_fail=false
if docker inspect -f '{{.Config.Env}}' "$(some_replica)" | grep -q 'MOOD_FAULTS=on'; then
  can_fail=true
  export MOOD_FAULTS=on
fi

for name in ${wanted:-$(experiments | cut -d '|' -f 1)}; do
  if [[ $name == sick-replica ]] && ! $can_fail; then
    warn "$name is left out: it needs replicas that fail on purpose (MOOD_FAULTS=on scripts/run.sh)"
    skipped="$skipped $name"
    continue
  fi
  # Each harms the engine, or all that share its disk: in another one, when the rest is done.
  if [[ $name == *-engine && -z $ENGINE ]]; then
    elsewhere="$elsewhere $name"
    continue
  fi
  IFS='|' read -r _ length about <<<"$(experiments | grep "^$name|")"
  run "$name" "$length" "$about"
done

if [[ -n $ENGINE ]]; then
  # The one outside goes on with these.
  printf '%s' "$rows" >"$ENGINE/rows"
  exit $missed
fi
if [[ -n $elsewhere ]]; then
  obstacle=$(engine_obstacle)
  if [[ -n $obstacle ]]; then
    warn "left out, since a second engine cannot be had:$elsewhere: $obstacle"
    skipped="$skipped$elsewhere"
  else
    open_engine
    # shellcheck disable=SC2086
    in_engine "$0" --rate "$rate" --seconds "$seconds" $elsewhere || missed=$((missed + $?))
    rows="$rows$(cat "$ENGINE/rows" 2>/dev/null || true)
"
  fi
fi

say
printf '%s\n' "$rows" | awk -F '|' '
  BEGIN { printf "%-18s %8s %7s %9s %9s %9s  %s\n", "experiment", "requests", "failed", "p99 ms", "slowest", "well in", "bounds" }
  NF > 1 {
    split($2, figure, " ")
    missed = gsub(/"kept":false/, "", $4)
    printf "%-18s %8d %7d %9s %9s %9s  %s\n", $1, figure[1], figure[2], figure[4], figure[5], $3, (missed ? missed " missed" : "kept")
  }'
if $json; then
  printf '%s\n' "$rows" | awk -F '|' -v rate="$rate" '
    BEGIN { printf "{\"rate\":%d,\"experiments\":[", rate }
    NF > 1 {
      split($2, figure, " "); count = split($5, alert, " ")
      printf "%s{\"name\":\"%s\",\"requests\":%d,\"failed\":%d,\"p50_ms\":%s,\"p99_ms\":%s,\"slowest_ms\":%s,\"recovery_ms\":%s,", (n++ ? "," : ""), $1, figure[1], figure[2], figure[3], figure[4], figure[5], ($3 == "-" ? "null" : $3)
      printf "\"bounds\":[%s],\"alerts\":[", $4
      for (i = 1; i <= count; i++) printf "%s\"%s\"", (i > 1 ? "," : ""), alert[i]
      printf "]}"
    }
    END { print "]}" }' >&3
fi
say "$missed bounds missed${skipped:+; left out:$skipped}"
exit $((missed > 100 ? 100 : missed))
