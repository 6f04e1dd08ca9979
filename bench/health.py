"""`bench/health.py`: what 24 health-checked containers cost, against the newest dockerd in the same run.

Processor time of everything that an engine runs for its containers: the engine itself and all its descendants, dead
ones included (wherryd, spawner, monitors, probes; dockerd, containerd, shims, runc, probes). The machine's other work
does not count, and the engines do not see each other.
"""

import os
import select
import sys
import time
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


def measure(host: str, roots: list[int]) -> float:
    """Start the containers, let them settle, and return the processor seconds of the time after that."""
    flags = ("--network", "none", "--health-cmd", "true", "--health-interval", INTERVAL)
    for number in range(COUNT):
        docker(host, "run", "-d", "--name", f"healthy{number}", *flags, "busybox", "sleep", "100000")
    select.select([], [], [], 5.0)
    processes = [pid for root in roots for pid in descendants(root)]
    before = spent(processes)
    select.select([], [], [], SECONDS)
    took = spent(processes) - before
    listed = docker(host, "ps", "--filter", "health=healthy", "-q").split()
    if len(listed) != COUNT:
        raise RuntimeError(f"{len(listed)} of {COUNT} are healthy")
    return took


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


def main() -> int:
    """Run the comparison."""
    ours = Ours()
    theirs: peers.Peer | None = None
    try:
        ours.start()
        wherry(ours, "image", "bootstrap", "busybox")
        mine = measure(ours.host, [ours.pid])
        spawner = children(ours.pid)[0]
        monitors = [pss(pid) for pid in children(spawner) if name_of(pid) == "wherry-monitor"]
        ids = docker(ours.host, "ps", "-q").split()
        docker(ours.host, "rm", "-f", *ids)
        print(
            f"\n{COUNT} containers, a check every {INTERVAL}, {SECONDS:.0f} s: wherryd {mine:.2f} s of processor time; "
            f"PSS of a monitor that checks {sum(monitors) / len(monitors):.2f} MB (max {max(monitors):.2f})",
            flush=True,
        )
        theirs = peers.newest(ours.directory / "peer")
        if theirs is not None:
            archive = ours.directory / "busybox.tar"
            docker(ours.host, "save", "-o", str(archive), "busybox")
            theirs.start()
            docker(theirs.host, "load", "-i", str(archive))
            measured = _measure_peer(theirs)
            print(f"dockerd {theirs.version()} {measured:.2f} s; ratio {mine / measured:.2f} (goal: below 1)")
            docker(theirs.host, "rm", "-f", *docker(theirs.host, "ps", "-q").split())
    finally:
        if theirs is not None:
            theirs.stop()
        ours.stop()
    return 0


def _measure_peer(theirs: "peers.Peer") -> float:
    # its shims are known only once the containers run: they are looked for when everything has settled
    flags = ("--network", "none", "--health-cmd", "true", "--health-interval", INTERVAL)
    for number in range(COUNT):
        docker(theirs.host, "run", "-d", "--name", f"healthy{number}", *flags, "busybox", "sleep", "100000")
    select.select([], [], [], 5.0)
    roots = shims(theirs.directory)
    processes = [pid for root in roots for pid in descendants(root)]
    before, began = spent(processes), time.monotonic()
    select.select([], [], [], SECONDS)
    took = spent(processes) - before
    return took * SECONDS / (time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main())
