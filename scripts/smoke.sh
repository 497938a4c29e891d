#!/usr/bin/env bash
# Checks the HTTP contract of a deployment with curl alone, a line a check. Exits with the number of failures.
#
# Usage: scripts/smoke.sh [URL]
#   URL      any deployment, with Nginx in front or not (default: the stack of scripts/run.sh, http://localhost:8080)
#   --help   this text

# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

case ${1:-} in
  -h | --help) show_help ;;
  -*) usage_error "unknown argument '$1'" ;;
esac
need curl curl
url=${1:-http://localhost:$(env_value HTTP_PORT)}
url=${url%/}
folder=$(temp_folder)
trap 'rm -rf "$folder"' EXIT
failures=0

# ask ARGUMENTS…: makes a request; then `status`, `answered NAME` and $folder/body tell about it.
ask() {
  : >"$folder/head"
  : >"$folder/body"
  status=$(curl -s -m 10 -D "$folder/head" -o "$folder/body" -w '%{http_code}' "$@" || true)
}
answered() { header "$1" <"$folder/head"; }
body() { cat "$folder/body"; }

# expect WHAT COMMAND…: one line, and one failure if COMMAND fails.
expect() {
  local what=$1
  shift
  if "$@"; then
    printf '%sok%s      %s\n' "$GREEN" "$RESET" "$what"
  else
    printf '%sFAILED%s  %s (status %s)\n' "$RED" "$RESET" "$what" "$status"
    failures=$((failures + 1))
  fi
}
# These are called by name.
# shellcheck disable=SC2317
is() { [[ $1 == "$2" ]]; }
# shellcheck disable=SC2317
has_text() { grep -q -- "$1" "$folder/body"; }
# shellcheck disable=SC2317
like() { [[ $1 =~ $2 ]]; }

html='Accept: text/html'

ask "$url/mood"
expect "GET /mood is 200" is "$status" 200
expect "  JSON with all fields" like "$(body)" '^\{"date":"[0-9-]{10}","mood":".+","emoji":".+","message":".+","gif":"/gif/[a-z]+-[0-9a-f]{8}\.gif","refreshed":[0-9]+\}$'
expect "  of type application/json" is "$(answered Content-Type)" application/json
expect "  not to be cached unasked" is "$(answered Cache-Control)" no-cache
expect "  with X-Cache" like "$(answered X-Cache)" '^(HIT|MISS|BYPASS)$'
expect "  with X-Served-By" like "$(answered X-Served-By)" .
expect "  with X-Request-Id" like "$(answered X-Request-Id)" .
expect "  with nosniff" is "$(answered X-Content-Type-Options)" nosniff
etag=$(answered ETag)
gif=$(sed -E 's/.*"gif":"([^"]*)".*/\1/' "$folder/body")
mood=$(sed -E 's/.*"mood":"([^"]*)".*/\1/' "$folder/body")
ask -H "If-None-Match: $etag" "$url/mood"
expect "a known ETag gives 304" is "$status" 304
ask "$url/"
expect "GET / is JSON for curl" has_text '^{"date"'
ask -H "$html" "$url/"
expect "GET / is a page for a browser" has_text "$mood"
expect "  with a Content-Security-Policy" like "$(answered Content-Security-Policy)" "default-src 'none'"
ask -I "$url/mood"
expect "HEAD has no body" like "$status $(answered Content-Length)" '^200 [0-9]+$'
ask "$url$gif"
expect "the GIF is one" is "$status $(answered Content-Type) $(dd bs=6 count=1 <"$folder/body" 2>/dev/null)" "200 image/gif GIF89a"
expect "  and may be kept for ever" is "$(answered Cache-Control)" "public, max-age=31536000, immutable"
ask "$url/gif/nobody-00000000.gif"
expect "an unknown GIF is 404" is "$status" 404
ask -H "X-Request-Id: smoke-1" "$url/mood"
expect "a request id comes back" is "$(answered X-Request-Id)" smoke-1
ask -X POST "$url/refresh"
expect "POST /refresh is 200" is "$status" 200
expect "  with another mood" like "$(body)" '"refreshed":[1-9]'
expect "  and not the same" test "$(sed -E 's/.*"mood":"([^"]*)".*/\1/' "$folder/body")" != "$mood"
ask -X POST -H "$html" "$url/refresh"
expect "POST /refresh leads a browser back" is "$status $(answered Location | sed 's|.*://[^/]*||')" "303 /"
ask "$url/refresh"
expect "GET /refresh is 405 with Allow" is "$status $(answered Allow)" "405 POST"
ask -X POST -d "$(printf '%2000s' x)" "$url/refresh"
expect "a body over 1 KiB is 413" is "$status" 413
ask "$url/health"
expect "GET /health is 200" is "$status" 200
ask "$url/version"
expect "GET /version names the service" has_text '"name":"mood"'
ask "$url/nothing"
expect "an unknown path is 404 JSON" is "$status $(answered Content-Type)" "404 application/json"

say "$failures failed"
exit $((failures > 255 ? 255 : failures))
