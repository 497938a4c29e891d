#!/usr/bin/env bash
# Starts the whole stack: Nginx, the app, Redis, Prometheus, Grafana. Pulls and builds missing images first.
#
# Usage: scripts/run.sh [--replicas N] [--online|--offline] [--build]
#   --replicas N   number of app replicas (default: as many as are running, or 1)
#   --online       use only official images; replaces images that were made from Debian packages
#   --offline      use no registry: make the images from Debian packages (the default if no registry is reachable)
#   --build        build the app image even if its sources have not changed
#   --help         this text
#
# APP_IMAGE=name/of/a/published:tag scripts/run.sh pulls that image instead of building one.
# Without Docker, it runs only the service, with its embedded store, on the same port. It is safe to run twice.

# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/images.sh
source "$ROOT/scripts/lib/images.sh"
# shellcheck source=scripts/lib/stack.sh
source "$ROOT/scripts/lib/stack.sh"

replicas='' build=false
while (($#)); do
  case $1 in
    --replicas)
      is_count "${2:-}" || usage_error "--replicas takes a number from 1 to $MAX_REPLICAS"
      replicas=$2
      shift
      ;;
    --online) IMAGE_SOURCE=registry ;;
    --offline) IMAGE_SOURCE=debian ;;
    --build) build=true ;;
    -h | --help) show_help ;;
    *) usage_error "unknown argument '$1'" ;;
  esac
  shift
done

# run_standalone: the service without a stack.
run_standalone() {
  local port
  port=$(env_value HTTP_PORT)
  say "Docker is not installed: running only the service, with its embedded store, on http://localhost:$port"
  need cargo cargo
  (cd "$ROOT" && cargo build --release --locked)
  export LISTEN_ADDR=0.0.0.0:$port
  become "$ROOT/target/release/mood"
}

# profile_has SERVICE: whether COMPOSE_PROFILES starts it.
profile_has() { [[ ,$(env_value COMPOSE_PROFILES), == *,$1,* ]]; }

# --- Checks: these change nothing ---

# check_port SERVICE NAME: the port in variable NAME must be free, unless SERVICE of this stack uses it.
check_port() {
  local port
  [[ -z $(containers "$1") ]] || return 0
  port=$(env_value "$2")
  if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    die "port $port is in use by another program: stop it, or choose another port with $2=… scripts/run.sh"
  fi
}

# check_space: disk and memory, if the Docker daemon runs on this machine.
check_space() {
  local free memory
  free=$(df -Pk "$(docker info -f '{{.DockerRootDir}}' 2>/dev/null)" 2>/dev/null | awk 'NR == 2 { print $4 }' || true)
  ((${free:-9999999} > 3000000)) || die "only $((free / 1024)) MiB of disk are free for Docker, and the stack needs 3 GB: docker system prune"
  [[ -r /proc/meminfo ]] || return 0
  memory=$(awk '/^MemAvailable/ { print $2 }' /proc/meminfo)
  ((memory > 400000)) || die "only $((memory / 1024)) MiB of memory are free, and the stack needs 400 MB: stop other programs"
}

# check_readable: the containers run as other users than the owner of this folder.
check_readable() {
  local hidden
  hidden=$(cd "$ROOT" && find nginx.conf nginx prometheus.yml prometheus redis grafana ! -perm -004 | head -n 1)
  [[ -z $hidden ]] || die "the users in the containers cannot read $hidden: chmod -R go+rX $ROOT"
}

# check_version NAME LEAST COMMAND…: the image in variable NAME must run COMMAND, and COMMAND must report version LEAST or later.
check_version() {
  local image report version
  image=$(env_value "$1")
  # An image that runs has passed.
  [[ -z $(docker ps -q --filter "ancestor=$image" --filter label=com.docker.compose.project) ]] || return 0
  report=$(docker run --rm --network none --entrypoint "$3" "$image" "${@:4}" 2>&1) ||
    die "$image does not fit the stack (${report%%$'\n'*}): correct $1 in .env"
  version=$(awk 'match($0, /[0-9]+(\.[0-9]+)+/) { print substr($0, RSTART, RLENGTH); exit }' <<<"$report")
  [[ $(printf '%s\n' "$2" "$version" | sort -t . -k 1,1n -k 2,2n -k 3,3n | head -n 1) == "$2" ]] ||
    die "$image contains version $version, and the stack needs $2 or later: correct $1 in .env"
}

# needs_build: whether the app image has other sources, or a builder that --online replaces.
needs_build() {
  [[ $(image_label "$app_image" mood.source) != "$(source_hash)" ]] ||
    { [[ $IMAGE_SOURCE == registry ]] && is_made_here "$(env_value BUILDER_IMAGE)"; }
}

has docker || run_standalone
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
  usage_error "--build builds a local image, but APP_IMAGE names a published one ($app_image)"
fi

# --- Changes ---

images=(REDIS_IMAGE NGINX_IMAGE PROMETHEUS_IMAGE NGINX_EXPORTER_IMAGE REDIS_EXPORTER_IMAGE)
! profile_has alertmanager || images+=(ALERTMANAGER_IMAGE)
! profile_has grafana || images+=(GRAFANA_IMAGE)
provide stack "${images[@]}"
stack_source=$IMAGE_SOURCE
skipped=''
if profile_has grafana && ! image_exists "$(env_value GRAFANA_IMAGE)"; then
  COMPOSE_PROFILES=$(env_value COMPOSE_PROFILES | tr , '\n' | grep -vx grafana | paste -s -d , - || true)
  export COMPOSE_PROFILES
  skipped="Grafana: it is not in Debian"
fi
check_version REDIS_IMAGE 7 redis-server --version
check_version PROMETHEUS_IMAGE 3 prometheus --version
# With njs. nginx -t reports what is missing.
check_version NGINX_IMAGE 1.29.3 sh -c 'echo "load_module modules/ngx_http_js_module.so; events {}" >/tmp/conf
  nginx -tq -c /tmp/conf && nginx -v'
if is_published "$app_image"; then
  image_exists "$app_image" || pull APP_IMAGE || die "$PULL_ERROR"
elif $build || needs_build; then
  build_app "$(own_arch)"
fi

# Only now it is clear which services start.
! profile_has grafana || check_port grafana GRAFANA_PORT
! profile_has alertmanager || check_port alertmanager ALERTMANAGER_PORT

step "Starting the stack with $replicas replica(s)"
start_replicas "$replicas"

mood=$(curl -sf "$(base_url)/mood")
field() { sed -E "s/.*\"$1\":\"([^\"]*)\".*/\1/" <<<"$mood"; }
say
say "${BOLD}$(field emoji) $(field mood)${RESET}  $(field message)"
say
say "page        $(base_url)"
say "Prometheus  http://localhost:$(env_value PROMETHEUS_PORT)"
if [[ -n $(containers grafana) ]]; then
  say "Grafana     http://localhost:$(env_value GRAFANA_PORT)  ($(env_value GRAFANA_USER), password in .env: change it)"
fi
say "replicas    $(replica_count), more with scripts/scale.sh N"
[[ $stack_source != debian ]] || say "images      from Debian packages; scripts/run.sh --online replaces them with the official ones"
[[ -z $skipped ]] || say "${YELLOW}skipped${RESET}     $skipped"
