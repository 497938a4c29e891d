#!/usr/bin/env bash
# Runs every check there is: format, lints, shell scripts, unit and black-box tests (against a real Redis), and the
# whole stack: started from nothing, smoke, isolation, metrics, scaling and faults under load, the page in a browser.
#
# Usage: scripts/test.sh [--quick]
#   --quick   leave the stack out
#   --help    this text
#
# Exits with 0 if nothing failed. The last line counts what passed, failed and was skipped.

# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/images.sh
source "$ROOT/scripts/images.sh"
# shellcheck source=scripts/stack.sh
source "$ROOT/scripts/stack.sh"

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
if ! $quick; then
  require docker docker.io
  docker compose version >/dev/null 2>&1 || require docker-compose docker-compose
  require chromium chromium
  require chromedriver chromium-driver
  require python3 python3-venv
fi
[[ -e /usr/share/zoneinfo/Europe/Berlin ]] || missing+=(tzdata)
if ((${#missing[@]})); then
  die "missing for the tests: ${missing[*]} (apt-get install the ones that Debian has)"
fi

cd "$ROOT"

# cargo_tests BINARY [ARGUMENT…]: the tests, the black-box ones against this binary. Two at a time: some measure latency.
cargo_tests() {
  local binary=$1 runner=(cargo test --locked --no-fail-fast)
  shift
  if has cargo-nextest; then runner=(cargo nextest run --locked); fi
  MOOD_BINARY=$binary RUST_TEST_THREADS=2 "${runner[@]}" "$@"
}

# rust_tests: all of them, each counted as one check.
rust_tests() {
  local log status=0
  log=$(mktemp)
  # The service as it is used: the release build.
  cargo_tests "$ROOT/target/release/mood" 2>&1 | tee "$log" || status=1
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
total() { { grep -oE "[0-9]+ $1" || true; } | awk '{ sum += $1 } END { print sum + 0 }'; }

# stack_tests: the stack from nothing to nothing.
stack_tests() {
  local before=$failed
  # A project of its own: a stack that somebody runs here stays as it is.
  export COMPOSE_PROJECT_NAME=mood-test HTTP_PORT=18080 PROMETHEUS_PORT=19090 GRAFANA_PORT=13000 ALERTMANAGER_PORT=19093
  # shellcheck disable=SC2317
  end_stack() { scripts/stop.sh >/dev/null 2>&1 || true; }
  trap end_stack EXIT
  scripts/stop.sh >/dev/null 2>&1 || true

  check "image, the same when built twice" scripts/build.sh --twice
  check "stack starts from nothing" scripts/run.sh
  ((failed == before)) || return 0
  if [[ -z $(containers grafana) ]]; then
    skip "Grafana: its image cannot be had without a registry"
  fi
  check "second run takes under 5 s" second_run
  check "alert rules" promtool_tests
  check "smoke" scripts/smoke.sh "http://localhost:$HTTP_PORT"
  check "black-box tests of the image's binary" image_tests
  local python=$ROOT/target/test-venv/bin/python
  if [[ ! -x $python ]]; then
    python3 -m venv "$ROOT/target/test-venv"
  fi
  install_python_packages
  check "stack" python_tests test_stack
  check "page in a browser" python_tests test_page
  check "scripts" python_tests test_scripts
  check "alerts" python_tests test_alerts
  check "dashboard" python_tests test_dashboard
  check "dashboard and alerts by Grafana 11.6's schema" older_schema_tests
  check "Compose as typed" compose_tests
  check "tear down" tear_down
  if [[ -n ${CI:-} ]]; then
    check "purge" purge
  else
    skip "scripts/stop.sh --purge: the next run would have to make all images again (CI=true tests it)"
  fi
  trap - EXIT
}

second_run() {
  local began=$SECONDS
  scripts/run.sh >/dev/null && ((SECONDS - began < 5))
}

# image_tests: the limits of memory are those of the static binary.
image_tests() {
  binary_of_image target/mood-of-the-image &&
    cargo_tests "$ROOT/target/mood-of-the-image" --test bad_input --test connections --test observed --test redis_away
}

promtool_tests() {
  local promtool=(docker run --rm -v "$ROOT:/rules:ro" -w /rules/tests --entrypoint promtool "$(env_value PROMETHEUS_IMAGE)")
  "${promtool[@]}" check rules ../alerts.yml && "${promtool[@]}" test rules alerts.yml
}

# Grafana's schemas for the pinned version have no release of their own: it lies between these two.
install_python_packages() {
  local pip=("$python" -m pip -q --disable-pip-version-check install)
  "${pip[@]}" 'selenium>=4.20,<5' pyyaml grafana-foundation-sdk==1769699241
  [[ -d target/sdk-11.6 ]] || "${pip[@]}" --no-deps --target target/sdk-11.6 'grafana-foundation-sdk==1769699379!11.6.0'
}

# compose_tests: with the machine's Compose, and with v2 in any case: Debian testing's, unpacked, where there is none.
compose_tests() {
  local config=${DOCKER_CONFIG:-$HOME/.docker}
  if ! docker compose version >/dev/null 2>&1; then
    config=$ROOT/target/compose-v2
    [[ -x $config/cli-plugins/docker-compose ]] || (unpack_compose_v2 "$config/cli-plugins") || return 1
  fi
  DOCKER_CONFIG=$config python_tests test_compose
}

unpack_compose_v2() {
  need_debian_tools
  mkdir -p "$1"
  debian_tar extract docker-compose | tar -xO ./usr/libexec/docker/cli-plugins/docker-compose >"$1/unfinished" &&
    chmod +x "$1/unfinished" && mv "$1/unfinished" "$1/docker-compose"
}

older_schema_tests() {
  PYTHONPATH=$ROOT/target/sdk-11.6 python_tests test_dashboard.Form &&
    PYTHONPATH=$ROOT/target/sdk-11.6 python_tests test_alerts.Provisioned
}

python_tests() { (cd tests/stack && "$python" -m unittest -v "$1"); }

tear_down() {
  scripts/stop.sh && [[ -z $(docker ps -aq --filter label=com.docker.compose.project=mood-test) ]]
}

purge() {
  scripts/stop.sh --purge &&
    [[ -z $(docker images -q --filter label=mood.source; docker images -q --filter "label=$OFFLINE_LABEL") ]] &&
    [[ -z $(docker volume ls -q --filter label=com.docker.compose.project=mood-test) ]]
}

check "format" cargo fmt --check
check "lints" cargo clippy --locked --all-targets -- -D warnings
mapfile -t shell_scripts < <(git ls-files --cached --others --exclude-standard '*.sh' .ci/run)
check "shell scripts" shellcheck -x "${shell_scripts[@]}"
check "release build" cargo build --locked --release
step "tests"
rust_tests

if $quick; then
  skip "the stack (--quick)"
else
  stack_tests
fi

if ((failed)); then
  printf '%sfailed:%s %s\n' "$RED" "$RESET" "${failures[*]}"
fi
say "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
