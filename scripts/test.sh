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
require cargo "cargo (https://rustup.rs)"
require redis-server redis-server
require giftext giflib-tools
require shellcheck shellcheck
require curl curl
[[ -e /usr/share/zoneinfo/Europe/Berlin ]] || missing+=(tzdata)
if ((${#missing[@]})); then
  die "missing for the tests: ${missing[*]} (apt-get install the ones that Debian has)"
fi

cd "$ROOT"

rust_tests() {
  local log status=0
  log=$(mktemp)
  # The service as it is used: the release build.
  if has cargo-nextest; then
    MOOD_BINARY=$ROOT/target/release/mood cargo nextest run --locked 2>&1 | tee "$log" || status=1
    count "$log" '[0-9]+ passed' '[0-9]+ (failed|timed out)'
  else
    MOOD_BINARY=$ROOT/target/release/mood RUST_TEST_THREADS=2 cargo test --locked --no-fail-fast 2>&1 | tee "$log" || status=1
    count "$log" '[0-9]+ passed' '[0-9]+ failed'
  fi
  skipped=$((skipped + $(grep -c '^ *SKIPPED ' "$log" || true)))
  rm -f "$log"
  if ((status)); then
    failures+=("Rust tests")
    # A run that failed before it could count anything has failed all the same.
    ((rust_failed)) || failed=$((failed + 1))
  fi
}

# count LOG PASSED FAILED: adds the numbers of the runner's own summary.
count() {
  local number
  rust_failed=0
  while read -r number; do passed=$((passed + number)); done < <(summary "$1" | grep -oE "$2" | grep -oE '^[0-9]+')
  while read -r number; do rust_failed=$((rust_failed + number)); done < <(summary "$1" | grep -oE "$3" | grep -oE '^[0-9]+')
  failed=$((failed + rust_failed))
}

summary() { sed 's/\x1b\[[0-9;]*m//g' "$1" | grep -E '^ *(Summary|test result)'; }

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
