#!/usr/bin/env bash
# Builds the app's image and checks it: static linkage, size, user.
#
# Usage: scripts/build.sh [--arch amd64|arm64] [--offline]
#   --arch      for another architecture than this machine's; needs a builder image for it
#   --offline   take no image from a registry: make the builder from Debian packages
#   --help      this text

# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/images.sh
source "$ROOT/scripts/images.sh"

offline=false platform=''
while (($#)); do
  case $1 in
    --arch)
      [[ ${2:-} == amd64 || ${2:-} == arm64 ]] || usage_error "--arch takes amd64 or arm64"
      platform=linux/$2
      shift
      ;;
    --offline) offline=true ;;
    -h | --help) show_help ;;
    *) usage_error "unknown argument '$1'" ;;
  esac
  shift
done

need docker docker.io
docker info >/dev/null 2>&1 || die "the Docker daemon does not answer: service docker start"
if $offline || ! { image_exists rust:1-alpine || timeout 60 docker pull -q rust:1-alpine >/dev/null 2>&1; }; then
  offline=true
fi
if $offline && [[ -n $platform && $platform != linux/$(dpkg --print-architecture 2>/dev/null || uname -m) ]]; then
  die "without a registry only this machine's own architecture can be built"
fi

build_app $offline "$platform"

image=$(env_value APP_IMAGE)
folder=$(mktemp -d)
container=$(docker create "$image")
trap 'docker rm -f "$container" >/dev/null; rm -rf "$folder"' EXIT
docker cp -q "$container:/mood" "$folder/mood" 2>/dev/null || docker cp "$container:/mood" "$folder/mood" >/dev/null
size=$(docker image inspect -f '{{.Size}}' "$image")
# A program with an interpreter or a needed library is not static. `file` says the same where it is installed.
if has file; then linkage=$(file -b "$folder/mood" | cut -d, -f1-4); else linkage='(file is not installed)'; fi
say "image    $image, $size bytes of at most $IMAGE_LIMIT"
say "binary   $linkage"
say "sha256   $(sha256sum "$folder/mood" | cut -d' ' -f1)"
say "user     $(docker image inspect -f '{{.Config.User}}' "$image")"
((size <= IMAGE_LIMIT)) || die "the image has $((size - IMAGE_LIMIT)) bytes too many"
! has file || [[ $linkage == *"statically linked"* ]] || die "the binary is not statically linked: $linkage"
