"""`make bench`: what starting, executing and holding containers costs, against the newest dockerd in the same run.

Each figure is the wall time of a whole docker command, the same binary for both engines, in interleaved pairs. Which
engine comes first is drawn for each pair: what one still does behind its answer costs the other.
"""

import os
import random
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import peer as peers

HERE = Path(__file__).resolve().parent.parent
STATE = HERE / ".wherry-run"
PAIRS = int(os.environ.get("WHERRY_BENCH_PAIRS", "20"))
_DRAW = random.Random(20)  # seeded: two runs draw alike


class Ours:
    """A wherryd with roots of its own on the disk of the checkout.

    Args:
        enter: a command's beginning that puts it into a namespace, or nothing.
    """

    def __init__(self, enter: Sequence[str] = ()) -> None:
        STATE.mkdir(exist_ok=True)
        self.directory = Path(tempfile.mkdtemp(prefix="bench-", dir=STATE))
        self.run_root = Path(tempfile.mkdtemp(prefix="wherry-bench-"))
        self.host = f"unix://{self.run_root / 'wherry.sock'}"
        self._enter = enter
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Execute it and wait for its socket."""
        with open(self.directory / "wherryd.log", "wb") as log:
            self._process = subprocess.Popen(
                [
                    *self._enter,
                    str(HERE / ".venv/bin/wherryd"),
                    *("--data-root", str(self.directory / "data"), "--exec-root", str(self.run_root)),
                    "--live-restore=false",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
            )
        while not self._listens():
            if self._process.poll() is not None:
                raise RuntimeError(f"wherryd did not start, see {self.directory}/wherryd.log")
            select.select([], [], [], 0.02)

    def _listens(self) -> bool:
        """Whether it accepts connections; the socket's file is there earlier."""
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.run_root / "wherry.sock")) == 0

    @property
    def pid(self) -> int:
        """wherryd's pid (the launcher executes it in place)."""
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        """End it and remove its roots."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
        subprocess.run(["rm", "-rf", str(self.directory), str(self.run_root)], check=True)


def children(pid: int) -> list[int]:
    """Direct children of a process."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(word) for word in found]


def cpu_seconds(pid: int) -> float:
    """CPU time of wherryd, the spawner, and everything that they reaped (monitors, workers and container processes)."""
    total = 0
    for one in (pid, *children(pid)):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        total += sum(int(value) for value in fields[11:15])
    return total / os.sysconf("SC_CLK_TCK")


def pss(pid: int) -> float:
    """Proportional memory of a process, MB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def name_of(pid: int) -> str:
    """The name that `ps` shows."""
    return Path(f"/proc/{pid}/comm").read_text().strip()


def docker(host: str, *argv: str) -> str:
    """Run the docker command to its end; returns its output.

    Raises:
        RuntimeError: it failed.
    """
    done = subprocess.run(
        ["docker", *argv], env={**os.environ, "DOCKER_HOST": host}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"docker {' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout.strip()


def in_turn(measures: Sequence[Callable[[], float]], rounds: int) -> list[list[float]]:
    """Measure each once a round, in an order that is drawn for each round. Returns the figures of each.

    Nothing is warmed: a caller that wants that warms all of them before.
    """
    found: list[list[float]] = [[] for _ in measures]
    order = list(range(len(measures)))
    for _ in range(rounds):
        _DRAW.shuffle(order)
        for index in order:
            found[index].append(measures[index]())
    return found


def timed(host: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> float:
    """Wall milliseconds of one docker command; `env` is added to the environment."""
    env = {**os.environ, "DOCKER_HOST": host, **(env or {})}
    null = os.open(os.devnull, os.O_RDWR)
    began = time.perf_counter()
    pid = os.posix_spawnp(
        "docker", ["docker", *argv], env, file_actions=[(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)]
    )
    status = os.waitpid(pid, 0)[1]
    took = time.perf_counter() - began
    os.close(null)
    if status:
        raise RuntimeError(f"docker {' '.join(argv)} ended with {os.waitstatus_to_exitcode(status)}")
    return took * 1000


def spread(values: list[float]) -> str:
    """Median, minimum and maximum."""
    return f"{statistics.median(values):8.1f}  ({min(values):.1f}-{max(values):.1f})"


def compare(name: str, ours: Ours, theirs: "peers.Peer | None", argv: Sequence[str], goal: float) -> None:
    """Time one command on both in turn, and print a row."""
    hosts = [ours.host, *([theirs.host] if theirs is not None else [])]
    measures = [partial(timed, host, argv) for host in hosts]
    for measure in measures:
        measure()
    before = cpu_seconds(ours.pid)
    mine, *others = in_turn(measures, PAIRS)
    cpu = (cpu_seconds(ours.pid) - before) / PAIRS * 1000
    if not others:
        print(f"{name:34} {spread(mine):>26}   cpu {cpu:5.1f} ms")
        return
    (other,) = others
    ratio = statistics.median(a / b for a, b in zip(mine, other, strict=True))
    print(
        f"{name:34} {spread(mine):>26} {spread(other):>28}   {ratio:5.2f} (goal {goal})   cpu {cpu:5.1f} ms", flush=True
    )


def memory(ours: Ours) -> None:
    """PSS of the monitors with 1 and with 20 running, and of the idle engine."""
    spawner = children(ours.pid)[0]
    names: list[str] = []
    for count in (1, 20):
        while len(names) < count:
            names.append(docker(ours.host, "run", "-d", "busybox", "sleep", "1000"))
        # an idle monitor: it gives memory back once nothing has happened for half a second
        select.select([], [], [], 1.0)
        monitors = [pid for pid in children(spawner) if name_of(pid) == "wherry-monitor"]
        figures = [pss(pid) for pid in monitors]
        print(
            f"PSS of a monitor, {count:2} running: {statistics.mean(figures):.2f} MB (max {max(figures):.2f}), goal 4"
        )
    docker(ours.host, "rm", "-f", *names)
    idle = pss(ours.pid) + pss(spawner)
    print(f"PSS of wherryd and spawner: {idle:.1f} MB, goal 70")


def table(ours: Ours, theirs: "peers.Peer | None") -> None:
    """Print the figures."""
    head = f"dockerd {theirs.version()}" if theirs else ""
    print(
        f"\n{PAIRS} pairs, docker {docker(ours.host, 'version', '--format', '{{.Client.Version}}')}, milliseconds: "
        f"median (min-max)\n{'':34} {'wherryd':>26} {head:>28}   ratio of pairs"
    )
    compare("run --rm busybox true", ours, theirs, ["run", "--rm", "busybox", "true"], 0.25)
    none = ["run", "--rm", "--network", "none", "busybox", "true"]
    compare("run --rm --network none", ours, theirs, none, 0.25)
    port = ["run", "--rm", "-p", "127.0.0.1::80", "busybox", "true"]
    compare("run --rm -p 127.0.0.1::80", ours, theirs, port, 0.25)
    hosts = [ours.host, *([theirs.host] if theirs else [])]
    for host in hosts:
        docker(host, "run", "-d", "--name", "held", "busybox", "sleep", "100000")
    compare("exec true", ours, theirs, ["exec", "held", "true"], 0.5)
    compare("ps", ours, theirs, ["ps"], 1.0)
    for host in hosts:
        docker(host, "rm", "-f", "held")


def main() -> int:
    """Run the benchmark; the exit code says whether it could be run, not whether goals were met."""
    ours = Ours()
    theirs: peers.Peer | None = None
    try:
        ours.start()
        print("bootstrapping busybox", flush=True)
        wherry(ours, "image", "bootstrap", "busybox")
        theirs = peers.newest(ours.directory / "peer")
        if theirs is not None:
            theirs.start()
            archive = ours.directory / "busybox.tar"
            docker(ours.host, "save", "-o", str(archive), "busybox")
            docker(theirs.host, "load", "-i", str(archive))
        table(ours, theirs)
        memory(ours)
    finally:
        stop: list[Callable[[], None]] = [theirs.stop] if theirs is not None else []
        for one in (*stop, ours.stop):
            one()
    return 0


def wherry(ours: Ours, *argv: str) -> None:
    """Run the wherry command."""
    env = {**os.environ, "WHERRY_HOST": ours.host}
    subprocess.run([str(HERE / ".venv/bin/wherry"), *argv], env=env, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
