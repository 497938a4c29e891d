# A steady load, and what came of it: oha, open loop, a latency counted from when its request was due. Sourced by chaos.sh and soak.sh.
# shellcheck shell=bash

readonly OHA_VERSION=1.16.0
OHA=oha

# need_oha: finds the load generator, or has cargo compile it.
need_oha() {
  local log
  if has oha; then return; fi
  OHA=$ROOT/target/tools/bin/oha
  [[ -x $OHA ]] && return
  has cargo || die "the load generator oha is missing: brew install oha, or install cargo (https://rustup.rs) and run this again"
  step "Compiling oha, the load generator (three to six minutes, once)"
  log=$(temp_folder)/oha.log
  # Its own profile optimizes across all crates, which takes twice as long and is no faster here.
  if ! CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 busy "$log" \
    cargo install oha --version "$OHA_VERSION" --locked --no-default-features --features rustls --root "$ROOT/target/tools"; then
    tail -n 5 "$log" >&2
    die "oha could not be compiled; all that was said is in $log"
  fi
  rm -rf "$(dirname "$log")"
}

# ask RATE SECONDS RESULT [CONNECTIONS]: asks for the mood through Nginx at a constant rate (at full speed without one), on 64 kept
# connections or as many as are said; oha's JSON into RESULT.
ask() {
  "$OHA" --no-tui --output-format json ${1:+--latency-correction -q "$1"} -w -z "$2s" -c "${4:-64}" -t 10s "$(base_url)/mood" >"$3" 2>/dev/null
}

# figures RESULT: requests, failures (anything but 2xx and 304), p50, p99 and the slowest in milliseconds, a line of them.
figures() {
  awk '
    /^  "[a-zA-Z]+": \{/ { section = $1 }
    /^ *"[^"]*": [0-9.e-]+,?$/ {
      line = $0; sub(/,$/, "", line); value = line; sub(/.*": /, "", value)
      name = line; sub(/": [^:]*$/, "", name); sub(/^ *"/, "", name)
      if (section ~ /summary/ && name == "slowest") slowest = value
      if (section ~ /latencyPercentiles"/ && name == "p50") p50 = value
      if (section ~ /latencyPercentiles"/ && name == "p99") p99 = value
      if (section ~ /statusCodeDistribution/) { requests += value; if (name !~ /^2|^304/) failures += value }
      # What was still on its way at the end was neither.
      if (section ~ /errorDistribution/ && name !~ /deadline/) { requests += value; failures += value }
    }
    END { printf "%d %d %.1f %.1f %.1f\n", requests, failures, p50 * 1000, p99 * 1000, slowest * 1000 }' "$1"
}
