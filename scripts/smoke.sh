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
body() { cat "$WORK/body"; }
# field NAME: of the JSON body.
field() { sed -E "s/.*\"$1\":\"([^\"]*)\".*/\1/" "$WORK/body"; }

# expect WHAT VALUE PATTERN: one check, which fails if the value does not match the extended regular expression.
expect() {
  if [[ $2 =~ $3 ]]; then
    printf '%sok%s      %s\n' "$GREEN" "$RESET" "$1"
  else
    printf '%sFAILED%s  %s (status %s)\n' "$RED" "$RESET" "$1" "$status"
    failures=$((failures + 1))
  fi
}

html='Accept: text/html'

request "$url/mood"
expect "GET /mood returns 200" "$status" '^200$'
expect "  JSON with all fields" "$(body)" '^\{"date":"[0-9-]{10}","mood":".+","emoji":".+","message":".+","gif":"/gif/[a-z]+-[0-9a-f]{8}\.gif","refreshed":[0-9]+\}$'
expect "  of type application/json" "$(response Content-Type)" '^application/json$'
expect "  to be revalidated by caches" "$(response Cache-Control)" '^no-cache$'
expect "  with X-Cache" "$(response X-Cache)" '^(HIT|MISS|BYPASS)$'
expect "  with X-Served-By" "$(response X-Served-By)" .
expect "  with X-Request-Id" "$(response X-Request-Id)" .
expect "  with nosniff" "$(response X-Content-Type-Options)" '^nosniff$'
etag=$(response ETag)
gif=$(field gif)
mood=$(field mood)
request -H "If-None-Match: $etag" "$url/mood"
expect "a matching ETag returns 304" "$status" '^304$'
request "$url/"
expect "GET / returns JSON to curl" "$(body)" '^\{"date"'
request -H "$html" "$url/"
expect "GET / returns the page to a browser" "$(body)" "^<.*$mood"
expect "  with a Content-Security-Policy" "$(response Content-Security-Policy)" "default-src 'none'"
request -I "$url/mood"
expect "HEAD has no body" "$status $(response Content-Length)" '^200 [0-9]+$'
request "$url$gif"
expect "the GIF is valid" "$status $(response Content-Type) $(dd bs=6 count=1 <"$WORK/body" 2>/dev/null)" '^200 image/gif GIF89a$'
expect "  and immutable" "$(response Cache-Control)" '^public, max-age=31536000, immutable$'
request "$url/gif/nobody-00000000.gif"
expect "an unknown GIF returns 404" "$status" '^404$'
request -H "X-Request-Id: smoke-1" "$url/mood"
expect "a request id is returned" "$(response X-Request-Id)" '^smoke-1$'
request -X POST "$url/refresh"
expect "POST /refresh returns 200" "$status" '^200$'
expect "  with an incremented count" "$(body)" '"refreshed":[1-9]'
expect "  and another mood" "$([[ $(field mood) == "$mood" ]] || echo other)" other
request -X POST -H "$html" "$url/refresh"
expect "POST /refresh redirects a browser" "$status $(response Location | sed 's|.*://[^/]*||')" '^303 /$'
request "$url/refresh"
expect "GET /refresh returns 405 with Allow" "$status $(response Allow)" '^405 POST$'
request -X POST -d "$(printf '%2000s' x)" "$url/refresh"
expect "a body over 1 KiB returns 413" "$status" '^413$'
request "$url/health"
expect "GET /health returns 200" "$status" '^200$'
request "$url/version"
expect "GET /version names the service" "$(body)" '"name":"mood"'
request "$url/nothing"
expect "an unknown path returns 404 in JSON" "$status $(response Content-Type)" '^404 application/json$'

say "$failures failed"
exit $((failures > 255 ? 255 : failures))
