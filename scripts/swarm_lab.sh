# A Swarm of three nodes on one machine, each a Docker engine inside a container. Sourced by swarm.sh. Linux only.
# shellcheck shell=bash

readonly LAB_NODES='mood-swarm-1 mood-swarm-2 mood-swarm-3'
readonly LAB_IMAGE=mood-swarm-node
readonly LAB_NETWORK=mood-swarm

# in_node NODE COMMAND…
in_node() { docker exec -i "$@"; }

# lab_manager: a node that runs. All of them are managers, so that any may be lost.
lab_manager() {
  local node
  for node in $LAB_NODES; do
    if [[ $(docker inspect -f '{{.State.Running}}' "$node" 2>/dev/null) == true ]] && in_node "$node" docker node ls >/dev/null 2>&1 </dev/null; then
      printf '%s' "$node"
      return
    fi
  done
}

lab_address() { docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$1"; }

lab_up() {
  local node token
  [[ -r /proc/sys ]] || die "the lab needs Linux"
  # Grafana is none of the stack's services here.
  export COMPOSE_PROFILES=''
  install_images either
  build_app either "$(own_arch)"
  image_exists $LAB_IMAGE || {
    need_debian_tools
    step "Making the image of a node (about a minute)"
    # By its label scripts/stop.sh --purge finds it.
    busy - debian_image $LAB_IMAGE docker.io,docker-cli,iptables,iproute2,fuse-overlayfs mood.stage=lab
  }
  docker network inspect $LAB_NETWORK >/dev/null 2>&1 || docker network create $LAB_NETWORK >/dev/null
  for node in $LAB_NODES; do lab_start "$node"; done
  for node in $LAB_NODES; do
    [[ $(in_node "$node" docker info -f '{{.Swarm.LocalNodeState}}') != active ]] || continue
    if [[ -z $(lab_manager) ]]; then
      in_node "$node" docker swarm init --advertise-addr "$(lab_address "$node")" >/dev/null
    else
      token=$(in_node "$(lab_manager)" docker swarm join-token -q manager)
      in_node "$node" docker swarm join --token "$token" "$(lab_address "$(lab_manager)"):2377" >/dev/null
    fi
  done
  # shellcheck disable=SC2046
  lab_load $(wanted_images) "$(env_value APP_IMAGE)"
}

# lab_start NODE: its engine, in a container that may do what an engine does, but not change the limits of this machine.
lab_start() {
  if docker container inspect "$1" >/dev/null 2>&1; then
    [[ $(docker inspect -f '{{.State.Running}}' "$1") == true ]] || docker start "$1" >/dev/null
  else
    step "Starting $1"
    docker run -d --name "$1" --hostname "$1" --network $LAB_NETWORK --cap-add ALL --cap-drop SYS_RESOURCE \
      --device-cgroup-rule 'a *:* rwm' --device /dev/fuse --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
      --cgroupns host -v /sys/fs/cgroup:/sys/fs/cgroup:rw -v /var/lib/docker --tmpfs /run $LAB_IMAGE \
      sh -c "mount -o remount,rw /proc/sys; exec dockerd --cgroup-parent /$1 --storage-driver fuse-overlayfs" >/dev/null
  fi
  wait_until 60 "the engine of $1 answers" in_node "$1" docker info
}

# lab_load IMAGE…: into each node, those that it has not got; in one piece, since they share their layers.
lab_load() {
  local node image missing
  for image in "$@"; do image_exists "$image" || die "there is no image $image here"; done
  for node in $LAB_NODES; do
    missing=''
    for image in "$@"; do
      [[ $(in_node "$node" docker image inspect -f '{{.Id}}' "$image" 2>/dev/null) == "$(docker image inspect -f '{{.Id}}' "$image")" ]] ||
        missing="$missing $image"
    done
    [[ -n $missing ]] || continue
    note "images into $node"
    # shellcheck disable=SC2086
    docker save $missing | in_node "$node" docker load -q >/dev/null
  done
}

lab_addresses() {
  local node
  say ''
  for node in $LAB_NODES; do say "page        http://$(lab_address "$node"):$(http_port)/  ($node)"; done
}

lab_down() {
  # shellcheck disable=SC2086
  docker rm -f -v $LAB_NODES >/dev/null 2>&1 || true
  docker network rm $LAB_NETWORK >/dev/null 2>&1 || true
}
