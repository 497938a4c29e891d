#!/usr/bin/env bash
# Stops the stack.
#
# Usage: scripts/stop.sh [--purge]
#   --purge   also remove its volumes and the images that were made here
#   --help    this text

# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
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
# Every profile, because services of any profile may be running.
export COMPOSE_PROFILES=grafana,alertmanager
quietly "Compose could not stop the stack" compose "${arguments[@]}"
if $purge; then
  step "Removing the images that were made here"
  # In this order: the later ones are the bases of the earlier ones.
  images=$(for label in mood.source mood.stage mood.bench mood.offline; do
    docker images -q --filter "label=$label"
  done | awk '!seen[$0]++')
  # shellcheck disable=SC2086
  [[ -z $images ]] || docker rmi -f $images >/dev/null ||
    die "another stack uses some images: stop it first, with its COMPOSE_PROJECT_NAME"
fi
say "stopped"
