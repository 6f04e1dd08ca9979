#!/bin/sh
# A registry with two users on loopback: log in, push, search, pull. Everything is removed at the end.
# sh examples/registry/run.sh
set -eu
root=$(mktemp -d)
export DOCKER_CONFIG="$root/client"    # your own credentials stay as they are
address=127.0.0.1:5055
registry=
clean() {
    wherry rmi "$address/alice/tools:1" >/dev/null 2>&1 || true
    [ -z "$registry" ] || kill "$registry"
    rm -rf "$root"
}
trap clean EXIT

echo "a-password-of-alice" | wherry-registry user add --root "$root" --admin --password-stdin alice
echo "a-password-of-bob" | wherry-registry user add --root "$root" --password-stdin bob
wherry-registry user ls --root "$root"
wherry-registry serve --root "$root" --addr "$address" >"$root/log" 2>&1 &
registry=$!
sleep 3

wherry tag busybox "$address/alice/tools:1"
wherry push "$address/alice/tools:1" || echo "refused: nobody is logged in"
echo "a-password-of-alice" | wherry login -u alice --password-stdin "$address"
wherry push "$address/alice/tools:1"
wherry search "$address/tools"
wherry search --list-tags "$address/alice/tools"
wherry rmi "$address/alice/tools:1"
wherry pull "$address/alice/tools:1"
