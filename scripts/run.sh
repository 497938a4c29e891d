#!/usr/bin/env bash
# Starts the whole stack: Nginx, the app, Redis, Prometheus, Grafana. The only command between a clone and the page.
#
# Usage: scripts/run.sh [--replicas N] [--online|--offline] [--build]
#   --replicas N   how many replicas of the app (default: as many as run now, or 1)
#   --online       take the official images, also where images from Debian packages stand in for them
#   --offline      take no image from a registry: make them from Debian packages (found out by itself otherwise)
#   --build        build the app's image even if its sources have not changed
#   --help         this text
#
# APP_IMAGE=name/of/a/published:tag scripts/run.sh pulls that image instead of building one.
# Without Docker it runs the service alone, with its embedded store, on the same port. Safe to run twice.

# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/images.sh
source "$ROOT/scripts/lib/images.sh"
# shellcheck source=scripts/lib/versions.sh
source "$ROOT/scripts/lib/versions.sh"
# shellcheck source=scripts/lib/stack.sh
source "$ROOT/scripts/lib/stack.sh"

replicas='' way=either build=false
while (($#)); do
  case $1 in
    --replicas)
      is_count "${2:-}" || usage_error "--replicas takes a number from 1 to $MAX_REPLICAS"
      replicas=$2
      shift
      ;;
    --online) way=official ;;
    --offline) way=debian ;;
    --build) build=true ;;
    -h | --help) show_help ;;
    *) usage_error "unknown argument '$1'" ;;
  esac
  shift
done

# run_alone: the service without a stack.
run_alone() {
  say "Docker is not installed: running the service alone, with its embedded store, on http://localhost:$(http_port)"
  need cargo cargo
  (cd "$ROOT" && cargo build --release --locked)
  LISTEN_ADDR=0.0.0.0:$(http_port) exec "$ROOT/target/release/mood"
}

# --- Checks: nothing is changed yet ---

# check_port SERVICE NAME: whether the port in variable NAME is free, unless our own SERVICE holds it.
check_port() {
  local port
  [[ -z $(containers "$1") ]] || return 0
  port=$(env_value "$2")
  if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    die "port $port is in use by something else: stop that, or choose another with $2=… scripts/run.sh"
  fi
}

# check_space: disk and memory, where the engine's are this machine's.
check_space() {
  local free memory
  free=$(df -Pk "$(docker info -f '{{.DockerRootDir}}' 2>/dev/null)" 2>/dev/null | awk 'NR == 2 { print $4 }' || true)
  ((${free:-9999999} > 3000000)) || die "only $((free / 1024)) MB are free where Docker keeps its images, and it needs 3 GB: docker system prune"
  [[ -r /proc/meminfo ]] || return 0
  memory=$(awk '/^MemAvailable/ { print $2 }' /proc/meminfo)
  ((memory > 400000)) || die "only $((memory / 1024)) MB of memory are free, and the stack needs 400 MB: stop something else"
}

# check_readable: the containers' users are others than the one who made this folder.
check_readable() {
  local hidden
  hidden=$(cd "$ROOT" && find nginx.conf nginx prometheus.yml prometheus redis grafana ! -perm -004 | head -n 1)
  [[ -z $hidden ]] || die "the containers' users may not read $hidden: chmod -R go+rX $ROOT"
}

# needs_build: whether the app's image is of other sources than these, or of a stand-in that is to go.
needs_build() {
  [[ $(image_label "$app_image" mood.source) != "$(source_hash)" ]] ||
    { [[ $way == official ]] && is_offline_image "$(env_value BUILDER_IMAGE)"; }
}

has docker || run_alone
need_docker
need curl curl
compose version >/dev/null
check_readable
check_port nginx HTTP_PORT
check_port prometheus PROMETHEUS_PORT
[[ -n $(containers nginx) ]] || check_space
running=$(replica_count)
replicas=${replicas:-$((running > 0 ? running : 1))}
check_neighbours "$replicas"
app_image=$(env_value APP_IMAGE)
if $build && is_published "$app_image"; then
  usage_error "--build builds an image of one's own, and APP_IMAGE names one of a registry ($app_image)"
fi

# --- Changes ---

skipped=''
install_images "$way"
# No registry answered: the builder would not come from there either.
[[ $IMAGES_WAY == official ]] || way=debian
if [[ $IMAGES_WAY == debian ]] && profile_has grafana && ! image_exists "$(env_value GRAFANA_IMAGE)"; then
  COMPOSE_PROFILES=$(env_value COMPOSE_PROFILES | tr , '\n' | grep -vx grafana | paste -s -d , - || true)
  export COMPOSE_PROFILES
  skipped="Grafana: no registry answers and Debian does not have it"
fi
check_versions
if is_published "$app_image"; then
  image_exists "$app_image" || pull "$app_image" || die "$PULL_SENTENCE"
elif $build || needs_build; then
  build_app "$way" "$(own_arch)"
fi

# Now it is clear what starts.
! profile_has grafana || check_port grafana GRAFANA_PORT
! profile_has alertmanager || check_port alertmanager ALERTMANAGER_PORT

step "Starting $replicas replica(s) and what stands around them"
start_replicas "$replicas"

mood=$(curl -sf "$(base_url)/mood")
field() { sed -E "s/.*\"$1\":\"([^\"]*)\".*/\1/" <<<"$mood"; }
say
say "${BOLD}$(field emoji) $(field mood)${RESET}  $(field message)"
say
say "page        $(base_url)"
say "Prometheus  $(prometheus_url)"
if [[ -n $(containers grafana) ]]; then
  say "Grafana     http://localhost:$(env_value GRAFANA_PORT)  ($(env_value GRAFANA_USER), password in .env: change it)"
fi
say "replicas    $(replica_count), more with scripts/scale.sh N"
[[ $IMAGES_WAY != debian ]] || say_versions
[[ -z $skipped ]] || say "${YELLOW}left out${RESET}    $skipped"
