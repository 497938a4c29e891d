#!/usr/bin/env bash
# Stops the stack.
#
# Usage: scripts/stop.sh [--purge]
#   --purge   also remove its volumes and the images that were built here
#   --help    this text

# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/images.sh
source "$ROOT/scripts/lib/images.sh"
# shellcheck source=scripts/lib/stack.sh
source "$ROOT/scripts/lib/stack.sh"

purge=false
while (($#)); do
  case $1 in
    --purge) purge=true ;;
    -h | --help) show_help ;;
    *) usage_error "unknown argument '$1'" ;;
  esac
  shift
done

need_docker
step "Stopping the stack"
arguments=(down --remove-orphans)
! $purge || arguments+=(--volumes)
# What only a profile starts too, if it runs.
COMPOSE_PROFILES=grafana,alertmanager compose "${arguments[@]}" 2>&1 | grep -vE '^(Removing|Stopping|Network|Volume)' | grep -i error || true
if $purge; then
  step "Removing the images that were built here"
  # Those that were made from others first.
  ours=$({
    for label in mood.source mood.stage mood.bench $OFFLINE_LABEL; do docker images -q --filter label="$label"; done
    docker images -q $OFFLINE_BASE
    docker images -q $OFFLINE_BUILDER_BASE
  } | awk '!seen[$0]++')
  # shellcheck disable=SC2086
  [[ -z $ours ]] || docker rmi -f $ours >/dev/null ||
    die "some images are in use by another stack: stop that one first, with its COMPOSE_PROJECT_NAME"
fi
say "stopped"
