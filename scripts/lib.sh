# What the scripts share. Sourced, never run.
# shellcheck shell=bash disable=SC2034

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT

# Colour only on a terminal, and not where somebody asked for none.
if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
  BOLD=$'\e[1m' GREEN=$'\e[32m' RED=$'\e[31m' YELLOW=$'\e[33m' DIM=$'\e[2m' RESET=$'\e[0m'
else
  BOLD='' GREEN='' RED='' YELLOW='' DIM='' RESET=''
fi
readonly BOLD GREEN RED YELLOW DIM RESET

say() { printf '%s\n' "$*"; }
step() { printf '%s==>%s %s\n' "$BOLD" "$RESET" "$*"; }
note() { printf '%s    %s%s\n' "$DIM" "$*" "$RESET"; }
warn() { printf '%swarning:%s %s\n' "$YELLOW" "$RESET" "$*" >&2; }

# die MESSAGE: what went wrong and what to do, in one sentence.
die() {
  printf '%serror:%s %s\n' "$RED" "$RESET" "$*" >&2
  exit 1
}

# usage_error MESSAGE: the user's mistake on the command line.
usage_error() {
  printf '%serror:%s %s (see %s --help)\n' "$RED" "$RESET" "$*" "$0" >&2
  exit 2
}

# env_value NAME: a value of the environment, else of .env.
env_value() {
  if [[ -n ${!1+set} ]]; then printf '%s' "${!1}"; else sed -n "s/^$1=//p" "$ROOT/.env"; fi
}

has() { command -v "$1" >/dev/null 2>&1; }

# need COMMAND PACKAGE: dies with the line to type if COMMAND is missing.
need() {
  has "$1" || die "$1 is missing: apt-get install $2"
}

# show_help: prints the comment at the top of the script that was called.
show_help() {
  sed -n '2,/^[^#]/{/^#/{s/^# \{0,1\}//;p}}' "$0"
  exit 0
}

# wait_until SECONDS WHAT COMMAND…: repeats COMMAND until it succeeds, with a dot a second on a terminal.
wait_until() {
  local limit=$1 what=$2 deadline
  shift 2
  deadline=$((SECONDS + limit))
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || die "$what: not within $limit s"
    sleep 0.2
  done
}

# human BYTES: 1048576 becomes 1.0 MB.
human() {
  awk -v bytes="$1" 'BEGIN {
    if (bytes < 1024) printf "%d B", bytes
    else if (bytes < 1048576) printf "%.0f KB", bytes / 1024
    else if (bytes < 1073741824) printf "%.1f MB", bytes / 1048576
    else printf "%.1f GB", bytes / 1073741824
  }'
}

# busy LOG COMMAND…: runs it, its output into LOG (-: where ours goes); on a terminal, counts the seconds meanwhile.
busy() {
  local log=$1 began=$SECONDS pid status=0
  shift
  if [[ $log == - ]]; then "$@" & else "$@" >"$log" 2>&1 & fi
  pid=$!
  while [[ -t 1 ]] && kill -0 "$pid" 2>/dev/null; do
    printf '\r%s    %d s%s' "$DIM" $((SECONDS - began)) "$RESET"
    sleep 1
  done
  [[ ! -t 1 ]] || printf '\r\e[K'
  wait "$pid" || status=$?
  return $status
}
