#!/bin/sh
# Makes a checkout ready: Debian packages that are missing, the virtual environment, the locked dependencies.
# Idempotent, and quiet when there is nothing to do.
#
#   install.sh PYTHON VENV [peers]     with `peers`: also what only the tests and the benchmark compare with
set -eu
python=$1 venv=$2 extra=${3:-}
cd "$(dirname "$0")/.."

need="python3-venv busybox-static mmdebstrap debian-archive-keyring nftables libnftables1 libseccomp2 iproute2 tini procps haproxy"
if [ "$extra" = peers ]; then
    need="$need docker.io docker-registry skopeo apache2-utils openssl util-linux mount tmux curl wrk zstd xz-utils chromium"
    # of systemd only the journal daemon is executed, by a test
    need="$need docker-compose git systemd openssh-client"
    # the virtual machine in which the tests see a host with pure cgroup v2
    [ "$(dpkg --print-architecture)" = amd64 ] && need="$need qemu-system-x86 e2fsprogs"
    # of which Debian 13 has none
    apt-cache show criu >/dev/null 2>&1 && need="$need criu"
    # since Debian 13 the docker command has a package of its own
    apt-cache show docker-cli >/dev/null 2>&1 && need="$need docker-cli"
fi

missing=
for package in $need; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
if [ -n "$missing" ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "these Debian packages are missing, and only root can install them:$missing" >&2
        exit 1
    fi
    echo "installing Debian packages:$missing"
    log=$(mktemp)
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086 # the list is meant to split
    if ! { apt-get update -q && apt-get install -q -y --no-install-recommends $missing; } >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        exit 1
    fi
    rm -f "$log"
fi

stamp="$venv/.installed"
want=$({ cat pyproject.toml requirements.lock; echo "$python"; } | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$want" ]; then
    echo "installing Python packages into $venv"
    [ -x "$venv/bin/python" ] && [ -e "$stamp" ] || { rm -rf "$venv"; "$python" -m venv "$venv"; }
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
    echo "$want" >"$stamp"
fi

# ufw and firewalld would be started where they are installed: they are only fetched
if [ "$extra" = peers ] && [ "$(id -u)" = 0 ]; then
    "$venv/bin/python" -m tests.network.host_firewalls
fi

if [ "$extra" = peers ] && [ "$(id -u)" = 0 ] && [ "$(dpkg --print-architecture)" = amd64 ]; then
    "$venv/bin/python" tests/vm/kernel.py
fi
