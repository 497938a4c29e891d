# What the scripts share. Sourced, never run. For bash 3.2 and POSIX tools: a Mac has nothing else.
# shellcheck shell=bash disable=SC2034

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
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

# is_number TEXT LEAST MOST: whether it is a whole number, of six digits at most, between these.
is_number() { [[ $1 =~ ^[1-9][0-9]{0,5}$ ]] && (($1 >= $2 && $1 <= $3)); }

# need_number OPTION TEXT LEAST MOST: the user's mistake if it is none.
need_number() { is_number "$2" "$3" "$4" || usage_error "$1 takes a number from $3 to $4"; }

# env_value NAME: a value of the environment, else of .env.
env_value() {
  if [[ -n ${!1+set} ]]; then printf '%s' "${!1}"; else sed -n "s/^$1=//p" "$ROOT/.env"; fi
}

has() { command -v "$1" >/dev/null 2>&1; }

is_mac() { [[ $(uname -s) == Darwin ]]; }

# how_to_install PACKAGE…: the line to type.
how_to_install() {
  if has apt-get; then
    printf 'sudo apt-get install %s' "$*"
  elif has brew; then
    printf 'brew install %s' "$*"
  else
    printf 'install %s' "$*"
  fi
}

# need COMMAND PACKAGE: dies with the line to type if COMMAND is missing.
need() {
  has "$1" || die "$1 is missing: $(how_to_install "$2")"
}

# python_tools NAME PACKAGE…: the path of a Python that has these packages, in an environment of its own, made anew when the list
# changes.
python_tools() {
  local folder=$ROOT/target/python/$1
  shift
  if [[ $(cat "$folder/packages" 2>/dev/null) != "$*" ]]; then
    rm -rf "$folder"
    python3 -m venv "$folder" && "$folder/bin/python" -m pip -q --disable-pip-version-check install "$@" >&2 || return
    printf '%s' "$*" >"$folder/packages"
  fi
  printf '%s' "$folder/bin/python"
}

# show_help: prints the comment at the top of the script that was called.
show_help() {
  awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"
  exit 0
}

# temp_folder: makes a folder that nobody else can read, and prints its name. (mktemp is not POSIX.)
temp_folder() {
  local folder=${TMPDIR:-/tmp}
  folder=${folder%/}/mood-$$-$RANDOM
  mkdir -m 700 "$folder"
  printf '%s' "$folder"
}

# checksum: of stdin; tells apart, does not protect. (sha256sum is not POSIX.)
checksum() { cksum | tr ' ' '-'; }

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

# human BYTES: 1048576 becomes 1.0 MB.
human() {
  awk -v bytes="$1" 'BEGIN {
    if (bytes < 1024) printf "%d B", bytes
    else if (bytes < 1048576) printf "%.0f KB", bytes / 1024
    else if (bytes < 1073741824) printf "%.1f MB", bytes / 1048576
    else printf "%.1f GB", bytes / 1073741824
  }'
}

# header NAME: the last value of that header in the HTTP head on stdin; of several heads, one a line with `all`.
header() {
  tr -d '\r' | awk -v name="$1:" -v all="${2:-}" '
    tolower($1) == tolower(name) { sub(/^[^:]*: */, ""); value = $0; if (all) print }
    END { if (!all && value != "") print value }'
}

# progress TEXT: on a terminal, takes the place of the last such line; without text, removes it.
progress() {
  [[ -t 1 ]] || return 0
  printf '\r\e[K'
  [[ -z ${1:-} ]] || printf '%s    %s%s' "$DIM" "$1" "$RESET"
}

# busy LOG COMMAND…: runs it, its output into LOG (-: where ours goes); on a terminal, counts the seconds meanwhile.
busy() {
  local log=$1 began=$SECONDS pid status=0
  shift
  if [[ $log == - ]]; then "$@" & else "$@" >"$log" 2>&1 & fi
  pid=$!
  while [[ -t 1 ]] && kill -0 "$pid" 2>/dev/null; do
    progress "$((SECONDS - began)) s"
    sleep 1
  done
  progress
  wait "$pid" || status=$?
  return $status
}
