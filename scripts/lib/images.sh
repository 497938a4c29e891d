# Where images come from, and how the image of the app is built. Sourced by the scripts.
# shellcheck shell=bash

# Set by --online and --offline:
#   auto       images that are present; else from a registry; else from Debian packages, which then stay in use
#   registry   only official images
#   debian     only images from Debian packages
IMAGE_SOURCE=auto

image_exists() { docker image inspect "$1" >/dev/null 2>&1; }
image_label() { docker image inspect -f "{{index .Config.Labels \"$2\"}}" "$1" 2>/dev/null || true; }

# is_made_here IMAGE: whether offline/make-images.sh made it.
is_made_here() { [[ -n $(image_label "$1" mood.offline) ]]; }

# is_published IMAGE: whether the image of the app comes from a registry.
is_published() { [[ $1 == */* ]]; }

# pull NAME: pulls the image that variable NAME names. Fails with a sentence in PULL_ERROR if there is no usable registry, and
# dies if the registry does not have the image.
pull() {
  local image error place=.env
  image=$(env_value "$1")
  [[ -z ${!1+set} ]] || place="the environment"
  step "Pulling $image"
  # Docker writes progress to stdout and errors to stderr.
  { error=$(docker pull "$image" 2>&1 >&3); } 3>&1 && return
  error=${error//$'\n'/ }
  case $error in
    *"error getting credentials"* | *docker-credential-*)
      die "the credential helper of Docker fails: correct credsStore in ${DOCKER_CONFIG:-~/.docker}/config.json"
      ;;
    *"no space left"*) die "the disk is full where Docker keeps its images: docker system prune" ;;
    *" lookup "* | *"no such host"*) PULL_ERROR="the registry of $image cannot be reached (its name cannot be resolved)" ;;
    *"dial tcp"* | *"HTTP response to HTTPS"*) PULL_ERROR="the registry of $image cannot be reached (${error##*: })" ;;
    *toomanyrequests* | *"rate limit"* | *" 429"*)
      PULL_ERROR="the registry of $image allows no more pulls for now (429): log in with docker login, or wait an hour"
      ;;
    *denied* | *[Uu]nauthorized* | *"authentication required"*)
      die "access to $image is denied: correct $1 in $place, or log in with docker login"
      ;;
    *"manifest unknown"* | *"not found"* | *"no matching manifest"* | *"does not exist"* | *"invalid reference"*)
      die "$image does not exist in its registry, or not for this architecture: correct $1 in $place"
      ;;
    *timeout* | *"request canceled"* | *"deadline exceeded"* | *x509* | *"tls: "*)
      PULL_ERROR="the registry of $image cannot be reached (${error##*: })"
      ;;
    *) die "$image could not be pulled: $error" ;;
  esac
  return 1
}

# provide TARGET NAME…: makes sure that the images exist that these variables name, all from one source. TARGET is what
# offline/make-images.sh calls them. Sets IMAGE_SOURCE to debian if they come from Debian packages.
provide() {
  local target=$1 name image
  shift
  if [[ $IMAGE_SOURCE == auto ]] && is_made_here "$(env_value "$1")"; then IMAGE_SOURCE=debian; fi
  for name; do
    [[ $IMAGE_SOURCE != debian ]] || break
    image=$(env_value "$name")
    if image_exists "$image" && { [[ $IMAGE_SOURCE == auto ]] || ! is_made_here "$image"; }; then continue; fi
    pull "$name" && continue
    if [[ $IMAGE_SOURCE == registry ]] || ! has apt-get; then die "$PULL_ERROR"; fi
    [[ $(id -u) == 0 ]] || die "$PULL_ERROR; to make the images from Debian packages: sudo $0 --offline"
    note "$PULL_ERROR"
    IMAGE_SOURCE=debian
  done
  [[ $IMAGE_SOURCE != debian ]] || "$ROOT/offline/make-images.sh" "$target"
}

# source_hash: changes with every file that affects the binary.
source_hash() {
  (cd "$ROOT" && find Cargo.toml Cargo.lock build.rs Dockerfile.scratch scripts/lib/compile.sh src offline/builder -type f |
    LC_ALL=C sort | xargs cksum | checksum)
}

# The architecture of the Docker daemon, in Docker's terms.
own_arch() { docker version -f '{{.Server.Arch}}'; }

# build_app ARCH [OPTION…]: builds the image of the app; options go to docker build. Sets APP_TAG to its name, which ends in the
# architecture if that is not the daemon's own.
build_app() {
  local arch=$1 builder tool=(docker build) options=(--build-arg "TARGETARCH=$1" "${@:2}") foreign=false
  provide builder BUILDER_IMAGE
  builder=$(env_value BUILDER_IMAGE)
  APP_TAG=$(env_value APP_IMAGE)
  if [[ $arch != "$(own_arch)" ]]; then
    foreign=true APP_TAG=$APP_TAG-$arch
    if [[ $IMAGE_SOURCE == debian ]]; then
      [[ $arch == arm64 ]] || die "images from Debian packages can only be cross-built for arm64: use --online"
      "$ROOT/offline/make-images.sh" "builder-$arch"
      builder=$builder-$arch
    fi
    if docker buildx version >/dev/null 2>&1; then
      tool=(docker buildx build --load --platform "linux/$arch")
      foreign=false
    fi
  fi
  [[ $IMAGE_SOURCE != debian ]] || options+=(--network none)
  step "Building $APP_TAG (one to three minutes the first time)"
  quietly "the image could not be built" "${tool[@]}" "${options[@]}" \
    --build-arg "BUILDER=$builder" --build-arg "SOURCE=$(source_hash)" --build-arg "GIT_COMMIT=$(git_commit)" \
    -t "$APP_TAG" -f "$ROOT/Dockerfile.scratch" "$ROOT"
  # From scripts/lib/compile.sh.
  sed -n 's/^.*warning: \(the standard library cannot\)/\1/p' "$WORK/log" | while IFS= read -r line; do warn "$line"; done
  ! $foreign || set_architecture "$APP_TAG" "$arch"
}

git_commit() { git -C "$ROOT" rev-parse --short=12 HEAD 2>/dev/null || echo unknown; }

# set_architecture IMAGE ARCH: the classic builder labels every image with the architecture of the daemon.
set_architecture() {
  local folder=$WORK/image config
  mkdir "$folder"
  docker save "$1" | tar -C "$folder" -xf -
  config=$folder/$(sed 's/.*"Config":"\([^"]*\)".*/\1/' "$folder/manifest.json")
  sed "s/\"architecture\":\"[^\"]*\"/\"architecture\":\"$2\"/" "$config" >"$folder/new" && mv "$folder/new" "$config"
  tar -C "$folder" -cf - . | docker load -q >/dev/null
  rm -rf "$folder"
}
