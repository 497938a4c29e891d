#!/usr/bin/env bash
# Compares the cost of the service with that of others, or starts many replicas. scripts/density.sh --help prints how to use it.

# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

case " $* " in
  *" --chart"*) PYTHON=$(python_tools chart 'matplotlib>=3.9,<4') ;;
esac
exec_python bench density "$@"
