#!/usr/bin/env bash
# Runs the stack on Docker Swarm: replicas on all nodes, Nginx on each.
#
# Usage: scripts/swarm.sh [--lab] [COMMAND]
#   up             deploys the stack, or what changed of it (the default)
#   status         nodes, services, and where the replicas run
#   scale N        so many replicas, 1 to 1000
#   update IMAGE   another image of the app, one replica after the other; taken back if it does not get well
#   drain NODE     moves what runs on a node to others, for work on it; scripts/swarm.sh join NODE takes it in again
#   join NODE      lets a drained node have replicas again
#   down           removes the stack and its secrets; the Swarm stays
#   --lab          on a Swarm of three nodes on this machine, each a Docker engine in a container: `up` makes it, `down` removes it
#   --help         this text
#
# Without --lab it talks to the Swarm of the current Docker context, whose nodes must be able to pull the images:
# APP_IMAGE=registry/name:tag scripts/swarm.sh. The password of Redis is made at the first `up` and kept as secrets.

# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"
# shellcheck source=scripts/lib/images.sh
source "$ROOT/scripts/lib/images.sh"
# shellcheck source=scripts/lib/stack.sh
source "$ROOT/scripts/lib/stack.sh"
# shellcheck source=scripts/swarm_lab.sh
source "$ROOT/scripts/swarm_lab.sh"

lab=false command='' argument=''
while (($#)); do
  case $1 in
    --lab) lab=true ;;
    -h | --help) show_help ;;
    up | status | down)
      [[ -z $command ]] || usage_error "one command at a time"
      command=$1
      ;;
    scale | update | drain | join)
      [[ -z $command ]] || usage_error "one command at a time"
      command=$1 argument=${2:-}
      [[ -n $argument ]] || usage_error "$1 of what?"
      shift
      ;;
    *) usage_error "unknown argument '$1'" ;;
  esac
  shift
done
[[ $command != scale ]] || is_count "$argument" || usage_error "scale takes a number from 1 to $MAX_REPLICAS"

# swarm ARGUMENTS…: docker, on a manager of the Swarm.
swarm() { if $lab; then in_node "$(lab_manager)" docker "$@"; else docker "$@"; fi; }

need_swarm() {
  need_docker
  if $lab; then
    [[ -n $(lab_manager) ]] || die "the lab does not run: scripts/swarm.sh --lab up"
  elif [[ $(docker info -f '{{.Swarm.ControlAvailable}}') != true ]]; then
    die "this engine manages no Swarm: docker swarm init, or scripts/swarm.sh --lab for one to try"
  fi
}

is_deployed() { swarm service inspect mood_app >/dev/null 2>&1; }
need_stack_there() { is_deployed || die "the stack is not deployed: scripts/swarm.sh$(! $lab || printf ' --lab') up"; }

# secret NAME: of stdin.
secret() { swarm secret create "$1" - >/dev/null; }

# make_secrets: the password once, in the form that each of its readers wants.
make_secrets() {
  local password
  ! swarm secret inspect mood-redis-password >/dev/null 2>&1 || return 0
  password=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
  printf '%s' "$password" | secret mood-redis-password
  printf 'redis://:%s@redis:6379' "$password" | secret mood-redis-url
  printf '{"redis://redis:6379":"%s"}' "$password" | secret mood-redis-passwords.json
}

# The stack and the files that it gives to services.
FILES='deploy/swarm/stack.yaml nginx.conf nginx/nginx.js nginx/start.sh redis/redis.conf prometheus.yml prometheus/alerts.yml'

# replicas: as many as there are, or three.
replicas() { if is_deployed; then swarm service inspect -f '{{.Spec.Mode.Replicated.Replicas}}' mood_app; else echo 3; fi; }

deploy() {
  local name variables
  # shellcheck disable=SC2086
  variables=("MOOD_REPLICAS=$(replicas)" "MOOD_CONFIG=$(cd "$ROOT" && cat $FILES | cksum | cut -d' ' -f1)")
  # shellcheck disable=SC2013
  for name in $(sed -n 's/^\([A-Z_]*\)=.*/\1/p' "$ROOT/.env"); do variables+=("$name=$(env_value "$name")"); done
  step "Deploying"
  if $lab; then
    # shellcheck disable=SC2086
    tar -C "$ROOT" -cf - $FILES | in_node "$(lab_manager)" sh -c 'rm -rf /deploy && mkdir /deploy && tar -xf - -C /deploy'
    in_node "$(lab_manager)" env "${variables[@]}" docker stack deploy --detach=true --resolve-image never --prune -c /deploy/deploy/swarm/stack.yaml mood >/dev/null
  else
    env "${variables[@]}" docker stack deploy --with-registry-auth --prune -c "$ROOT/deploy/swarm/stack.yaml" mood >/dev/null
  fi
  settled
}

# settled: waits until every service has as many tasks as it should have.
settled() {
  # What a change moves is counted a moment later.
  sleep 3
  busy - wait_until 300 "all services run (scripts/swarm.sh status)" are_settled
}
are_settled() {
  swarm service ls --format '{{.Name}} {{.Replicas}}' |
    awk '/^mood_/ { found++; split($2, count, "/"); if (count[1] != count[2] || count[2] == 0) wrong++ } END { exit !(found && !wrong) }'
}

status() {
  swarm node ls
  say ''
  swarm service ls
  say ''
  # Of the replicas that run or are about to, each with its node.
  swarm service ps -f desired-state=running --format '{{.Node}} {{.CurrentState}}' mood_app | awk '
    { count[$1]++ } $2 == "Running" { running[$1]++ }
    END { for (node in count) printf "%-24s %d of %d replicas run\n", node, running[node], count[node] }' | sort
}

# update IMAGE: follows the update to its end.
update() {
  # The lab has its images loaded and asks no registry.
  local state images=--with-registry-auth
  if [[ $(swarm service inspect -f '{{.Spec.TaskTemplate.ContainerSpec.Image}}' mood_app) == "$1" ]]; then
    say "it runs $1 already"
    return
  fi
  if $lab; then
    images=--no-resolve-image
    lab_load "$1"
  fi
  step "Updating to $1"
  swarm service update -d $images --image "$1" mood_app >/dev/null
  busy - wait_until 600 "the update ends" update_ended
  state=$(update_state)
  [[ $state == completed ]] || die "the update was taken back, since its replicas did not get well ($state): docker service ps mood_app tells why"
  say "updated"
}
update_state() { swarm service inspect -f '{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}' mood_app; }
update_ended() { case $(update_state) in completed | rollback_completed | paused | rollback_paused) ;; *) return 1 ;; esac; }

case ${command:-up} in
  up)
    need_docker
    if $lab; then lab_up; else need_swarm; fi
    make_secrets
    deploy
    status
    if $lab; then lab_addresses; fi
    ;;
  down)
    need_swarm
    step "Removing the stack"
    if $lab; then
      lab_down
    else
      docker stack rm mood >/dev/null
      wait_until 60 "its services are gone" eval '! is_deployed'
      docker secret rm mood-redis-password mood-redis-url mood-redis-passwords.json >/dev/null
    fi
    say "removed"
    ;;
  *)
    need_swarm
    need_stack_there
    case $command in
      status) status ;;
      scale)
        swarm service scale -d "mood_app=$argument" >/dev/null
        settled
        status
        ;;
      update) update "$argument" ;;
      drain | join)
        availability=active
        [[ $command == join ]] || availability=drain
        swarm node update --availability "$availability" "$argument" >/dev/null || die "there is no node '$argument': scripts/swarm.sh status"
        settled
        status
        ;;
    esac
    ;;
esac
