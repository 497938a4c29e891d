#!/bin/sh
# Starts Nginx in a container. Writes the settings that depend on the environment into small files that nginx.conf
# includes: the same nginx.conf then runs on Docker, Podman, Swarm and Kubernetes.
#
# Usage: start.sh [ARGUMENT...]   arguments go to nginx; `start.sh -t` only checks the configuration
#
#   NGINX_APP_HOST          name of the replicas in DNS (default: app; on Kubernetes with the domain of the namespace)
#   NGINX_LIMITS            off: no limits per client, for benchmarks (default: on)
#   NGINX_TRUSTED_PROXIES   addresses or networks of proxies whose X-Forwarded-For is trusted (default: none)
#   NGINX_INNER_ADDRESSES   addresses or names that port 8081 listens on (default: all)
#   NGINX_INNER_CLIENTS     networks that may use port 8081, or all (default: loopback and private networks)
#
# Lists are separated by commas or white space.
set -eu
IFS=' ,
	'

has_ipv4() { [ "$(wc -l </proc/net/route)" -gt 1 ]; }
has_ipv6() { grep -qv ' lo$' /proc/net/if_inet6 2>/dev/null; }

listen_everywhere() {
  echo "listen $1;"
  if has_ipv6; then echo "listen [::]:$1;"; fi
}

# Like the C library, which uses the local machine if the file names no server.
nameserver() {
  awk '$1 == "nameserver" { found = $2; exit }
       END { if (found == "") found = "127.0.0.1"; print found ~ /:/ ? "[" found "]" : found }' /etc/resolv.conf
}

# Nginx resolves full names only: on Kubernetes the first search domain is that of the namespace.
app_host() {
  awk '$1 == "search" && $2 ~ /\.svc\./ { domain = "." $2 } END { print "app" domain }' /etc/resolv.conf
}

if has_ipv6 && ! has_ipv4; then family=ipv4=off; else family=ipv6=off; fi
if [ "${NGINX_LIMITS:-on}" = off ]; then limited='""'; else limited="\$binary_remote_addr"; fi
app=${NGINX_APP_HOST:-$(app_host)}
private="127.0.0.0/8 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 ::1 fc00::/7"
folder=/tmp/environment
mkdir -p $folder

cat >$folder/http.conf <<END
# A second at most until Nginx follows a change of the replicas, without a reload.
resolver $(nameserver) valid=1s $family;

# Requests with an empty key are not limited.
map "" \$limited_client { default $limited; }

upstream app {
    # Large enough for a thousand replicas; with 64k the hundredth does not fit.
    zone app 4m;
    # A failed replica is skipped for one second. The default of ten seconds could leave no replica.
    server $app:5000 resolve max_conns=256 max_fails=1 fail_timeout=1s;
    keepalive 64;
}
# For paths where a 503 reports Redis and not the replica: the replica must not count as failed.
upstream app_unjudged {
    zone app_unjudged 4m;
    server $app:5000 resolve max_conns=256 max_fails=0;
    keepalive 8;
}
END

{
  listen_everywhere 8080
  for proxy in ${NGINX_TRUSTED_PROXIES:-}; do echo "set_real_ip_from $proxy;"; done
} >$folder/public.conf

{
  if [ -z "${NGINX_INNER_ADDRESSES:-}" ]; then listen_everywhere 8081; fi
  for address in ${NGINX_INNER_ADDRESSES:-}; do echo "listen $address:8081;"; done
  for network in ${NGINX_INNER_CLIENTS:-$private}; do echo "allow $network;"; done
  echo "deny all;"
} >$folder/inner.conf

exec nginx -g 'daemon off;' "$@"
