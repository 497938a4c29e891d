# Where the images come from: a registry, or Debian packages where none answers. Sourced by the scripts.
# shellcheck shell=bash disable=SC2034

# Its value is the recipe's version: raise it when the images must be made anew.
readonly OFFLINE_LABEL=mood.offline
readonly OFFLINE_VERSION=2
readonly OFFLINE_BASE=mood-of-the-day-debian
readonly OFFLINE_BUILDER_BASE=mood-of-the-day-builder-base
# 1 MiB: what the image may have.
readonly IMAGE_LIMIT=1048576

image_exists() { docker image inspect "$1" >/dev/null 2>&1; }
image_label() { docker image inspect -f "{{index .Config.Labels \"$2\"}}" "$1" 2>/dev/null || true; }

# source_hash: changes with anything that goes into the binary.
source_hash() {
  (cd "$ROOT" && find Cargo.toml Cargo.lock build.rs Dockerfile.scratch src offline -type f -print0 | sort -z |
    xargs -0 sha256sum | sha256sum | cut -c1-16)
}

# can_have IMAGE: whether the official image of this name is here or can be pulled.
can_have() {
  if image_exists "$1" && [[ -z $(image_label "$1" $OFFLINE_LABEL) ]]; then return; fi
  timeout 120 docker pull -q "$1" >/dev/null 2>&1
}

# is_offline_installed: whether the images from Debian packages are all there already.
is_offline_installed() {
  local name
  for name in NGINX REDIS PROMETHEUS NGINX_EXPORTER REDIS_EXPORTER ALERTMANAGER; do
    [[ $(image_label "$(env_value ${name}_IMAGE)" $OFFLINE_LABEL) == "$OFFLINE_VERSION" ]] || return 1
  done
}

# need_debian_tools: what building images from packages takes, or exactly what to type.
need_debian_tools() {
  local missing=()
  has mmdebstrap || missing+=(mmdebstrap)
  [[ -e /usr/share/keyrings/debian-archive-keyring.gpg ]] || missing+=(debian-archive-keyring)
  ((${#missing[@]})) || return 0
  has apt-get || die "no registry answers, and this is not Debian: load the images of .env by hand (docker load), then run this again"
  [[ $(id -u) == 0 ]] || die "no registry answers; to build the images from Debian packages type: sudo apt-get install ${missing[*]}"
  step "Installing ${missing[*]}"
  apt-get update -qq >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# debian_tar VARIANT PACKAGES: a tar of Debian's testing release with these packages; variants are mmdebstrap's.
debian_tar() {
  local variant=$1 packages=$2 mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  # Where this machine gets its own packages.
  mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list 2>/dev/null |
    grep -oE 'https?://[^ ]*/debian/?( |$)' | head -n 1 | tr -d ' ' || true)
  # The mirror may be stale, and a testing release has no old signature that could mislead anybody for long.
  mmdebstrap --quiet --variant="$variant" --include="$packages" --aptopt='Acquire::Check-Valid-Until "false"' forky - \
    ${mirror:+"deb [signed-by=$keyring] $mirror forky main"} 2>/dev/null
}

# debian_image NAME PACKAGES: makes an image of Debian's testing release with these packages.
debian_image() {
  local name=$1 packages=$2
  [[ $(id -u) == 0 ]] || die "no registry answers; building the images from Debian packages needs root: sudo $0"
  debian_tar minbase "$packages" | docker import - "$name" >/dev/null ||
    die "the image $name could not be made from Debian packages: is a mirror reachable?"
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
  step "No registry: making the images from Debian packages (about a minute)"
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
  lock=$(cat "$ROOT/Cargo.lock" "$ROOT"/offline/* | sha256sum | cut -c1-16)
  image=$(env_value BUILDER_IMAGE)
  [[ $(image_label "$image" mood.lock) == "$lock" ]] && return
  need_debian_tools
  has cargo || die "no registry answers; to build the app's image from Debian packages install cargo, for fetching the crates: apt-get install cargo"
  if ! image_exists $OFFLINE_BUILDER_BASE; then
    step "No registry: making a Rust builder from Debian packages (about two minutes)"
    busy - debian_image $OFFLINE_BUILDER_BASE rustc,cargo,rust-src,musl-tools,ca-certificates,libunwind-21-dev
  fi
  step "Fetching the crates for the builder"
  context=$(mktemp -d)
  (cd "$ROOT" && cargo vendor --quiet --locked --versioned-dirs "$context/vendor" >/dev/null)
  # Nine tenths of all crates are import tables for Windows.
  find "$context/vendor" -path '*/windows*/src/Windows' -prune -exec rm -rf {} +
  tar -C "$context/vendor" -cf "$context/vendor.tar" .
  cp "$ROOT"/offline/* "$context"
  rm -rf "$context/vendor"
  DOCKER_BUILDKIT=0 busy /dev/null docker build -f "$context/builder.Dockerfile" --label mood.lock="$lock" \
    --label $OFFLINE_LABEL=$OFFLINE_VERSION --build-arg BASE=$OFFLINE_BUILDER_BASE -t "$image" "$context" ||
    die "the builder's image could not be made"
  rm -rf "$context"
}

# build_app OFFLINE [OPTION…]: the app's image, from the sources as they are; options go to docker build.
build_app() {
  local offline=$1 log arguments=("${@:2}")
  arguments+=(--build-arg "BUILDER=$(env_value BUILDER_IMAGE)")
  arguments+=(--build-arg GIT_COMMIT="$(git -C "$ROOT" rev-parse --short=12 HEAD 2>/dev/null || echo unknown)")
  arguments+=(--build-arg SOURCE="$(source_hash)")
  if $offline; then
    install_offline_builder
    arguments+=(--network none)
  fi
  step "Building $(env_value APP_IMAGE) (one to three minutes the first time)"
  log=$(mktemp)
  if ! busy "$log" docker build "${arguments[@]}" -f "$ROOT/Dockerfile.scratch" -t "$(env_value APP_IMAGE)" "$ROOT"; then
    tail -n 20 "$log" >&2
    die "the image could not be built; all that was said is in $log"
  fi
  rm -f "$log"
}

# binary_of_image FILE: takes the binary out of the app's image.
binary_of_image() {
  local container
  container=$(docker create "$(env_value APP_IMAGE)")
  docker cp "$container:/mood" "$1" >/dev/null 2>&1
  docker rm -f "$container" >/dev/null
}
