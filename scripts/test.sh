#!/usr/bin/env bash
# Runs lints, Rust tests, and tests of the running stack. Takes under ten minutes if the images exist.
#
# Usage: scripts/test.sh [--quick | --all] [--no-install]
#   --quick        only the checks that need no Docker: lints and Rust tests
#   --all          all checks, in up to 45 minutes: also slow ones, builds, and a registry
#   --no-install   install nothing; print the command that installs what is missing
#   --help         this text
#
# Installs missing packages on Debian and Ubuntu, as root or with sudo. Needs a Rust toolchain: https://rustup.rs. The last
# line counts the checks that passed, failed and were skipped. Single tests: target/python/tests/bin/pytest tests -k NAME

# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/stack.sh
source "$ROOT/scripts/lib/stack.sh"

# Commands or files, and the packages that contain them.
packages="redis-server giftext:giflib-tools shellcheck curl python3 /usr/share/zoneinfo/Europe/Berlin:tzdata
  /usr/share/doc/python3-venv:python3-venv"
stack_packages="docker:docker.io mmdebstrap /usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring file chromium
  chromedriver:chromium-driver /usr/share/doc/fonts-noto-color-emoji:fonts-noto-color-emoji busybox:busybox-static toybox
  /usr/share/doc/fonts-dejavu-core:fonts-dejavu-core java:default-jre-headless ip:iproute2 /usr/sbin/iptables:iptables"
all_packages="openssl docker-registry qemu-system-aarch64:qemu-system-arm cpio docker-compose"

scope=default installs=true
for argument; do
  case $argument in
    --quick | --all) scope=${argument#--} ;;
    --no-install) installs=false ;;
    -h | --help) show_help ;;
    *) usage_error "unknown argument '$argument'" ;;
  esac
done

# install_packages PACKAGE…: a policy keeps the services of the packages from starting. Docker is needed.
install_packages() (
  sudo=() policy=/usr/sbin/policy-rc.d
  has apt-get || die "missing for the tests: $*"
  [[ $(id -u) == 0 ]] || sudo=(sudo -n)
  "${sudo[@]}" $installs 2>/dev/null || die "missing for the tests; type: sudo apt-get install --no-install-recommends $*"
  step "Installing $*"
  if [[ ! -e $policy ]]; then
    trap '"${sudo[@]}" rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" install -m 755 /dev/stdin $policy
  fi
  "${sudo[@]}" apt-get update -qq >/dev/null
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
  [[ " $* " != *" docker.io "* ]] || "${sudo[@]}" service docker start >/dev/null
)

# install_python_packages: only the script of axe is used, not the browser that its package requires.
install_python_packages() {
  local folder=target/python/tests
  ! cmp -s tests/requirements.txt $folder/installed.txt || return 0
  step "Installing Python packages into $folder"
  rm -rf $folder
  python3 -m venv $folder
  $folder/bin/pip -q install -r tests/requirements.txt
  $folder/bin/pip -q install --no-deps axe-playwright-python==0.1.8
  cp tests/requirements.txt $folder/installed.txt
}

passed=0 failed=0 skipped=0
# run NAME COMMAND…: a test runner.
run() {
  local status=0
  step "$1"
  "${@:2}" 2>&1 | tee "$WORK/$1" || status=$?
  count "$1" $status
}
# count NAME STATUS: adds the results of a test runner. One that failed without a failed test counts as one failure.
count() {
  local results failures
  results=$(sed $'s/\e\[[0-9;]*m//g' "$WORK/$1" | grep -E '^ +Summary |^test result|^=+ .* in [0-9.]+s' || true)
  failures=$(sum '(failed|errors?|timed out)')
  ((failures || $2 == 0)) || failures=1
  passed=$((passed + $(sum passed))) failed=$((failed + failures)) skipped=$((skipped + $(sum skipped)))
}
sum() { { grep -oE "[0-9]+ $1" <<<"$results" || true; } | awk '{ sum += $1 } END { print sum + 0 }'; }

# rust_tests: with nextest if it is installed. Two at a time, because some measure latency.
rust_tests() {
  local runner=(cargo test --no-fail-fast)
  ! has cargo-nextest || runner=(cargo nextest run)
  cargo build --locked --release && MOOD_BINARY=$ROOT/target/release/mood RUST_TEST_THREADS=2 "${runner[@]}" --locked
}

has cargo || die "cargo is missing, a Rust toolchain of 1.88 or later: https://rustup.rs"
[[ $scope == quick ]] || packages="$packages $stack_packages"
[[ $scope != all ]] || export MOOD_TEST_CASES=full packages="$packages $all_packages"
missing=$(for need in $packages; do
  if [[ $need == /* ]]; then [[ -e ${need%:*} ]]; else has "${need%:*}"; fi || echo "${need#*:}"
done)
# shellcheck disable=SC2086
[[ -z $missing ]] || install_packages $missing
[[ $scope == quick ]] || need_docker
cd "$ROOT"
install_python_packages
pytest=target/python/tests/bin/pytest
run "Rust tests" rust_tests
run "Lints" $pytest tests/lints -m "not slow"
case $scope in
  default) run "Stack" $pytest tests/stack -m "not slow" ;;
  all)
    run "Stack" $pytest tests/stack -m "not builds and not registry"
    # Neither measures latency.
    step "Builds, and a registry at the same time"
    $pytest tests -m registry >"$WORK/Registry" 2>&1 &
    run "Builds" $pytest tests -m "builds and not registry"
    if wait %%; then count "Registry" 0; else cat "$WORK/Registry" && count "Registry" 1; fi
    [[ -z ${CI:-} ]] || run "Purge" $pytest tests -m purge
    ;;
esac

grep -hE '^ +(FAIL|TIMEOUT) |^(FAILED|ERROR) ' "$WORK"/* || true
say "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
