# Transition: for scripts that are being replaced. See offline/.
# shellcheck shell=bash disable=SC2034
readonly OFFLINE_LABEL=mood.offline
need_debian_tools() { :; }
debian_tar() { "$ROOT/offline/debian-tar.sh" "$@"; }
debian_program() {
  mkdir -p "$(dirname "$3")"
  debian_tar extract "$1" | tar -xO "./$2" >"$3.unfinished" && chmod +x "$3.unfinished" && mv "$3.unfinished" "$3"
}
