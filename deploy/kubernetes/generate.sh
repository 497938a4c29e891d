#!/usr/bin/env bash
# Generates the parts of the manifests that other files define: the copy of nginx.conf, the PrometheusRule of
# prometheus/alerts.yml, and the image tags of .env. Run it after each change of those.
#
# Usage: deploy/kubernetes/generate.sh

# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/../../scripts/lib/common.sh"
[[ ${1:-} != --help ]] || show_help
cd "$ROOT/deploy/kubernetes"

cp "$ROOT/nginx.conf" base/nginx.conf

{
  cat <<'HEAD'
# Generated from prometheus/alerts.yml by deploy/kubernetes/generate.sh.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: mood
spec:
HEAD
  sed -e '/^ *#/d' -e '/^$/d' -e 's/^/  /' "$ROOT/prometheus/alerts.yml"
} >components/monitoring/rules.yaml

mkdir -p components/images
{
  cat <<'HEAD'
# Generated from .env by deploy/kubernetes/generate.sh.
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
images:
HEAD
  while read -r variable name; do
    image=$(sed -n "s/^${variable}_IMAGE=//p" "$ROOT/.env")
    printf '  - {name: %s, newName: %s, newTag: "%s"}\n' "$name" "${image%:*}" "${image##*:}"
  done <<'NAMES'
APP mood-of-the-day
NGINX nginx
NGINX_EXPORTER nginx/nginx-prometheus-exporter
REDIS redis
REDIS_EXPORTER oliver006/redis_exporter
NAMES
} >components/images/kustomization.yaml
