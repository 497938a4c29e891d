#!/usr/bin/env bash
# Checks the HTTP contract of a deployment, one line per check. Needs only curl. Exits with the number of failed checks.
#
# Usage: scripts/smoke.sh [URL]
#   URL      any deployment, with or without Nginx (default: the stack of scripts/run.sh, http://localhost:8080)
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
failures=0

# request ARGUMENT…: sends a request with curl. Sets $status, $WORK/head and $WORK/body.
request() {
  : >"$WORK/head"
  : >"$WORK/body"
  status=$(curl -s -m 10 -D "$WORK/head" -o "$WORK/body" -w '%{http_code}' "$@" || true)
}
response() { header "$1" <"$WORK/head"; }
# field NAME: of the JSON body.
field() { sed -E "s/.*\"$1\":\"([^\"]*)\".*/\1/" "$WORK/body"; }

# expect WHAT COMMAND…: one check, which fails if COMMAND fails.
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
# shellcheck disable=SC2317
is() { [[ $1 == "$2" ]]; }
# shellcheck disable=SC2317
has_text() { grep -q -- "$1" "$WORK/body"; }
# shellcheck disable=SC2317
like() { [[ $1 =~ $2 ]]; }

html='Accept: text/html'

request "$url/mood"
expect "GET /mood returns 200" is "$status" 200
expect "  JSON with all fields" like "$(cat "$WORK/body")" '^\{"date":"[0-9-]{10}","mood":".+","emoji":".+","message":".+","gif":"/gif/[a-z]+-[0-9a-f]{8}\.gif","refreshed":[0-9]+\}$'
expect "  of type application/json" is "$(response Content-Type)" application/json
expect "  to be revalidated by caches" is "$(response Cache-Control)" no-cache
expect "  with X-Cache" like "$(response X-Cache)" '^(HIT|MISS|BYPASS)$'
expect "  with X-Served-By" like "$(response X-Served-By)" .
expect "  with X-Request-Id" like "$(response X-Request-Id)" .
expect "  with nosniff" is "$(response X-Content-Type-Options)" nosniff
etag=$(response ETag)
gif=$(field gif)
mood=$(field mood)
request -H "If-None-Match: $etag" "$url/mood"
expect "a matching ETag returns 304" is "$status" 304
request "$url/"
expect "GET / returns JSON to curl" has_text '^{"date"'
request -H "$html" "$url/"
expect "GET / returns the page to a browser" has_text "$mood"
expect "  with a Content-Security-Policy" like "$(response Content-Security-Policy)" "default-src 'none'"
request -I "$url/mood"
expect "HEAD has no body" like "$status $(response Content-Length)" '^200 [0-9]+$'
request "$url$gif"
expect "the GIF is valid" is "$status $(response Content-Type) $(dd bs=6 count=1 <"$WORK/body" 2>/dev/null)" "200 image/gif GIF89a"
expect "  and immutable" is "$(response Cache-Control)" "public, max-age=31536000, immutable"
request "$url/gif/nobody-00000000.gif"
expect "an unknown GIF returns 404" is "$status" 404
request -H "X-Request-Id: smoke-1" "$url/mood"
expect "a request id is returned" is "$(response X-Request-Id)" smoke-1
request -X POST "$url/refresh"
expect "POST /refresh returns 200" is "$status" 200
expect "  with an incremented count" like "$(cat "$WORK/body")" '"refreshed":[1-9]'
expect "  and another mood" test "$(field mood)" != "$mood"
request -X POST -H "$html" "$url/refresh"
expect "POST /refresh redirects a browser" is "$status $(response Location | sed 's|.*://[^/]*||')" "303 /"
request "$url/refresh"
expect "GET /refresh returns 405 with Allow" is "$status $(response Allow)" "405 POST"
request -X POST -d "$(printf '%2000s' x)" "$url/refresh"
expect "a body over 1 KiB returns 413" is "$status" 413
request "$url/health"
expect "GET /health returns 200" is "$status" 200
request "$url/version"
expect "GET /version names the service" has_text '"name":"mood"'
request "$url/nothing"
expect "an unknown path returns 404 in JSON" is "$status $(response Content-Type)" "404 application/json"

say "$failures failed"
exit $((failures > 255 ? 255 : failures))
