#!/usr/bin/env bash
# Runs every check there is: format, lints, shell scripts, unit and black-box tests (against a real Redis).
#
# Usage: scripts/test.sh [--quick]
#   --quick   leave out what takes minutes
#   --help    this text
#
# Exits with 0 if nothing failed. The last line counts what passed, failed and was skipped.

# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

quick=false
while (($#)); do
  case $1 in
    --quick) quick=true ;;
    -h | --help) show_help ;;
    *) usage_error "unknown argument '$1'" ;;
  esac
  shift
done

passed=0 failed=0 skipped=0
failures=()

# check NAME COMMAND…: one check that passes or fails as a whole.
check() {
  local name=$1
  shift
  step "$name"
  if "$@"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    failures+=("$name")
  fi
}

skip() {
  warn "skipped: $*"
  skipped=$((skipped + 1))
}

# The requirements, all named at once.
missing=()
require() { has "$1" || missing+=("$2"); }
require cargo "cargo (a Rust toolchain, 1.88 or later)"
require redis-server redis-server
require giftext giflib-tools
require shellcheck shellcheck
require curl curl
[[ -e /usr/share/zoneinfo/Europe/Berlin ]] || missing+=(tzdata)
if ((${#missing[@]})); then
  die "missing for the tests: ${missing[*]} (apt-get install the ones that Debian has)"
fi

cd "$ROOT"

# rust_tests: all of them, each counted as one check.
rust_tests() {
  local log status=0 runner=(cargo test --locked --no-fail-fast)
  has cargo-nextest && runner=(cargo nextest run --locked)
  log=$(mktemp)
  # The service as it is used: the release build. Two at a time: some measure latency.
  MOOD_BINARY=$ROOT/target/release/mood RUST_TEST_THREADS=2 "${runner[@]}" 2>&1 | tee "$log" || status=1
  # The runner's own summary lines: `Summary … 5 passed, 1 failed` or `test result: … 5 passed; 1 failed`.
  local summary broken
  summary=$(sed 's/\x1b\[[0-9;]*m//g' "$log" | grep -E '^ +Summary|^test result' || true)
  passed=$((passed + $(total 'passed' <<<"$summary")))
  broken=$(($(total 'failed' <<<"$summary") + $(total 'timed out' <<<"$summary")))
  # A run that could not start has failed all the same.
  ((broken || status == 0)) || broken=1
  failed=$((failed + broken))
  ((broken == 0)) || failures+=("tests")
  skipped=$((skipped + $(grep -c '^ *SKIPPED ' "$log" || true)))
  rm -f "$log"
}

# total WORD: the sum of the numbers that stand before WORD.
total() { grep -oE "[0-9]+ $1" | awk '{ sum += $1 } END { print sum + 0 }'; }

check "format" cargo fmt --check
check "lints" cargo clippy --locked --all-targets -- -D warnings
mapfile -t shell_scripts < <(git ls-files --cached --others --exclude-standard '*.sh' .ci/run)
check "shell scripts" shellcheck -x "${shell_scripts[@]}"
check "release build" cargo build --locked --release
step "tests"
rust_tests

if $quick; then
  skip "nothing yet takes minutes"
fi

if ((failed)); then
  printf '%sfailed:%s %s\n' "$RED" "$RESET" "${failures[*]}"
fi
say "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
