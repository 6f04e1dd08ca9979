"""`bench/health.py`: what 24 health-checked containers cost, against the newest dockerd in the same run.

Processor time of everything that an engine runs for its containers: the engine itself and all its descendants, dead
ones included (wherryd, spawner, monitors, probes; dockerd, containerd, shims, runc, probes). The machine's other work
does not count, and the engines do not see each other. Which is measured first is drawn.
"""

import os
import random
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path

import peer as peers
from run import Ours, children, docker, name_of, pss, wherry

COUNT = int(os.environ.get("WHERRY_BENCH_HEALTHY", "24"))
SECONDS = float(os.environ.get("WHERRY_BENCH_SECONDS", "30"))
INTERVAL = "2s"


def descendants(pid: int) -> list[int]:
    """A process and everything below it."""
    found = [pid]
    for child in children(pid):
        found += descendants(child)
    return found


def spent(pids: list[int]) -> float:
    """Processor seconds of these processes, and of the dead ones that they have reaped."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(int(value) for value in fields[11:15])
    return total / os.sysconf("SC_CLK_TCK")


def measure(host: str, roots: Callable[[], list[int]]) -> float:
    """Start the containers, wait until they are healthy, and return the processor seconds of the time after that.

    Args:
        host: the engine.
        roots: gives the roots of its process trees; asked when the containers run, as dockerd's shims are known then.

    Raises:
        RuntimeError: not all are healthy, before or afterwards: an engine that checks nothing is a cheap one.
    """
    flags = ("--network", "none", "--health-cmd", "true", "--health-interval", INTERVAL)
    for number in range(COUNT):
        docker(host, "run", "-d", "--name", f"healthy{number}", *flags, "busybox", "sleep", "100000")
    deadline = time.monotonic() + 60
    while len(healthy(host)) < COUNT and time.monotonic() < deadline:
        select.select([], [], [], 0.5)
    select.select([], [], [], 5.0)
    processes = [pid for root in roots() for pid in descendants(root)]
    before, began = spent(processes), time.monotonic()
    select.select([], [], [], SECONDS)
    took = spent(processes) - before
    took *= SECONDS / (time.monotonic() - began)
    if len(healthy(host)) != COUNT:
        raise RuntimeError(f"{len(healthy(host))} of {COUNT} are healthy at {host}")
    return took


def healthy(host: str) -> list[str]:
    """The containers that are."""
    return docker(host, "ps", "--filter", "health=healthy", "-q").split()


def shims(directory: Path) -> list[int]:
    """The roots of a dockerd's process trees: itself, and the shims that have left it."""
    found = [int((directory / "pid").read_text())]
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"containerd-shim" in words.split(b"\0")[0] and str(directory).encode() in words:
                found.append(int(entry.name))
    return found


def one(engine: "Ours | peers.Peer") -> float:
    """Measure an engine, tell the figure, and remove its containers."""
    if isinstance(engine, Ours):
        took = measure(engine.host, lambda: [engine.pid])
        spawner = children(engine.pid)[0]
        monitors = [pss(pid) for pid in children(spawner) if name_of(pid) == "wherry-monitor"]
        mean = sum(monitors) / len(monitors)
        print(f"wherryd {took:.2f} s; PSS of a monitor that checks {mean:.2f} MB (max {max(monitors):.2f})", flush=True)
    else:
        took = measure(engine.host, lambda: shims(engine.directory))
        print(f"dockerd {engine.version()} {took:.2f} s", flush=True)
    docker(engine.host, "rm", "-f", *docker(engine.host, "ps", "-q").split())
    return took


def main() -> int:
    """Run the comparison."""
    ours = Ours()
    theirs: peers.Peer | None = None
    try:
        ours.start()
        wherry(ours, "image", "bootstrap", "busybox")
        theirs = peers.newest(ours.directory / "peer")
        if theirs is not None:
            archive = ours.directory / "busybox.tar"
            docker(ours.host, "save", "-o", str(archive), "busybox")
            theirs.start()
            docker(theirs.host, "load", "-i", str(archive))
        print(f"\n{COUNT} containers, a check every {INTERVAL}, {SECONDS:.0f} s of processor time", flush=True)
        engines: list[Ours | peers.Peer] = [ours, *([theirs] if theirs is not None else [])]
        random.shuffle(engines)
        took = {}
        for engine in engines:
            took[engine.host] = one(engine)
        if theirs is not None:
            ratio = took[ours.host] / took[theirs.host]
            print(f"ratio {ratio:.2f} (goal: below 1)")
    finally:
        if theirs is not None:
            theirs.stop()
        ours.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
