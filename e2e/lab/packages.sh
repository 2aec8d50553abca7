#!/usr/bin/env bash
# Installs the Debian packages that the lab and the tests need, and nothing when all of it is there.
#
#   packages.sh          installs what is missing
#   packages.sh check    prints what is missing
#
# It looks for the programs, not for the packages: whoever has containerd from Docker keeps it. Nothing is ever removed.
# The versions that all of this was tested with are Debian 12's, in the comments; others work as long as containerd
# is 1.6 or newer and etcd is 3.4 or newer.
set -euo pipefail
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

say() { printf '[packages %(%T)T] %s\n' -1 "$*" >&2; }

has() { command -v "$1" >/dev/null; }
has_file() { compgen -G "$1" >/dev/null; }
has_venv() { has python3 && python3 -c 'import ensurepip, venv' 2>/dev/null; }

missing() {
  has containerd && has ctr || echo containerd                   # 1.6.20
  has runc || echo runc                                          # 1.1.5
  has_file '/usr/lib*/cni/bridge' || has_file /opt/cni/bin/bridge || echo containernetworking-plugins # 1.1.1
  has etcd || echo etcd-server                                   # 3.4.23
  has busybox || echo busybox-static                             # 1.35.0
  has nft || echo nftables                                       # 1.0.6
  has ip || echo iproute2                                        # 6.1.0
  has nsenter || echo util-linux                                 # 2.38.1
  has jq || echo jq                                              # 1.6
  has curl || echo curl                                          # 7.88.1
  has openssl || echo openssl                                    # 3.0
  has_file /etc/ssl/certs/ca-certificates.crt || echo ca-certificates
  has gcc || echo gcc                                            # 12.2
  has_file '/usr/lib*/*/libc.a' || has_file '/usr/lib*/libc.a' || echo libc6-dev # static binaries
  has strip && has readelf || echo binutils                      # 2.40
  has make || echo make                                          # 4.3
  has_venv || echo python3-venv                                  # 3.11, for the tests against Litestream's own binary
}

MISSING=$(missing | tr '\n' ' ')
MISSING=${MISSING% }
[ -n "$MISSING" ] || exit 0
if [ "${1:-}" = check ]; then
  echo "$MISSING"
  exit 0
fi

if ! has apt-get; then
  say "FATAL: missing here: $MISSING (these are Debian's names; install what corresponds to them, then come again)"
  exit 1
elif [ "$(id -u)" != 0 ]; then
  say "FATAL: missing here: $MISSING; as root say: apt-get install --no-install-recommends $MISSING"
  exit 1
fi

# Debian starts the services of etcd and containerd when it installs them. The lab runs its own; a machine that was
# asked to run tests should not end up with servers listening.
POLICY=/usr/sbin/policy-rc.d
if [ ! -e "$POLICY" ]; then
  trap 'rm -f "$POLICY"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$POLICY"
  chmod 0755 "$POLICY"
fi

say "installing $MISSING (usually under a minute)"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
# shellcheck disable=SC2086 # a list of names
apt-get -qq -o Dpkg::Use-Pty=0 install --yes --no-install-recommends --no-remove $MISSING >&2
case " $MISSING " in
  *" etcd-server "* | *" containerd "*)
    say "the services etcd and containerd were not started, but will be at the next boot: systemctl disable etcd containerd" ;;
esac
