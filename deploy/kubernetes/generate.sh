#!/usr/bin/env bash
# Makes what the manifests take of other files: components/monitoring/rules.yaml, the PrometheusRule, of alerts.yml, and copies of
# nginx.conf and nginx.js. Run it after each change of those.
#
# Usage: deploy/kubernetes/generate.sh

# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/../../scripts/lib/common.sh"
[[ ${1:-} != --help ]] || show_help

mkdir -p "$ROOT/deploy/kubernetes/base/generated"
cp "$ROOT/nginx.conf" "$ROOT/nginx/nginx.js" "$ROOT/deploy/kubernetes/base/generated"
{
  cat <<'HEAD'
# Generated from alerts.yml by deploy/kubernetes/generate.sh.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: mood
spec:
HEAD
  sed -e 's/^\(.\)/  \1/' "$ROOT/prometheus/alerts.yml"
} >"$ROOT/deploy/kubernetes/components/monitoring/rules.yaml"
