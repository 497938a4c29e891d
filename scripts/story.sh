#!/usr/bin/env bash
# Plays a story on the running stack, to be watched in Grafana. scripts/story.sh --help prints how to use it.

# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

exec_python scripts/lib/story.py "$@"
