#!/usr/bin/env bash
# Compares the cost of the service with that of others, or starts many replicas. scripts/density.sh --help prints how to use it.

# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

# matplotlib_python: a Python with matplotlib, in a separate environment.
matplotlib_python() {
  local folder=$ROOT/target/python/chart
  [[ -e $folder/installed ]] || {
    python3 -m venv "$folder" && "$folder/bin/python" -m pip -q --disable-pip-version-check install 'matplotlib>=3.9,<4' >&2 || return
    touch "$folder/installed"
  }
  printf '%s' "$folder/bin/python"
}

case " $* " in
  *" --chart"*) PYTHON=$(matplotlib_python) ;;
esac
exec_python bench density "$@"
