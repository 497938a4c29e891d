# The experiments of chaos.sh: what each breaks, how it heals, and the bounds it is held to. Sourced by it.
# shellcheck shell=bash disable=SC2034

# name | seconds under load while it is broken | what happens. In a run without names all of them come, in this order.
experiments() {
  cat <<'LIST'
kill-replica|8|a replica crashes (kill -9) and is started again by the engine
pause-replica|8|a replica hangs: it accepts and says nothing
sick-replica|8|a replica answers 500 to everything (needs MOOD_FAULTS=on)
slow-replica|10|a replica gets 1 ms of CPU time per second
kill-replicas|10|all replicas crash at once
scale|30|3 to 8 to 2 replicas
replace|40|every replica is replaced by one of a new image
midnight|55|the day ends, in a zone where that is in half a minute
kill-redis|12|Redis crashes and is started again by the engine
stop-redis|14|Redis is stopped for 6 s, then started
pause-redis|14|Redis hangs for 10 s
cut-redis|14|Redis loses its network for 6 s
empty-redis|8|Redis loses all its keys
full-redis|20|Redis is filled past its limit by somebody else
refreshes|12|100 refreshes at once, at the replicas themselves
reload-nginx|8|Nginx reads its configuration again
kill-nginx-worker|8|one of Nginx's workers crashes
kill-nginx|8|Nginx itself crashes
slow-clients|20|2,000 idle clients, and 500 that send a byte a second, at Nginx
slow-clients-at-a-replica|20|the same at a replica itself
full-tmpfs|10|Nginx can write nothing any more: its memory disk is full
kill-monitoring|30|Prometheus, the exporters and Grafana crash
kill-everything|25|everything crashes at once
fill-disk-of-engine|15|the disk of the containers' logs is full (in a second engine: Linux, root)
restart-engine|45|the engine stops and starts again (in a second engine: Linux, root)
LIST
}

# --- What breaks and heals. Each begins a second after the load; HEALING is what undoes it if it is interrupted. ---

some_replica() { containers app | head -n 1; }
address_of() { docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$1"; }
backend() { printf '%s_backend' "$(env_value COMPOSE_PROJECT_NAME)"; }
redis_cli() { docker exec "$(containers redis)" redis-cli "$@"; }
has_replicas() { (($(replica_count) == $1)); }
# is_cache WORD: whether the mood comes with this X-Cache: HIT or BYPASS.
is_cache() { [[ $(curl -s -m 2 -o /dev/null -D - "$(base_url)/mood" | header X-Cache) == "$1" ]]; }
is_cached() { is_cache HIT; }
runs() { [[ -n $(containers "$1") ]]; }

# crash ID…: kill -9 of the first process, as a fault would. After a `docker kill`, of whatever signal, the engine
# takes a container for stopped by hand, and does not start it again.
crash() {
  local pids
  pids=$(docker inspect -f '{{.State.Pid}}' "$@")
  # shellcheck disable=SC2086
  crash_processes $pids
}

# crash_processes PID…: of the engine's machine, through a container where that is not this one or not ours.
crash_processes() {
  local first=$1
  if [[ -r /proc/$first/cgroup ]] && grep -q docker "/proc/$first/cgroup" && kill -9 "$@" 2>/dev/null; then return; fi
  docker run --rm --pid host --user 0 --entrypoint sh "$(env_value NGINX_IMAGE)" -c 'kill -9 "$@"' - "$@"
}

# ask_replica ID PATH [OPTION…]: the answer of the replica itself, by way of Nginx's container, which shares its network; options
# go to wget.
ask_replica() { docker exec "$(containers nginx)" wget -q -T 5 -O - "${@:3}" "http://$(address_of "$1"):5000$2"; }

fault_at() { ask_replica "$1" /faults --post-data "$2" >/dev/null; }

# share_of HOST: how many of 60 requests it answers, in per cent.
share_of() {
  local i
  for ((i = 0; i < 60; i++)); do printf 'url = "%s/mood"\noutput = "/dev/null"\n' "$(base_url)"; done |
    curl -s -m 30 -D - -K - | header X-Served-By all | awk -v host="$1" '$1 == host { n++ } END { print int(n * 100 / 60) }'
}

# every_mood: as each replica itself answers it, one a line.
every_mood() {
  local id
  for id in $(containers app); do
    ask_replica "$id" /mood
    echo
  done
}

break_kill_replica() { crash "$(some_replica)" && recover 10 has_replicas "$REPLICAS"; }

break_pause_replica() {
  local id
  id=$(some_replica)
  HEALING="docker unpause $id"
  docker pause "$id" >/dev/null
  sleep 1
  measure "share of the hung replica after 1 s, %" "$(share_of "${id:0:12}")" 15
  sleep 2
  heal
}

break_sick_replica() { fault_at "$(some_replica)" '{"error_rate":1,"for_seconds":5}'; }

break_slow_replica() {
  local id
  id=$(some_replica)
  slow_down "$id"
  sleep 2
  measure "share of the slow replica after 2 s, %" "$(share_of "${id:0:12}")" 15
  sleep 5
  heal
}

# slow_down ID: leaves the container 1 ms of CPU time per second; HEALING restores its own limit. Docker does not change the
# period of a container that was started with a number of CPUs. At least 0.01 CPUs are possible there.
slow_down() {
  local cpus period quota
  read -r cpus period quota <<<"$(docker inspect -f '{{.HostConfig.NanoCpus}} {{.HostConfig.CpuPeriod}} {{.HostConfig.CpuQuota}}' "$1")"
  if ((cpus > 0)); then
    HEALING="docker update --cpus $(printf '%d.%09d' $((cpus / 1000000000)) $((cpus % 1000000000))) $1"
    docker update --cpus 0.01 "$1" >/dev/null
  else
    # Zero means the default here, but an update ignores zero.
    HEALING="docker update --cpu-period $((period > 0 ? period : 100000)) --cpu-quota $((quota > 0 ? quota : -1)) $1"
    docker update --cpu-period 1000000 --cpu-quota 1000 "$1" >/dev/null
  fi
}

break_kill_replicas() {
  # shellcheck disable=SC2046
  crash $(containers app) && recover 10 is_served
}

break_scale() {
  HEALING="scale_to $REPLICAS"
  scale_to 8
  scale_to 2
  heal
}
scale_to() { "$ROOT/scripts/scale.sh" "$1" >/dev/null; }

break_replace() {
  local image old
  image=$(env_value APP_IMAGE)
  old=$(docker image inspect -f '{{.Id}}' "$image")
  HEALING="docker tag $old $image"
  printf 'FROM %s\nLABEL mood.chaos=%s\n' "$image" "$RANDOM" | DOCKER_BUILDKIT=0 docker build -q -t "$image" - >/dev/null 2>&1
  replace_replicas
  measure "replicas of the new image" "$(count_of_image "$(docker image inspect -f '{{.Id}}' "$image")")" "$REPLICAS" "$REPLICAS"
  heal
  replace_replicas
}

# replace_replicas: starts as many of the image that has the name now, then ends the old ones one by one.
replace_replicas() {
  local id old
  old=$(containers app)
  compose up -d --no-build --no-deps --no-recreate --scale app=$((REPLICAS * 2)) app >/dev/null 2>&1
  wait_until 30 "Nginx reaches the new replicas" reached $((REPLICAS * 2))
  for id in $old; do docker stop "$id" >/dev/null && docker rm "$id" >/dev/null; done
}

count_of_image() {
  # shellcheck disable=SC2046
  docker inspect -f '{{.Image}}' $(containers app) | grep -c "$1"
}

break_midnight() {
  local zone wrong=0 asked=0 before after date deadline
  zone=$(zone_with_midnight_in 28)
  HEALING="replace_replicas"
  MOOD_TZ=$zone replace_replicas
  deadline=$((SECONDS + 24))
  while ((SECONDS < deadline)); do
    before=$(TZ=$zone date +%Y-%m-%d)
    date=$(curl -s -m 2 "$(base_url)/mood" | sed 's/.*"date":"\([0-9-]*\)".*/\1/')
    after=$(TZ=$zone date +%Y-%m-%d)
    asked=$((asked + 1))
    [[ $date == "$before" || $date == "$after" ]] || wrong=$((wrong + 1))
    sleep 0.1
  done
  measure "answers of another day, of $asked" "$wrong" 0
  measure "days that are kept in Redis" "$(redis_cli --scan --pattern 'mood:????-??-??' | sort -u | grep -c "$after")" 1 1
  agree
  heal
}

# zone_with_midnight_in SECONDS: east of UTC by as much as UTC is short of a midnight then; POSIX counts westwards.
zone_with_midnight_in() {
  date -u +'%H %M %S' | awk -v ahead="$1" '{
    east = (2 * 86400 - ahead - ($1 * 3600 + $2 * 60 + $3)) % 86400
    sign = "-"
    if (east > 43200) { east = 86400 - east; sign = "+" }
    printf "DAY%s%02d:%02d:%02d", sign, east / 3600, east % 3600 / 60, east % 60
  }'
}

break_kill_redis() { crash "$(containers redis)" && recover 10 is_cached; }

break_stop_redis() {
  local id
  id=$(containers redis)
  HEALING="docker start $id"
  docker stop -t 0 "$id" >/dev/null
  measure "BYPASS at once, ms" "$(time_of 5 is_cache BYPASS)" 500
  sleep 6
  heal
  recover 10 is_cached
}

break_pause_redis() {
  local id
  id=$(containers redis)
  HEALING="docker unpause $id"
  docker pause "$id" >/dev/null
  sleep 10
  heal
  recover 10 is_cached
}

break_cut_redis() {
  local id
  id=$(containers redis)
  HEALING="docker network connect --alias redis $(backend) $id"
  docker network disconnect "$(backend)" "$id"
  sleep 6
  heal
  recover 10 is_cached
}

break_empty_redis() {
  redis_cli eval "for _, key in ipairs(redis.call('scan', 0, 'count', 1000)[2]) do redis.call('del', key) end" 0 >/dev/null
  recover 5 is_cached
  agree
}

# agree: all replicas must answer the same mood.
agree() { measure "different moods among the replicas" "$(every_mood | grep . | sort -u | wc -l | tr -d ' ')" 1 1; }

break_full_redis() {
  HEALING="redis_cli eval \"for i = 1, 80 do redis.call('del', 'junk:' .. i) end\" 0"
  # One at a time: within a script Redis evicts nothing, and would itself be killed for memory.
  # shellcheck disable=SC2016
  docker exec "$(containers redis)" sh -c 'i=0; while [ $i -lt 80 ]; do i=$((i + 1))
    redis-cli eval "redis.call(\"set\", KEYS[1], string.rep(\"x\", 1000000))" 1 junk:$i; done' >/dev/null
  sleep 12
  expect_alert RedisRejecting
  heal
  agree
}

break_refreshes() {
  local before
  before=$(every_mood | refreshed)
  # shellcheck disable=SC2016
  docker exec "$(containers nginx)" sh -c 'i=0; while [ $i -lt 100 ]; do i=$((i + 1))
    wget -q -O /dev/null --post-data "" http://app:5000/refresh & done; wait'
  measure "refreshes counted, of 100" "$(($(every_mood | refreshed) - before))" 100 100
  agree
}
refreshed() { sed -n 's/.*"refreshed":\([0-9]*\).*/\1/p' | sort -n | tail -n 1; }

break_reload_nginx() { docker exec "$(containers nginx)" nginx -s reload 2>/dev/null; }

break_kill_nginx_worker() {
  # Of the engine's machine, in the second column of what top says by itself.
  crash_processes "$(docker top "$(containers nginx)" | awk '/worker process/ { print $2; exit }')"
}

break_kill_nginx() { crash "$(containers nginx)" && recover 10 is_served; }

# To Nginx' own address where that can be reached: clients of other machines come there directly. Those of the published port on
# this one go through a process of the engine, docker-proxy, whose work for 2,500 connections would be measured instead.
break_slow_clients() {
  local address
  for address in $(docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}' "$(containers nginx)"); do
    if can_connect "$address" 8080; then
      slow_clients "$address" 8080
      return
    fi
  done
  note "Nginx' own address cannot be reached from here: the slow clients come by the published port"
  slow_clients 127.0.0.1 "$(http_port)"
}
# can_connect ADDRESS PORT: at once, or not at all.
can_connect() { curl -s -o /dev/null -m 1 "http://$1:$2/livez"; }

break_slow_clients_at_a_replica() {
  local id
  id=$(some_replica)
  can_connect "$(address_of "$id")" 5000 ||
    die "a replica's own address cannot be reached from here (on a Mac it never can): leave out slow-clients-at-a-replica"
  slow_clients "$(address_of "$id")" 5000 &
  sleep 12
  measure "the replica's memory, MB" "$(($(own_metric "$id" process_resident_memory_bytes) / 1048576))" 16
  # Each connection is one, up to MAX_CONNECTIONS; those of closed ones wait a little for another; and the service's own.
  measure "the replica's threads" "$(own_metric "$id" process_threads)" 640
  measure "whether it answers" "$(own_metric "$id" http_connections_open | grep -c .)" 1 1
  wait $!
}
own_metric() { ask_replica "$1" /metrics | awk -v name="$2" '$1 == name { print $2 }'; }

# slow_clients ADDRESS PORT: 2,000 that say nothing, and 500 that send a byte a second, for 12 s. Bash alone holds them.
slow_clients() {
  local client second
  (
    # Whoever is too slow is closed, and then there is nobody to write to.
    trap '' PIPE
    ulimit -n 4096 2>/dev/null || die "2,500 connections need as many open files: ulimit -n 4096"
    for ((client = 100; client < 2600; client++)); do
      eval "exec $client<>/dev/tcp/$1/$2" 2>/dev/null || true
    done
    for ((second = 0; second < 12; second++)); do
      for ((client = 100; client < 600; client++)); do eval "printf G >&$client" 2>/dev/null || true; done
      sleep 1
    done
  )
}

break_full_tmpfs() {
  local id
  id=$(containers nginx)
  HEALING="docker exec $id rm -f /tmp/full"
  # It fails when the disk is full, which is what is wanted.
  docker exec "$id" dd if=/dev/zero of=/tmp/full bs=1M count=200 >/dev/null 2>&1 || true
  sleep 5
  heal
}

break_kill_monitoring() {
  # shellcheck disable=SC2046
  crash $(containers prometheus) $(containers nginx-exporter) $(containers redis-exporter) $(containers grafana)
  recover 15 is_monitored
  sleep 12
  expect_alert MonitoringRestarted
}
is_monitored() { runs prometheus && runs nginx-exporter && runs redis-exporter && curl -sf -m 1 -o /dev/null "$(prometheus_url)/-/ready"; }

break_kill_everything() {
  # shellcheck disable=SC2046
  crash $(docker ps -q --filter "label=com.docker.compose.project=$(env_value COMPOSE_PROJECT_NAME)")
  recover 20 is_whole
}
is_whole() { has_replicas "$REPLICAS" && is_monitored && is_cached && reached "$REPLICAS"; }

# The logs' disk is one of the second engine alone.
break_fill_disk_of_engine() {
  HEALING="rm -f $ENGINE/data/containers/full"
  # It fails when the disk is full, which is what is wanted.
  dd if=/dev/zero of="$ENGINE/data/containers/full" bs=1M 2>/dev/null || true
  measure "bytes that are free" "$(df -Pk "$ENGINE/data/containers" | awk 'NR == 2 { print $4 }')" 0
  sleep 10
  heal
}

break_restart_engine() {
  local ran
  # What was stopped by hand must stay so.
  docker stop -t 0 "$(containers nginx-exporter)" >/dev/null
  ran=$(docker ps -q --no-trunc | sort)
  HEALING='stop_engine; start_engine'
  stop_engine
  start_engine
  HEALING=''
  recover 30 is_served
  time_of 30 is_back "$ran" >/dev/null
  measure "containers that are not what ran before" "$(printf '%s\n%s\n' "$ran" "$(docker ps -q --no-trunc)" | sort | uniq -u | wc -l | tr -d ' ')" 0
}
is_back() { [[ $(docker ps -q --no-trunc | sort) == "$1" ]]; }

# --- The bounds ---

# judge NAME: holds what was measured to the bounds of the experiment.
judge() {
  case $1 in
    kill-nginx | kill-replicas) gap 1500 ;;
    kill-everything) gap 15000 ;;
    restart-engine) gap 30000 ;;
    *) bound "failed requests" "$FAILED" 0 ;;
  esac
  case $1 in
    kill-replica) bound "p99, ms" "$P99" 50 ;;
    pause-replica) bound "p99, ms" "$P99" 300 ;;
    *-redis | slow-clients | full-tmpfs | fill-disk-of-engine) bound "p99, ms" "$P99" 50 ;;
    kill-replicas) bound "slowest answer, failures included, ms" "$SLOWEST" 1000 ;;
  esac
  case $1 in
    kill-replica) bound "whole again, ms" "$RECOVERY" 3000 ;;
    *-redis) [[ -z $RECOVERY ]] || bound "well again, ms" "$RECOVERY" 1500 ;;
    kill-monitoring | kill-everything) bound "well again, ms" "$RECOVERY" 15000 ;;
  esac
}
