# Where the images come from: a registry, or Debian packages where none answers; and the app's own. Sourced by the scripts.
# shellcheck shell=bash disable=SC2034

# shellcheck source=scripts/lib/pull.sh
source "$ROOT/scripts/lib/pull.sh"
# shellcheck source=scripts/lib/debian.sh
source "$ROOT/scripts/lib/debian.sh"

# image_limit: what the app's image may have, in bytes. The official compiler makes it a little larger than Debian's.
image_limit() { if is_offline_image "$(env_value BUILDER_IMAGE)"; then echo 860000; else echo 1000000; fi; }

image_exists() { docker image inspect "$1" >/dev/null 2>&1; }
image_label() { docker image inspect -f "{{index .Config.Labels \"$2\"}}" "$1" 2>/dev/null || true; }

# source_hash: changes with anything that goes into the binary.
source_hash() {
  (cd "$ROOT" && find Cargo.toml Cargo.lock build.rs Dockerfile.scratch scripts/lib/compile.sh src offline -type f |
    LC_ALL=C sort | xargs cksum | checksum)
}

# have_official IMAGE: pulls the official image of this name unless it is here.
have_official() {
  if image_exists "$1" && ! is_offline_image "$1"; then return 0; fi
  pull "$1"
}

# or_debian: after a pull that failed: returns if Debian packages can take the registry's place, else dies.
or_debian() {
  if [[ $PULL_KIND == unreachable || $PULL_KIND == limited ]]; then
    if can_use_debian; then
      note "$PULL_SENTENCE"
      return 0
    fi
    ! has apt-get || PULL_SENTENCE="$PULL_SENTENCE; or make the images from Debian packages: sudo $0 --offline"
  fi
  die "$PULL_SENTENCE"
}

# profile_has SERVICE: whether COMPOSE_PROFILES starts it.
profile_has() { [[ ,$(env_value COMPOSE_PROFILES), == *,$1,* ]]; }

# wanted_images: the official images that the stack takes, without the app's. Redis' decides where all come from.
wanted_images() {
  local name
  for name in REDIS NGINX PROMETHEUS NGINX_EXPORTER REDIS_EXPORTER; do env_value "${name}_IMAGE" && echo; done
  if profile_has alertmanager; then env_value ALERTMANAGER_IMAGE && echo; fi
  if profile_has grafana; then env_value GRAFANA_IMAGE && echo; fi
}

# install_images WAY: all that wanted_images names, by WAY: official (or nothing), debian, or either. Sets IMAGES_WAY to
# official or debian.
install_images() {
  local way=$1 image
  IMAGES_WAY=official
  if [[ $way == either ]] && is_offline_image "$(env_value REDIS_IMAGE)"; then
    note "the images from Debian packages stand in for the official ones; to go back to those: scripts/run.sh --online"
    way=debian
  fi
  if [[ $way != debian ]]; then
    for image in $(wanted_images); do
      have_official "$image" && continue
      if [[ $way == official ]]; then die "$PULL_SENTENCE"; fi
      or_debian
      way=debian
      break
    done
  fi
  if [[ $way == debian ]]; then
    install_offline_images
    IMAGES_WAY=debian
  fi
}

# install_builder WAY: the image that compiles the app, likewise. Sets BUILDER_WAY.
install_builder() {
  local way=$1 image
  image=$(env_value BUILDER_IMAGE)
  BUILDER_WAY=official
  if [[ $way == either ]] && is_offline_image "$image"; then way=debian; fi
  if [[ $way != debian ]]; then
    have_official "$image" && return
    if [[ $way == official ]]; then die "$PULL_SENTENCE"; fi
    or_debian
  fi
  BUILDER_WAY=debian
}

# is_published IMAGE: whether the app's image is one of a registry, and not ours to build.
is_published() { [[ $1 == */* ]]; }

# own_arch: this engine's architecture, as Docker calls it.
own_arch() { docker version -f '{{.Server.Arch}}'; }

# build_app WAY ARCH [OPTION…]: the app's image, from the sources as they are; options go to docker build. Sets APP_TAG,
# the image's name: for another architecture than this engine's it is one of its own.
build_app() {
  local arch=$2 builder folder arguments
  install_builder "$1"
  builder=$(env_value BUILDER_IMAGE)
  APP_TAG=$(env_value APP_IMAGE)
  arguments=("${@:3}" --build-arg "TARGETARCH=$arch")
  if [[ $BUILDER_WAY == debian ]]; then
    if [[ $arch == "$(own_arch)" ]]; then install_offline_builder; else builder=$(install_cross_builder "$arch"); fi
    arguments+=(--network none)
  fi
  arguments+=(--build-arg "BUILDER=$builder" --build-arg "SOURCE=$(source_hash)")
  arguments+=(--build-arg "GIT_COMMIT=$(git_commit)")
  [[ $arch == "$(own_arch)" ]] || APP_TAG=$APP_TAG-$arch
  step "Building $APP_TAG (one to three minutes the first time)"
  folder=$(temp_folder)
  if [[ $arch == "$(own_arch)" ]]; then
    logged_build "$folder" "${arguments[@]}" -t "$APP_TAG" -f "$ROOT/Dockerfile.scratch" "$ROOT"
  else
    # The classic builder cannot make an image of another platform than its own: only compiling is left to it.
    logged_build "$folder" "${arguments[@]}" -t "$APP_TAG-stage" -f "$ROOT/Dockerfile.scratch" --target build "$ROOT"
    binary_of_image "$folder/mood" "$APP_TAG-stage"
    import_app "$folder" "$arch"
  fi
  rm -rf "$folder"
}

# import_app FOLDER ARCH: makes the image APP_TAG of the binary in FOLDER, as the last stage of Dockerfile.scratch says.
import_app() {
  local changes=(--platform "linux/$2") line
  while IFS= read -r line; do
    changes+=(--change "$line")
  done < <(awk '
    /^FROM scratch/ { last = 1; next }
    !last || /^(ARG|COPY|#)/ { next }
    sub(/\\$/, "") { text = text $0; next }
    text $0 != "" { print text $0; text = "" }' "$ROOT/Dockerfile.scratch" |
    sed -e "s|\${GIT_COMMIT}|$(git_commit)|" -e "s|\${SOURCE}|$(source_hash)|")
  tar -C "$1" -cf - mood | docker import "${changes[@]}" - "$APP_TAG" >/dev/null
  [[ $(docker image inspect -f '{{.Architecture}}' "$APP_TAG") == "$2" ]] || relabel_app "$1/image" "$2"
}

# relabel_app FOLDER ARCH: older engines take every import for their own architecture; the image's file says which it is.
relabel_app() {
  local config
  mkdir "$1"
  docker save "$APP_TAG" | tar -C "$1" -xf -
  config=$(sed 's/.*"Config":"\([^"]*\)".*/\1/' "$1/manifest.json")
  sed "s/\"architecture\":\"[^\"]*\"/\"architecture\":\"$2\"/" "$1/$config" >"$1/config"
  mv "$1/config" "$1/$config"
  tar -C "$1" -cf - . | docker load -q >/dev/null
}

git_commit() { git -C "$ROOT" rev-parse --short=12 HEAD 2>/dev/null || echo unknown; }

# logged_build FOLDER ARGUMENTS…: docker build, its output in FOLDER and shown only if it fails.
logged_build() {
  local log=$1/build.log
  shift
  if ! busy "$log" docker build "$@"; then
    tail -n 20 "$log" >&2
    die "the image could not be built; all that was said is in $log"
  fi
  # Where the standard library could not be built along.
  sed -n 's/^.*warning: \(the standard library cannot\)/\1/p' "$log" | while IFS= read -r line; do warn "$line"; done
}

# binary_of_image FILE [IMAGE]: takes the binary out of the app's image.
binary_of_image() {
  local container
  # The command is never run; an image that names none wants one.
  container=$(docker create "${2:-$(env_value APP_IMAGE)}" /mood 2>/dev/null)
  docker cp "$container:/mood" "$1" >/dev/null 2>&1
  docker rm -f "$container" >/dev/null
}
