#!/bin/sh
# Makes a checkout ready: Debian packages that are missing, the virtual environment, the locked dependencies.
# It needs nothing but a bare Debian 12 or 13. Idempotent, and quiet when there is nothing to do.
#
#   install.sh VENV             what Wherry needs
#   install.sh VENV peers       also what only the tests and the benchmark need
#   install.sh VENV worlds      also what `make worlds` needs
#   install.sh VENV unit        only what the tests need that run without root
#
# PYTHON names the interpreter of the environment; the default is Debian's.
set -eu
venv=$1 extra=${2:-}
cd "$(dirname "$0")/.."

say() {
    echo "$1"
    shown=$(date +%s)
}

# Run a command; show its output if it fails, and its last line whenever nothing was shown for ten seconds.
steadily() {
    log=$(mktemp)
    began=$(date +%s)
    "$@" >"$log" 2>&1 &
    child=$!
    trap 'kill $child 2>/dev/null; rm -f "$log"; exit 130' INT TERM
    while kill -0 $child 2>/dev/null; do
        sleep 0.2
        now=$(date +%s)
        if [ $((now - shown)) -ge 10 ]; then
            shown=$now
            last=$(tail -n 1 "$log" | tr -d '\r')
            echo "  $((now - began)) s: ${last:-$*}" | cut -c -79
        fi
    done
    code=0
    wait $child || code=$?
    trap - INT TERM
    [ $code = 0 ] || cat "$log" >&2
    rm -f "$log"
    [ $code = 0 ] || exit $code
}

need="python3-venv busybox-static mmdebstrap debian-archive-keyring nftables libnftables1 libseccomp2 iproute2 tini procps haproxy"
[ "$extra" != unit ] || need="python3-venv git libseccomp2"
[ "$extra" != worlds ] || need="$need slirp4netns"
if [ "$extra" = peers ]; then
    need="$need docker-registry skopeo apache2-utils openssl util-linux mount tmux curl wrk zstd xz-utils iptables"
    # the browser, and what the driver of the browser needs beside it
    need="$need chromium libatomic1"
    # of systemd only the journal daemon is executed, by a test
    need="$need git systemd openssh-client"
    # the virtual machine in which the tests see a host with pure cgroup v2
    [ "$(dpkg --print-architecture)" = amd64 ] && need="$need qemu-system-x86 e2fsprogs"
    # Debian 13 has no CRIU
    grep -qx 'VERSION_ID="12"' /etc/os-release && need="$need criu"
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
    say "installing Debian packages:$missing"
    export DEBIAN_FRONTEND=noninteractive
    steadily apt-get update -q
    # shellcheck disable=SC2086 # the list is meant to split
    steadily apt-get install -q -y --no-install-recommends $missing
fi

# looked for only now: a bare Debian has no Python before python3-venv is installed
python=${PYTHON:-}
[ -n "$python" ] || python=/usr/bin/python3
[ -x "$python" ] || python=$(command -v "$python" || command -v python3)

stamp="$venv/.installed"
want=$({ cat pyproject.toml requirements.lock; echo "$python"; } | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$want" ]; then
    say "installing Python packages into $venv"
    [ -x "$venv/bin/python" ] && [ -e "$stamp" ] || { rm -rf "$venv"; steadily "$python" -m venv "$venv"; }
    steadily "$venv/bin/python" -m pip install --disable-pip-version-check --progress-bar off \
        --require-hashes -r requirements.lock
    steadily "$venv/bin/python" -m pip install --disable-pip-version-check --quiet \
        --no-deps --no-build-isolation --editable .
    echo "$want" >"$stamp"
fi

if [ "$extra" = peers ] && [ "$(id -u)" = 0 ]; then
    # the Docker programs of Debian 13
    "$venv/bin/python" -m tests.peers
    # ufw and firewalld would be started where they are installed: they are only fetched
    "$venv/bin/python" -m tests.network.host_firewalls
    [ "$(dpkg --print-architecture)" != amd64 ] || "$venv/bin/python" tests/vm/kernel.py
fi
