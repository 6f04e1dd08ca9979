#!/bin/sh
# Three builds that share a cache mount: sh examples/cache-mounts/run.sh
set -eu
cd "$(dirname "$0")"
for round in 1 2 3; do
    wherry build -q --build-arg ROUND=$round -t example-rounds .
done
wherry run --rm example-rounds
wherry rmi example-rounds
