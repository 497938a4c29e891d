#!/usr/bin/env bash
# Builds the image of the app and checks it: static linkage, size, user.
#
# Usage: scripts/build.sh [--arch amd64|arm64] [--online|--offline] [--twice]
#   --arch      the target architecture (default: that of the Docker daemon); the name of another one becomes a suffix
#   --online    use the official builder; replaces a builder that was made from Debian packages
#   --offline   use no registry: make the builder from Debian packages
#   --twice     build again without a cache, and check that the binary is identical
#   --help      this text

# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/images.sh
source "$ROOT/scripts/lib/images.sh"
# shellcheck source=scripts/lib/stack.sh
source "$ROOT/scripts/lib/stack.sh"

arch='' twice=false
while (($#)); do
  case $1 in
    --arch)
      [[ ${2:-} == amd64 || ${2:-} == arm64 ]] || usage_error "--arch takes amd64 or arm64"
      arch=$2
      shift
      ;;
    --online) IMAGE_SOURCE=registry ;;
    --offline) IMAGE_SOURCE=debian ;;
    --twice) twice=true ;;
    -h | --help) show_help ;;
    *) usage_error "unknown argument '$1'" ;;
  esac
  shift
done

# binary_to FILE: copies the binary out of the image.
binary_to() {
  local container
  # An image without a command requires one here. It never runs.
  container=$(docker create "$APP_TAG" /mood 2>/dev/null)
  docker cp "$container:/mood" "$1" >/dev/null 2>&1
  docker rm -f "$container" >/dev/null
}

inspect() { docker image inspect -f "$1" "$APP_TAG"; }

need_docker
arch=${arch:-$(own_arch)}
build_app "$arch"

binary_to "$WORK/mood"
size=$(inspect '{{.Size}}')
# The official compiler produces a larger binary than Debian's.
if [[ $IMAGE_SOURCE == debian ]]; then limit=860000; else limit=1000000; fi
linkage='(file is not installed)'
! has file || linkage=$(file -b "$WORK/mood" | cut -d , -f 1-4)
say "image    $APP_TAG, $(inspect '{{.Os}}/{{.Architecture}}'), $size bytes (limit $limit)"
say "binary   $linkage"
# Linux has sha256sum, macOS has shasum.
say "sha256   $( (sha256sum "$WORK/mood" || shasum -a 256 "$WORK/mood") 2>/dev/null | cut -d ' ' -f 1)"
say "user     $(inspect '{{.Config.User}}')"
! has file || [[ $linkage == *"statically linked"* ]] || die "the binary is not statically linked: $linkage"
if ((size > limit)); then
  excess="the image is $((size - limit)) bytes too large"
  grep -q "with the prebuilt standard library" "$WORK/mood" || die "$excess"
  warn "$excess, because the standard library could not be built from source"
fi
if $twice; then
  build_app "$arch" --no-cache
  binary_to "$WORK/again"
  cmp "$WORK/mood" "$WORK/again" || die "two builds of the same sources differ"
  say "again    the same binary, byte for byte"
fi
