# Replacements for the official images of the stack, from Debian packages: one target per image, with the official entry
# point. BASE is a Debian system with all these packages.
ARG BASE

FROM ${BASE} AS nginx
# The health checks use the wget of the official image.
RUN ln -s /usr/bin/busybox /usr/bin/wget
ENTRYPOINT ["/usr/sbin/nginx"]

FROM ${BASE} AS redis
ENTRYPOINT ["/usr/bin/redis-server"]

FROM ${BASE} AS prometheus
# A new volume takes over the owner of this directory.
RUN ln -s /usr/bin/busybox /usr/bin/wget && mkdir /prometheus && chown 65534:65534 /prometheus
ENTRYPOINT ["/bin/prometheus"]

FROM ${BASE} AS alertmanager
RUN ln -s /usr/bin/busybox /usr/bin/wget
ENTRYPOINT ["/usr/bin/prometheus-alertmanager"]

FROM ${BASE} AS nginx_exporter
ENTRYPOINT ["/usr/bin/prometheus-nginx-exporter"]

FROM ${BASE} AS redis_exporter
ENTRYPOINT ["/usr/bin/prometheus-redis-exporter"]
