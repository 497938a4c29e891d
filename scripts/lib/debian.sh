# Transition: for scripts that are being replaced. See offline/.
# shellcheck shell=bash disable=SC2034
readonly OFFLINE_LABEL=mood.offline OFFLINE_BUILDER_BASE=mood-of-the-day-builder-base
is_offline_image() { is_made_here "$1"; }
need_debian_tools() { :; }
debian_tar() { "$ROOT/offline/debian-tar.sh" "$@"; }
debian_image() { debian_tar "${4:-minbase}" "$2" | docker import ${3:+--change "LABEL $3"} - "$1" >/dev/null; }
debian_program() {
  mkdir -p "$(dirname "$3")"
  debian_tar extract "$1" | tar -xO "./$2" >"$3.unfinished" && chmod +x "$3.unfinished" && mv "$3.unfinished" "$3"
}
profile_has() { [[ ,$(env_value COMPOSE_PROFILES), == *,$1,* ]]; }
wanted_images() {
  local name
  for name in REDIS NGINX PROMETHEUS NGINX_EXPORTER REDIS_EXPORTER; do env_value "${name}_IMAGE" && echo; done
}
install_images() { provide stack REDIS_IMAGE NGINX_IMAGE PROMETHEUS_IMAGE NGINX_EXPORTER_IMAGE REDIS_EXPORTER_IMAGE; }
prometheus_url() { printf 'http://localhost:%s' "$(env_value PROMETHEUS_PORT)"; }
http_port() { env_value HTTP_PORT; }
need_stack() { [[ -n $(containers nginx) ]] || die "the stack does not run: scripts/run.sh"; }
PULL_SENTENCE="the image could not be pulled"
have_official() { image_exists "$1" || docker pull "$1"; }
logged_build() { shift && quietly "the image could not be built" docker build "$@"; }
