"""`bench/streams.py`: output of containers, attached and read back, against dockerd in the same run.

Each figure is the wall time of a whole docker command, the same binary for both engines, in interleaved pairs. The
output is thrown away by whoever asked for it, so that what is measured is the engine.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import peer as peers
from run import Ours, docker, in_turn, wherry

PAIRS = int(os.environ.get("WHERRY_BENCH_PAIRS", "7"))
MEGABYTES = 20
LINES = 300_000
GOAL = 0.5

_PLAIN = f"yes 0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopq | head -c {MEGABYTES << 20}"
_WAITING = f"read word; {_PLAIN}"


def timed(host: str, *argv: str, stdin: bytes = b"") -> float:
    """Milliseconds of a docker command whose output goes to nobody."""
    began = time.monotonic()
    subprocess.run(
        ["docker", *argv],
        env={**os.environ, "DOCKER_HOST": host},
        input=stdin,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=True,
    )
    return (time.monotonic() - began) * 1000


def attached_run(host: str) -> float:
    """`docker run` of a container that writes 20 MB."""
    return timed(host, "run", "--rm", "--network", "none", "busybox", "sh", "-c", _PLAIN)


def attach(host: str) -> float:
    """`docker attach` to one that waits for a word of its client, and then writes 20 MB."""
    docker(host, "run", "-di", "--name", "streams", "--network", "none", "busybox", "sh", "-c", _WAITING)
    took = timed(host, "attach", "streams", stdin=b"go\n")
    docker(host, "rm", "-f", "streams")
    return took


def logs(host: str) -> float:
    """`docker logs` of 300,000 lines."""
    return timed(host, "logs", "talker")


def compare(name: str, ours: str, theirs: str, version: str, measure: Callable[[str], float]) -> bool:
    """Measure in pairs and print; whether the goal is met."""
    for host in (ours, theirs):
        measure(host)  # the first of each warms up
    figures = in_turn((lambda: measure(ours), lambda: measure(theirs)), PAIRS)
    mine, other = (statistics.median(values) for values in figures)
    ratio: float = statistics.median(a / b for a, b in zip(*figures, strict=True))
    print(
        f"{name:28} wherryd {mine:6.0f} ms; dockerd {version} {other:6.0f} ms; ratio {ratio:.2f} (goal: {GOAL})",
        flush=True,
    )
    return ratio <= GOAL


def prepare(host: str) -> None:
    """A container that has said 300,000 lines."""
    options = ("--log-driver", "json-file", "--log-opt", "max-size=100m")
    docker(host, "run", "--name", "talker", "--network", "none", *options, "busybox", "seq", "1", str(LINES))


def _against(ours: Ours, theirs: peers.Peer, archive: Path) -> bool:
    try:
        theirs.start()
        docker(theirs.host, "load", "-i", str(archive))
        prepare(theirs.host)
        version = theirs.version()
        met = [
            compare(f"{MEGABYTES} MB, run", ours.host, theirs.host, version, attached_run),
            compare(f"{MEGABYTES} MB, attach", ours.host, theirs.host, version, attach),
            compare(f"{LINES} lines, logs", ours.host, theirs.host, version, logs),
        ]
        docker(theirs.host, "rm", "talker")
        return all(met)
    finally:
        theirs.stop()


def main() -> int:
    """Run the comparison; 1 where a goal is missed."""
    ours = Ours()
    met = True
    try:
        ours.start()
        wherry(ours, "image", "bootstrap", "busybox")
        prepare(ours.host)
        archive = ours.directory / "busybox.tar"
        docker(ours.host, "save", "-o", str(archive), "busybox")
        print()
        newest = peers.newest(ours.directory / "peer")
        if newest is not None:
            met = _against(ours, newest, archive)
    finally:
        ours.stop()
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
