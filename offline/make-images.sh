#!/usr/bin/env bash
# Makes the images that .env names from Debian packages, for machines without an image registry. They have the official names
# and entry points. Images that are up to date are kept.
#
# Usage: offline/make-images.sh [stack] [builder] [builder-arm64]
#   stack           Nginx, Redis, Prometheus, Alertmanager and the exporters (Debian has no Grafana)
#   builder         the Rust compiler, with all crates
#   builder-arm64   a cross compiler, named like the builder with the suffix -arm64
#   --help          this text
#
# Without arguments: stack and builder. Needs Debian or Ubuntu, root, and for the builders cargo, which fetches the crates.

# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/../scripts/lib/common.sh"
# shellcheck source=scripts/lib/images.sh
source "$ROOT/scripts/lib/images.sh"
# shellcheck source=scripts/lib/stack.sh
source "$ROOT/scripts/lib/stack.sh"

# Increase it when the recipe of these images changes.
readonly VERSION=3
readonly STACK="NGINX REDIS PROMETHEUS ALERTMANAGER NGINX_EXPORTER REDIS_EXPORTER"
readonly STACK_BASE=mood-of-the-day-debian BUILDER_BASE=mood-of-the-day-builder-base
readonly RECIPE=$ROOT/offline/builder

# need_debian: dies if this machine or user cannot make images. Others can still use images that are up to date.
need_debian() {
  has apt-get || die "only Debian and Ubuntu can make images from Debian packages: load the images of .env with docker load"
  [[ $(id -u) == 0 ]] || die "making images from Debian packages requires root: use sudo"
}

# debian_image NAME PACKAGES: a Debian system with these packages.
debian_image() {
  local id
  id=$("$ROOT/offline/debian-tar.sh" minbase "$2" | docker import --change "LABEL mood.offline=base" -) && docker tag "$id" "$1"
}

# build NAME OPTION…: all images come from local ones, which the classic builder finds by itself.
build() {
  DOCKER_BUILDKIT=0 quietly "$1 could not be built" docker build --network none --label mood.offline=$VERSION -t "$@"
}

make_stack() {
  local name names=() labels
  for name in $STACK; do names+=("$(env_value "${name}_IMAGE")"); done
  if ! labels=$(docker image inspect -f '{{index .Config.Labels "mood.offline"}}' "${names[@]}" 2>/dev/null | sort -u) ||
    [[ $labels != "$VERSION" ]]; then
    need_debian
    step "Making the images of the stack from Debian packages (about a minute)"
    quietly "the images could not be made" debian_image $STACK_BASE nginx,libnginx-mod-http-js,redis-server,prometheus,prometheus-alertmanager,prometheus-nginx-exporter,prometheus-redis-exporter,busybox,ca-certificates
    for name in $STACK; do
      build "$(env_value "${name}_IMAGE")" --build-arg BASE=$STACK_BASE \
        --target "$(tr '[:upper:]' '[:lower:]' <<<"$name")" -f "$ROOT/offline/stack.Dockerfile" "$ROOT/offline"
    done
  fi
  note "images from Debian packages replace the official ones: $(docker run --rm --network none --entrypoint dpkg-query \
    "$(env_value REDIS_IMAGE)" -W -f '${Package} ${source:Upstream-Version}\n' \
    nginx redis-server prometheus prometheus-nginx-exporter prometheus-redis-exporter | paste -s -d , - | sed "s|,|, |g")"
}

make_builder() {
  local image lock work
  image=$(env_value BUILDER_IMAGE)
  lock=$(cat "$ROOT/Cargo.lock" "$RECIPE/Dockerfile" "$RECIPE/cargo-config.toml" "$RECIPE/libunwind-stubs.c" | checksum)
  [[ $(image_label "$image" mood.lock) != "$lock" ]] || return 0
  need_debian
  need cargo cargo
  if ! image_exists $BUILDER_BASE; then
    step "Making a Rust builder from Debian packages (about two minutes)"
    quietly "the builder could not be made" debian_image $BUILDER_BASE rustc,cargo,rust-src,musl-tools,ca-certificates,libunwind-21-dev
  fi
  step "Adding the crates to the builder (about a minute)"
  work=$WORK/builder
  mkdir "$work"
  (cd "$ROOT" && quietly "the crates could not be fetched" cargo vendor --locked --versioned-dirs "$work/vendor")
  # Import tables for Windows are nine tenths of all crates.
  find "$work/vendor" -path '*/windows*/src/Windows' -prune -exec rm -rf {} +
  # One archive: thousands of files are slow to copy on some storage drivers.
  tar -C "$work/vendor" -cf "$work/vendor.tar" .
  rm -rf "$work/vendor"
  cp "$RECIPE"/* "$work"
  build "$image" --label mood.lock="$lock" --build-arg BASE=$BUILDER_BASE "$work"
}

# GCC links for arm64, with the musl and libunwind of that architecture.
make_cross_builder() {
  local builder lock work
  make_builder
  builder=$(env_value BUILDER_IMAGE)
  lock=$(image_label "$builder" mood.lock)-$(checksum <"$RECIPE/cross.Dockerfile")
  [[ $(image_label "$builder-arm64" mood.lock) != "$lock" ]] || return 0
  need_debian
  step "Making a Rust builder for arm64 (about a minute)"
  work=$WORK/cross
  mkdir "$work"
  "$ROOT/offline/debian-tar.sh" extract gcc-aarch64-linux-gnu >"$work/gcc.tar"
  "$ROOT/offline/debian-tar.sh" extract musl-dev,libunwind-21-dev arm64 >"$work/musl.tar"
  cp "$RECIPE"/* "$work"
  build "$builder-arm64" --label mood.lock="$lock" --build-arg BASE="$builder" -f "$work/cross.Dockerfile" "$work"
}

(($#)) || set -- stack builder
for target; do
  case $target in
    -h | --help) show_help ;;
    stack | builder | builder-arm64) ;;
    *) usage_error "unknown argument '$target'" ;;
  esac
done
need_docker
for target; do
  case $target in
    stack) make_stack ;;
    builder) make_builder ;;
    builder-arm64) make_cross_builder ;;
  esac
done
