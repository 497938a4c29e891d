# The services that ours is compared with, as images. Sourced by scripts/density.sh.
# shellcheck shell=bash disable=SC2034

# Written here (bench/NAME), and ready-made ones that join for the columns of footprint where a registry answers.
readonly WRITTEN_PEERS='axum go flask'
readonly READY_PEERS='whoami podinfo http-echo'

# peer_image NAME
peer_image() {
  case $1 in
    ours) env_value APP_IMAGE ;;
    whoami) echo traefik/whoami:v1.11 ;;
    podinfo) echo ghcr.io/stefanprodan/podinfo:6.9.2 ;;
    http-echo) echo hashicorp/http-echo:1.0 ;;
    *) echo "mood-bench-$1:local" ;;
  esac
}

# build_peer NAME: the image of one that is written here, of official images or, where those of the stack come from Debian
# packages, of Debian packages too.
build_peer() {
  local folder hash image arguments=()
  image=$(peer_image "$1")
  hash=$(cd "$ROOT/bench/$1" && find . -type f ! -path './target/*' | LC_ALL=C sort | xargs cat | checksum)
  [[ $(image_label "$image" mood.bench.source) != "$hash" ]] || return 0
  step "Building $image"
  folder=$(temp_folder)
  cp -R "$ROOT/bench/$1/." "$folder"
  rm -rf "$folder/target"
  if is_offline_image "$(env_value BUILDER_IMAGE)"; then debian_peer "$1" "$folder"; fi
  logged_build "$folder" ${arguments[@]+"${arguments[@]}"} --label mood.bench.source="$hash" -t "$image" "$folder"
  rm -rf "$folder"
}

# debian_peer NAME FOLDER: adds to `arguments` what its Dockerfile is built from, and to the folder what it would download.
debian_peer() {
  arguments+=(--network none)
  case $1 in
    axum)
      peer_base mood-bench-distroless base-files,libc6,libgcc-s1,ca-certificates,tzdata extract
      (cd "$2" && cargo vendor --quiet --locked --versioned-dirs >/dev/null)
      mkdir "$2/.cargo"
      sed 's|"/vendor"|"vendor"|' "$ROOT/offline/builder/cargo-config.toml" >"$2/.cargo/config.toml"
      arguments+=(--build-arg "BUILDER=$OFFLINE_BUILDER_BASE" --build-arg BASE=mood-bench-distroless)
      ;;
    go)
      peer_base mood-bench-golang golang-go,golang-github-redis-go-redis-dev,golang-github-prometheus-client-golang-dev
      arguments+=(--build-arg BUILDER=mood-bench-golang)
      ;;
    flask)
      peer_base mood-bench-python python3-flask,gunicorn,python3-redis,python3-prometheus-client
      arguments+=(--build-arg BASE=mood-bench-python)
      ;;
  esac
}

# peer_base NAME PACKAGES [VARIANT]
peer_base() {
  if image_exists "$1"; then return 0; fi
  need_debian_tools
  note "$1, from Debian packages (up to a minute)"
  debian_image "$1" "$2" mood.bench=base "${3:-}"
}
