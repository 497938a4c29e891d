#!/usr/bin/env bash
# Builds the app's image and checks it: static linkage, size, user.
#
# Usage: scripts/build.sh [--arch amd64|arm64] [--online|--offline] [--twice]
#   --arch      for another architecture than this machine's; the image's name then ends in it
#   --online    take the official builder, also where one from Debian packages stands in for it
#   --offline   take no image from a registry: make the builder from Debian packages
#   --twice     build again without any cache, and check that the binary is the same to the byte
#   --help      this text

# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/images.sh
source "$ROOT/scripts/lib/images.sh"
# shellcheck source=scripts/lib/stack.sh
source "$ROOT/scripts/lib/stack.sh"

way=either arch='' twice=false
while (($#)); do
  case $1 in
    --arch)
      [[ ${2:-} == amd64 || ${2:-} == arm64 ]] || usage_error "--arch takes amd64 or arm64"
      arch=$2
      shift
      ;;
    --online) way=official ;;
    --offline) way=debian ;;
    --twice) twice=true ;;
    -h | --help) show_help ;;
    *) usage_error "unknown argument '$1'" ;;
  esac
  shift
done

need_docker
arch=${arch:-$(own_arch)}
build_app "$way" "$arch"

folder=$(temp_folder)
trap 'rm -rf "$folder"' EXIT

binary_of_image "$folder/mood" "$APP_TAG"
limit=$(image_limit)
size=$(docker image inspect -f '{{.Size}}' "$APP_TAG")
# A program with an interpreter or a needed library is not static. `file` says the same where it is installed.
if has file; then linkage=$(file -b "$folder/mood" | cut -d, -f1-4); else linkage='(file is not installed)'; fi
if has sha256sum; then
  digest=$(sha256sum "$folder/mood" | cut -d' ' -f1)
elif has shasum; then
  digest=$(shasum -a 256 "$folder/mood" | cut -d' ' -f1)
else
  digest='(sha256sum is not installed)'
fi
say "image    $APP_TAG, $(docker image inspect -f '{{.Os}}/{{.Architecture}}' "$APP_TAG"), $size bytes of at most $limit"
say "binary   $linkage"
say "sha256   $digest"
say "user     $(docker image inspect -f '{{.Config.User}}' "$APP_TAG")"
! has file || [[ $linkage == *"statically linked"* ]] || die "the binary is not statically linked: $linkage"
if ((size > limit)); then
  excess="the image has $((size - limit)) bytes too many"
  if grep -q "with the ready-made standard library" "$folder/mood"; then
    warn "$excess, since the standard library could not be built along"
  else
    die "$excess"
  fi
fi
if $twice; then
  build_app "$way" "$arch" --no-cache
  binary_of_image "$folder/again" "$APP_TAG"
  cmp "$folder/mood" "$folder/again" || die "two builds of the same sources differ"
  say "again    the same binary, byte for byte"
fi
