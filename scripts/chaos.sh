#!/usr/bin/env bash
# Breaks the running stack on purpose, and checks its limits. scripts/chaos.sh --help prints how to use it.

# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

exec_python scripts/lib/chaos.py "$@"
