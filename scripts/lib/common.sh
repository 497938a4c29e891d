# Shared by the scripts. Sourced. bash 3.2 and POSIX tools are enough, because macOS has nothing newer.
# shellcheck shell=bash disable=SC2034

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
readonly ROOT

# Colours only on a terminal, and never with NO_COLOR.
if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
  BOLD=$'\e[1m' GREEN=$'\e[32m' RED=$'\e[31m' YELLOW=$'\e[33m' DIM=$'\e[2m' RESET=$'\e[0m'
else
  BOLD='' GREEN='' RED='' YELLOW='' DIM='' RESET=''
fi
readonly BOLD GREEN RED YELLOW DIM RESET

# A private folder for temporary files. (mktemp is not POSIX.)
WORK=${TMPDIR:-/tmp}
WORK=${WORK%/}/mood-$$-$RANDOM
readonly WORK
mkdir -m 700 "$WORK"
trap 'rm -rf "$WORK"' EXIT

say() { printf '%s\n' "$*"; }
step() { printf '%s==>%s %s\n' "$BOLD" "$RESET" "$*"; }
note() { printf '%s    %s%s\n' "$DIM" "$*" "$RESET"; }
warn() { printf '%swarning:%s %s\n' "$YELLOW" "$RESET" "$*" >&2; }

# die MESSAGE: one sentence with the error and its fix.
die() {
  printf '%serror:%s %s\n' "$RED" "$RESET" "$*" >&2
  exit 1
}

# usage_error MESSAGE: for an invalid command line.
usage_error() {
  printf '%serror:%s %s (see %s --help)\n' "$RED" "$RESET" "$*" "$0" >&2
  exit 2
}

# show_help: prints the comment at the top of the calling script.
show_help() {
  awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"
  exit 0
}

# env_value NAME: a setting from the environment, else from .env.
env_value() {
  if [[ -n ${!1+set} ]]; then printf '%s' "${!1}"; else sed -n "s/^$1=//p" "$ROOT/.env"; fi
}

has() { command -v "$1" >/dev/null 2>&1; }

# need COMMAND PACKAGE: dies with the command that installs PACKAGE if COMMAND is missing.
need() {
  local install=install
  ! has "$1" || return 0
  if has apt-get; then install="sudo apt-get install"; elif has brew; then install="brew install"; fi
  die "$1 is missing: $install $2"
}

# become COMMAND…: exec does not run the trap.
become() {
  rm -rf "$WORK"
  exec "$@"
}

# exec_python PROGRAM ARGUMENT…: continues as a Python program of this project.
exec_python() {
  local python=${PYTHON:-python3} program=$1
  shift
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null ||
    die "$python is not Python 3.9 or later: install it, or name another with PYTHON=… $0"
  become "$python" "$ROOT/$program" "$@"
}

# checksum: of stdin, to detect changes. (sha256sum is not POSIX.)
checksum() { cksum | tr ' ' '-'; }

# header NAME [all]: the last value of a header in the HTTP response heads on stdin, or all values.
header() {
  tr -d '\r' | awk -v name="$1:" -v all="${2:-}" '
    tolower($1) == tolower(name) { sub(/^[^:]*: */, ""); value = $0; if (all) print }
    END { if (!all && value != "") print value }'
}

# wait_until SECONDS WHAT COMMAND…: repeats COMMAND until it succeeds.
wait_until() {
  local limit=$1 what=$2 deadline
  shift 2
  deadline=$((SECONDS + limit))
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || die "$what: not within $limit s"
    sleep 0.2
  done
}

# quietly MESSAGE COMMAND…: runs a command with its output in $WORK/log. On a terminal it shows the elapsed seconds. If the
# command fails, it shows the end of the output and dies with MESSAGE.
quietly() {
  local message=$1 status=0 clock=''
  shift
  if [[ -t 1 ]]; then
    show_seconds &
    clock=$!
  fi
  "$@" >"$WORK/log" 2>&1 || status=$?
  if [[ -n $clock ]]; then
    # After Ctrl-C it has already ended.
    kill "$clock" 2>/dev/null || true
    wait "$clock" 2>/dev/null || true
    printf '\r\e[K'
  fi
  ((status != 130)) || exit 130
  if ((status)); then
    tail -n 20 "$WORK/log" >&2
    die "$message (above is the reason)"
  fi
}

show_seconds() {
  local began=$SECONDS
  while kill -0 $$ 2>/dev/null; do
    printf '\r%s    %s s%s' "$DIM" $((SECONDS - began)) "$RESET"
    sleep 1
  done
}
