# Which versions the images hold, and what the stack needs of them. Sourced by run.sh.
# shellcheck shell=bash

# image_version NAME: the version of what is in the image that NAME_IMAGE names; of Nginx without njs followed by a word
# about that. An image is asked once: what it said is kept under its id.
image_version() {
  local image id version known=$ROOT/state/versions
  image=$(env_value "$1_IMAGE")
  id=$(docker image inspect -f '{{.Id}}' "$image")
  version=$(sed -n "s/^$id //p" "$known" 2>/dev/null || true)
  if [[ -z $version ]]; then
    version=$(ask_version "$1" "$image")
    mkdir -p "$ROOT/state"
    printf '%s %s\n' "$id" "$version" >>"$known"
  fi
  printf '%s' "$version"
}

# ask_version NAME IMAGE: the first number that the program itself gives, or nothing.
ask_version() {
  local said
  case $1 in
    NGINX)
      # shellcheck disable=SC2016
      said=$(inside "$2" sh -c 'nginx -v 2>&1; echo "events {}" >/tmp/conf
        nginx -t -q -c /tmp/conf -g "load_module modules/ngx_http_js_module.so;" 2>/dev/null || echo without njs')
      ;;
    REDIS) said=$(inside "$2" redis-server --version) ;;
    PROMETHEUS) said=$(inside "$2" prometheus --version) ;;
    # Their entry points are the programs.
    *) said=$(docker run --rm --network none "$2" --version 2>&1 || true) ;;
  esac
  awk '
    !version && match($0, /[0-9]+\.[0-9]+(\.[0-9]+)?/) { version = substr($0, RSTART, RLENGTH) }
    /^without njs/ { without = " " $0 }
    END { printf "%s%s", version, without }' <<<"$said"
}

inside() { docker run --rm --network none --entrypoint "$2" "$1" "${@:3}" 2>&1 || true; }

# is_at_least VERSION LEAST: compares number by number; what is left out is 0.
is_at_least() {
  awk -v version="$1" -v least="$2" 'BEGIN {
    split(version, have, "."); parts = split(least, want, ".")
    for (i = 1; i <= parts; i++) if (have[i] + 0 != want[i] + 0) exit have[i] + 0 < want[i] + 0
  }'
}

# need_version NAME PROGRAM LEAST: dies with what to do if the image holds something older.
need_version() {
  local image version
  image=$(env_value "$1_IMAGE")
  version=$(image_version "$1")
  [[ $version == [0-9]* ]] || die "$image does not hold $2: name an image of $2 $3 or later as $1_IMAGE in .env"
  if ! is_at_least "${version%% *}" "$3" || [[ $version == *njs ]]; then
    die "$image holds $2 $version, and the stack needs $2 $3 or later${4:-}: change $1_IMAGE in .env"
  fi
}

# check_versions: what nginx.conf, the way moods are read, and alerts.yml and prometheus.yml are written for.
check_versions() {
  need_version NGINX Nginx 1.29.3 " with njs"
  need_version REDIS Redis 7
  need_version PROMETHEUS Prometheus 3
}

# say_versions: what runs in place of the images of .env.
say_versions() {
  say "versions    Nginx $(image_version NGINX), Redis $(image_version REDIS), Prometheus $(image_version PROMETHEUS), exporters $(image_version NGINX_EXPORTER) and $(image_version REDIS_EXPORTER):"
  say "            from Debian packages, in place of the images that .env names"
}
