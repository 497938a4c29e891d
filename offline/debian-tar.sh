#!/usr/bin/env bash
# Writes a tar archive of Debian's testing release to stdout. Installs mmdebstrap if it is missing.
#
# Usage: offline/debian-tar.sh VARIANT PACKAGES [ARCHITECTURE]
#   VARIANT        minbase (a system that runs) or extract (only the files of the packages)
#   PACKAGES       names, separated by commas; their dependencies are included
#   ARCHITECTURE   in Debian's terms (default: the one of this machine)
#   --help         this text
#
# Needs Debian or Ubuntu, and root.

# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/../scripts/lib/common.sh"

[[ ${1:-} != -h && ${1:-} != --help ]] || show_help
[[ $# == [23] && $1 =~ ^(minbase|extract)$ ]] || usage_error "a variant and a list of packages are required"
variant=$1 packages=$2
has apt-get || die "packages can be unpacked only on Debian and Ubuntu"
[[ $(id -u) == 0 ]] || die "unpacking Debian packages requires root: use sudo"

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
if ! has mmdebstrap || [[ ! -e $keyring ]]; then
  {
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap debian-archive-keyring
  } >/dev/null
fi

# The mirror that this machine uses for its own packages.
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list 2>/dev/null |
  grep -oE 'https?://[^ ]*/debian/?( |$)' | head -n 1 | tr -d ' ' || true)
# A mirror may lag behind, so its signature may have expired.
if ! log=$(mmdebstrap --quiet --variant="$variant" --architectures="${3:-$(dpkg --print-architecture)}" --include="$packages" \
  --aptopt='Acquire::Check-Valid-Until "false"' forky - \
  ${mirror:+"deb [signed-by=$keyring] $mirror forky main"} 2>&1 >&3); then
  tail -n 5 <<<"$log" >&2
  die "the packages $packages could not be fetched: is a Debian mirror reachable?"
fi 3>&1
