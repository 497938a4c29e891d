# Images made from Debian packages, for where no registry answers: same names, same entry points. Sourced by the scripts.
# shellcheck shell=bash disable=SC2034

# Its value is the recipe's version: raise it when the images must be made anew.
readonly OFFLINE_LABEL=mood.offline
readonly OFFLINE_VERSION=3
readonly OFFLINE_BASE=mood-of-the-day-debian
readonly OFFLINE_BUILDER_BASE=mood-of-the-day-builder-base
# What stands around the app, by the variables that name their images.
readonly OFFLINE_IMAGES="NGINX REDIS PROMETHEUS NGINX_EXPORTER REDIS_EXPORTER ALERTMANAGER"

is_offline_image() { [[ -n $(image_label "$1" $OFFLINE_LABEL) ]]; }

# is_offline_installed: whether the images from Debian packages are all there already.
is_offline_installed() {
  local name
  for name in $OFFLINE_IMAGES; do
    [[ $(image_label "$(env_value "${name}_IMAGE")" $OFFLINE_LABEL) == "$OFFLINE_VERSION" ]] || return 1
  done
}

# can_use_debian: whether this machine can make images from Debian packages.
can_use_debian() { has apt-get && [[ $(id -u) == 0 ]]; }

# need_debian_tools: what building images from packages takes, or exactly what to type.
need_debian_tools() {
  local missing=''
  has apt-get || die "images can be made from Debian packages on Debian and Ubuntu alone: load the images of .env by hand (docker load), then run this again"
  [[ $(id -u) == 0 ]] || die "making images from Debian packages needs root: sudo $0 --offline"
  has mmdebstrap || missing="$missing mmdebstrap"
  [[ -e /usr/share/keyrings/debian-archive-keyring.gpg ]] || missing="$missing debian-archive-keyring"
  [[ -n $missing ]] || return 0
  step "Installing$missing"
  apt-get update -qq >/dev/null
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

# debian_tar VARIANT PACKAGES [ARCHITECTURE]: a tar of Debian's testing release with these packages; variants are
# mmdebstrap's.
debian_tar() {
  local variant=$1 packages=$2 architecture=${3:-$(dpkg --print-architecture)} mirror
  local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  # Where this machine gets its own packages.
  mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list 2>/dev/null |
    grep -oE 'https?://[^ ]*/debian/?( |$)' | head -n 1 | tr -d ' ' || true)
  # The mirror may be stale, and a testing release has no old signature that could mislead anybody for long.
  mmdebstrap --quiet --variant="$variant" --architectures="$architecture" --include="$packages" \
    --aptopt='Acquire::Check-Valid-Until "false"' forky - \
    ${mirror:+"deb [signed-by=$keyring] $mirror forky main"} 2>/dev/null
}

# debian_image NAME PACKAGES [LABEL] [VARIANT]: makes an image of Debian's testing release with these packages.
debian_image() {
  debian_tar "${4:-minbase}" "$2" | docker import ${3:+--change "LABEL $3"} - "$1" >/dev/null ||
    die "the image $1 could not be made from Debian packages: is a mirror reachable?"
}

# debian_program PACKAGE PATH TARGET: the program that stands at PATH in a package of Debian's testing release, as the file TARGET.
debian_program() {
  mkdir -p "$(dirname "$3")"
  debian_tar extract "$1" | tar -xO "./$2" >"$3.unfinished" && chmod +x "$3.unfinished" && mv "$3.unfinished" "$3"
}

# debian_tag IMAGE ENTRYPOINT [COMMAND…]: the image's official name for the Debian one, with the official entry point.
debian_tag() {
  local image=$1 entrypoint=$2
  shift 2
  {
    printf 'FROM %s\nLABEL %s=%s\n' $OFFLINE_BASE $OFFLINE_LABEL $OFFLINE_VERSION
    if (($#)); then printf 'RUN %s\n' "$*"; fi
    printf 'ENTRYPOINT ["%s"]\n' "$entrypoint"
  } | DOCKER_BUILDKIT=0 docker build -q -t "$image" - >/dev/null 2>&1 || die "the image $image could not be made"
}

# install_offline_images: everything but the app and Grafana, under the official names.
install_offline_images() {
  is_offline_installed && return
  need_debian_tools
  step "Making the images from Debian packages (about a minute)"
  busy - debian_image $OFFLINE_BASE nginx,redis-server,prometheus,prometheus-nginx-exporter,prometheus-redis-exporter,prometheus-alertmanager,libnginx-mod-http-js,busybox,ca-certificates
  note "nginx, redis, prometheus and the exporters, under the names of .env"
  # The official images have a wget, for the health checks.
  local wget="ln -s /usr/bin/busybox /usr/bin/wget"
  debian_tag "$(env_value NGINX_IMAGE)" /usr/sbin/nginx "$wget"
  debian_tag "$(env_value REDIS_IMAGE)" /usr/bin/redis-server
  # The official image has a folder of its own that its user may write to; a volume takes over its owner.
  debian_tag "$(env_value PROMETHEUS_IMAGE)" /bin/prometheus "$wget && mkdir /prometheus && chown 65534:65534 /prometheus"
  debian_tag "$(env_value ALERTMANAGER_IMAGE)" /usr/bin/prometheus-alertmanager "$wget"
  debian_tag "$(env_value NGINX_EXPORTER_IMAGE)" /usr/bin/prometheus-nginx-exporter
  debian_tag "$(env_value REDIS_EXPORTER_IMAGE)" /usr/bin/prometheus-redis-exporter
}

# install_offline_builder: a stand-in for the official Rust image, under its name, with all crates inside.
install_offline_builder() {
  local lock image context
  lock=$(cd "$ROOT" && cat Cargo.lock offline/builder/Dockerfile offline/builder/cargo-config.toml offline/builder/libunwind-stubs.c | checksum)
  image=$(env_value BUILDER_IMAGE)
  [[ $(image_label "$image" mood.lock) == "$lock" ]] && return
  need_debian_tools
  has cargo || die "to build the app's image from Debian packages install cargo, for fetching the crates: $(how_to_install cargo)"
  if ! image_exists $OFFLINE_BUILDER_BASE; then
    step "Making a Rust builder from Debian packages (about two minutes)"
    busy - debian_image $OFFLINE_BUILDER_BASE rustc,cargo,rust-src,musl-tools,ca-certificates,libunwind-21-dev
  fi
  step "Fetching the crates for the builder"
  context=$(temp_folder)
  (cd "$ROOT" && cargo vendor --quiet --locked --versioned-dirs "$context/vendor" >/dev/null)
  # Nine tenths of all crates are import tables for Windows.
  find "$context/vendor" -path '*/windows*/src/Windows' -prune -exec rm -rf {} +
  tar -C "$context/vendor" -cf "$context/vendor.tar" .
  cp "$ROOT"/offline/builder/* "$context"
  rm -rf "$context/vendor"
  DOCKER_BUILDKIT=0 busy /dev/null docker build -f "$context/Dockerfile" --label mood.lock="$lock" \
    --label $OFFLINE_LABEL=$OFFLINE_VERSION --build-arg BASE=$OFFLINE_BUILDER_BASE -t "$image" "$context" ||
    die "the builder's image could not be made"
  rm -rf "$context"
}

# install_cross_builder ARCH: the same for another architecture than this machine's, under a name of its own, which it
# prints. GCC links, against that architecture's musl and libunwind.
install_cross_builder() {
  local arch=$1 builder image lock context
  builder=$(env_value BUILDER_IMAGE)
  image=mood-of-the-day-builder-$arch:local
  install_offline_builder >&2
  lock=$(image_label "$builder" mood.lock)-$(checksum <"$ROOT/offline/builder/cross.Dockerfile")
  if [[ $(image_label "$image" mood.lock) != "$lock" ]]; then
    [[ $arch == arm64 ]] || die "from Debian packages arm64 alone can be built for another machine: let a registry answer"
    step "Making a Rust builder for $arch (about a minute)" >&2
    context=$(temp_folder)
    debian_tar extract gcc-aarch64-linux-gnu >"$context/gcc.tar"
    debian_tar extract musl-dev,libunwind-21-dev "$arch" >"$context/musl.tar"
    cp "$ROOT"/offline/builder/* "$context"
    DOCKER_BUILDKIT=0 busy /dev/null docker build -f "$context/cross.Dockerfile" --label mood.lock="$lock" \
      --label $OFFLINE_LABEL=$OFFLINE_VERSION --build-arg BASE="$builder" -t "$image" "$context" >&2 ||
      die "the builder's image for $arch could not be made"
    rm -rf "$context"
  fi
  printf '%s' "$image"
}
