#!/usr/bin/env bash
# Builds the app's image and checks it: static linkage, size, user.
#
# Usage: scripts/build.sh [--arch amd64|arm64] [--offline] [--twice]
#   --arch      for another architecture than this machine's; needs a builder image for it
#   --offline   take no image from a registry: make the builder from Debian packages
#   --twice     build again without any cache, and check that the binary is the same to the byte
#   --help      this text

# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/images.sh
source "$ROOT/scripts/images.sh"
# shellcheck source=scripts/stack.sh
source "$ROOT/scripts/stack.sh"

offline=false platform='' twice=false
while (($#)); do
  case $1 in
    --arch)
      [[ ${2:-} == amd64 || ${2:-} == arm64 ]] || usage_error "--arch takes amd64 or arm64"
      platform=linux/$2
      shift
      ;;
    --offline) offline=true ;;
    --twice) twice=true ;;
    -h | --help) show_help ;;
    *) usage_error "unknown argument '$1'" ;;
  esac
  shift
done

need_docker
$offline || can_have "$(env_value BUILDER_IMAGE)" || offline=true
if $offline && [[ -n $platform && $platform != linux/$(dpkg --print-architecture 2>/dev/null || uname -m) ]]; then
  die "without a registry only this machine's own architecture can be built"
fi

options=()
[[ -z $platform ]] || options+=(--platform "$platform")
build_app $offline "${options[@]}"

image=$(env_value APP_IMAGE)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

binary_of_image "$folder/mood"
size=$(docker image inspect -f '{{.Size}}' "$image")
# A program with an interpreter or a needed library is not static. `file` says the same where it is installed.
if has file; then linkage=$(file -b "$folder/mood" | cut -d, -f1-4); else linkage='(file is not installed)'; fi
say "image    $image, $size bytes of at most $IMAGE_LIMIT"
say "binary   $linkage"
say "sha256   $(sha256sum "$folder/mood" | cut -d' ' -f1)"
say "user     $(docker image inspect -f '{{.Config.User}}' "$image")"
((size <= IMAGE_LIMIT)) || die "the image has $((size - IMAGE_LIMIT)) bytes too many"
! has file || [[ $linkage == *"statically linked"* ]] || die "the binary is not statically linked: $linkage"
if $twice; then
  build_app $offline --no-cache "${options[@]}"
  binary_of_image "$folder/again"
  cmp "$folder/mood" "$folder/again" || die "two builds of the same sources differ"
  say "again    the same binary, byte for byte"
fi
