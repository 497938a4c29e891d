# Takes images from a registry: for as long as bytes flow, showing how many, and with one sentence about what went wrong.
# Sourced by the scripts.
# shellcheck shell=bash

# A pull in which no byte comes for this long is given up.
readonly STALL_LIMIT=${MOOD_STALL_SECONDS:-60}
# A registry that broke off in mid-pull is asked this often in all. Layers that are whole are kept.
readonly PULL_ATTEMPTS=4

# Set by a pull that failed: its kind (unreachable, missing, limited, stalled, broken, refused) and a sentence.
PULL_KIND='' PULL_SENTENCE=''
# What came so far, of what is known to come.
PULLED_BYTES=0 EXPECTED_BYTES=0

# pull IMAGE: 0 once it is here.
pull() {
  local image=$1 attempt=1 folder message status
  step "Pulling $image"
  while true; do
    folder=$(temp_folder)
    PULL_KIND='' status=0
    pull_once "$image" "$folder/error" || status=$?
    message=$(cat "$folder/error" 2>/dev/null || true)
    rm -rf "$folder"
    progress
    ((status)) || return 0
    describe_failure "$image" "$message"
    if [[ $PULL_KIND != broken ]] || ((attempt == PULL_ATTEMPTS)); then return 1; fi
    attempt=$((attempt + 1))
    note "$PULL_SENTENCE; trying again ($attempt of $PULL_ATTEMPTS)"
    sleep 5
  done
}

# pull_once IMAGE ERRORFILE: through the engine's own interface, which tells of each byte. Only Docker's client knows the
# password of somebody who is logged in: that pull is left to it, with its own progress and no limit.
pull_once() {
  local socket
  socket=$(engine_socket)
  if [[ -n $socket ]] && has curl && ! is_logged_in "$1"; then
    pull_watched "$1" "$2" "$socket"
  else
    docker pull "$1" 2>"$2"
  fi
}

# engine_socket: the path of the engine's socket, if it has one that we may use.
engine_socket() {
  local host=${DOCKER_HOST:-}
  [[ -n $host ]] || host=$(docker context inspect -f '{{.Endpoints.docker.Host}}' 2>/dev/null || true)
  [[ $host == unix://* && -S ${host#unix://} && -w ${host#unix://} ]] && printf '%s' "${host#unix://}"
  true
}

# registry_of IMAGE: its host, as Docker reads the name.
registry_of() {
  local first=${1%%/*}
  if [[ $1 == */* && ($first == *.* || $first == *:* || $first == localhost) ]]; then printf '%s' "$first"; else printf docker.io; fi
}

is_logged_in() {
  local registry
  registry=$(registry_of "$1")
  [[ $registry != docker.io ]] || registry=https://index.docker.io/v1/
  grep -q "\"$registry\"" "${DOCKER_CONFIG:-$HOME/.docker}/config.json" 2>/dev/null
}

# pull_watched IMAGE ERRORFILE SOCKET: reads the engine's stream of events, one JSON object a line.
pull_watched() {
  local image=$1 errors=$2 socket=$3 pipe=$2.pipe line pid last=$SECONDS shown=$SECONDS before=-1 ended=false failed=''
  local name tag
  case $image in
    *@*) name=${image%%@*} tag=${image#*@} ;;
    *:*) name=${image%:*} tag=${image##*:} ;;
    *) name=$image tag=latest ;;
  esac
  # What follows the colon is a registry's port.
  [[ $tag != */* ]] || { name=$image tag=latest; }
  LAYERS=() LAYER_BYTES=() LAYER_SIZES=() PULLED_BYTES=0 EXPECTED_BYTES=0
  mkfifo "$pipe"
  curl -sN --noproxy '*' -X POST --unix-socket "$socket" -w '\n{"http":%{http_code}}\n' \
    "http://docker/images/create?fromImage=$name&tag=$tag" >"$pipe" &
  pid=$!
  # However this ends, the stream ends too.
  exec 3<"$pipe"
  while ! $ended; do
    if IFS= read -r -t 1 line <&3; then
      case $line in
        '{"http":200}'*) ended=true ;;
        '{"http":'*) ended=true failed=${failed:-the engine answered ${line//[^0-9]/}} ;;
        *'"errorDetail"'* | '{"message":'*) failed=$(message_of "$line") ;;
        *) note_layer "$line" ;;
      esac
    elif ! kill -0 "$pid" 2>/dev/null; then
      ended=true failed=${failed:-the engine went away}
    fi
    if ((PULLED_BYTES != before)) || [[ $line == *'"Extracting"'* || $line == *'"Retrying'* ]]; then
      before=$PULLED_BYTES last=$SECONDS line=''
    elif ((SECONDS - last >= STALL_LIMIT)); then
      kill "$pid" 2>/dev/null || true
      PULL_KIND=stalled ended=true failed='no progress'
    fi
    # A line a second on a terminal, one in ten seconds elsewhere.
    if ((SECONDS - shown >= 1)) && [[ -t 1 ]]; then
      shown=$SECONDS
      progress "$(amount)"
    elif ((SECONDS - shown >= 10)); then
      shown=$SECONDS
      note "$(amount)"
    fi
  done
  exec 3<&-
  wait "$pid" 2>/dev/null || true
  rm -f "$pipe"
  printf '%s' "$failed" >"$errors"
  [[ -z $failed ]]
}

amount() {
  if ((EXPECTED_BYTES)); then printf '%s of %s' "$(human "$PULLED_BYTES")" "$(human "$EXPECTED_BYTES")"; else printf 'asking the registry'; fi
}

# The layers of the pull that goes on: ids, what came of each, and how much each has.
LAYERS=() LAYER_BYTES=() LAYER_SIZES=()

# note_layer EVENT: keeps the sums up to date.
note_layer() {
  local event=$1 id i bytes size
  [[ $event =~ \"id\":\"([0-9a-f]+)\" ]] || return 0
  id=${BASH_REMATCH[1]}
  for ((i = 0; i < ${#LAYERS[@]}; i++)); do
    [[ ${LAYERS[i]} != "$id" ]] || break
  done
  LAYERS[i]=$id
  bytes=${LAYER_BYTES[i]:-0} size=${LAYER_SIZES[i]:-0}
  if [[ $event =~ \"Downloading\".*\"current\":([0-9]+),\"total\":([0-9]+) ]]; then
    LAYER_BYTES[i]=${BASH_REMATCH[1]} LAYER_SIZES[i]=${BASH_REMATCH[2]}
  else
    LAYER_BYTES[i]=$bytes LAYER_SIZES[i]=$size
    [[ $event != *'"Download complete"'* ]] || LAYER_BYTES[i]=$size
  fi
  PULLED_BYTES=$((PULLED_BYTES + LAYER_BYTES[i] - bytes))
  EXPECTED_BYTES=$((EXPECTED_BYTES + LAYER_SIZES[i] - size))
}

# message_of EVENT: the text of an error event.
message_of() {
  local text=$1
  text=${text#*'"message":"'}
  text=${text%%'"}'*}
  printf '%s' "${text//\\/}"
}

# describe_failure IMAGE MESSAGE: sets PULL_KIND and PULL_SENTENCE.
describe_failure() {
  local image=$1 message=$2 registry why
  registry=$(registry_of "$image")
  why="the registry of $image ($registry) cannot be reached"
  if [[ $PULL_KIND == stalled ]]; then
    PULL_SENTENCE="the pull of $image has made no progress for $STALL_LIMIT s ($(amount)): check the line and run this again, what is whole is kept"
    return
  fi
  case $message in
    *toomanyrequests* | *"rate limit"* | *" 429"*)
      PULL_KIND=limited PULL_SENTENCE="the registry of $image ($registry) allows no more pulls for now (429): log in (docker login) or wait an hour" ;;
    *"no space left"*)
      PULL_KIND=refused PULL_SENTENCE="the disk is full where Docker keeps its images: docker system prune" ;;
    *"no matching manifest for "*)
      PULL_KIND=missing PULL_SENTENCE="$image does not exist for this architecture: $(place_of "$image") must name one that does" ;;
    *"manifest unknown"* | *"not found"* | *"does not exist"* | *"name unknown"* | *"invalid reference format"*)
      PULL_KIND=missing PULL_SENTENCE="$image does not exist in its registry ($registry): correct $(place_of "$image")" ;;
    *"dial tcp: lookup "* | *"no such host"* | *"server misbehaving"* | *"name resolution"*)
      PULL_KIND=unreachable PULL_SENTENCE="$why: its name is not known here" ;;
    *x509* | *certificate* | *"tls: "* | *"HTTP response to HTTPS"*)
      PULL_KIND=unreachable PULL_SENTENCE="$why: its TLS certificate is not accepted here" ;;
    *"connection refused"* | *"network is unreachable"* | *"no route to host"*)
      PULL_KIND=unreachable PULL_SENTENCE="$why: the connection is refused" ;;
    *timeout* | *"deadline exceeded"* | *"request canceled"*)
      PULL_KIND=unreachable PULL_SENTENCE="$why: it does not answer in time" ;;
    *EOF* | *"connection reset"* | *"broken pipe"* | *"went away"*)
      PULL_KIND=broken PULL_SENTENCE="the registry of $image ($registry) broke off" ;;
    *)
      PULL_KIND=refused PULL_SENTENCE="$image could not be pulled: ${message:-Docker gave no reason}" ;;
  esac
  # Where bytes have come there is a registry: it stopped.
  if [[ $PULL_KIND == unreachable ]] && ((PULLED_BYTES)); then
    PULL_KIND=broken PULL_SENTENCE="the registry of $image ($registry) broke off after $(amount)"
  fi
}

# place_of IMAGE: where its name is written.
place_of() {
  local line variable
  line=$(grep -n "^[A-Z_]*_IMAGE=$1\$" "$ROOT/.env" | head -n 1 || true)
  if [[ -n $line ]]; then
    variable=${line#*:}
    printf '%s, line %s of .env' "${variable%%=*}" "${line%%:*}"
  else
    variable=$(env | awk -F= -v image="$1" '/_IMAGE=/ { name = $1; sub(/^[^=]*=/, ""); if ($0 == image) print name }')
    printf '%s in the environment' "${variable:-the image}"
  fi
}
