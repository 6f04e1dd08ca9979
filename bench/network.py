"""`make bench`: what a network costs a start and a published port a request, against the newest dockerd.

Each engine has a host of its own, a network namespace with a neighbour on its LAN, so that neither's packets walk the
other's rules; commands and loads alternate between the two. Starts are whole docker commands, requests are wrk's
against Debian's nginx, in an image that the engine imports.
"""

import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import peer as peers
from run import STATE, Ours, docker, timed, wherry

PAIRS = int(os.environ.get("WHERRY_BENCH_PAIRS", "20"))
ROUNDS = int(os.environ.get("WHERRY_BENCH_ROUNDS", "8"))
SECONDS = int(os.environ.get("WHERRY_BENCH_WRK_SECONDS", "2"))
PORTS = 1000
HOST, NEIGHBOUR, PORT = "192.0.2.1", "192.0.2.2", 8080
SUITE = "bookworm"
CONFIGURATION = """\
daemon off; user root; worker_processes 1; error_log stderr error; pid /tmp/nginx.pid;
events { worker_connections 1024; }
http { access_log off; keepalive_requests 1000000000; server { listen 80; return 200 "a page"; } }
"""
# the package is unpacked and not configured: it lacks the users
SERVE = f"""
echo root:x:0:0::/:/bin/sh >/etc/passwd; echo root:x:0: >/etc/group
echo '{CONFIGURATION}' >/tmp/conf; exec nginx -c /tmp/conf
"""
STARTS = {
    "--network none": ("--network", "none"),
    "default bridge": (),
    "-p 127.0.0.1::80": ("-p", "127.0.0.1::80"),
}


class Place:
    """A host and its neighbour: two network namespaces on a wire."""

    def __init__(self, name: str) -> None:
        self.names = (f"wb{os.getpid()}{name}", f"wb{os.getpid()}{name}n")
        for namespace in self.names:
            _ip("netns", "add", namespace)
            _ip("-n", namespace, "link", "set", "lo", "up")
        host, neighbour = self.names
        _ip("-n", host, "link", "add", "lan0", "type", "veth", "peer", "name", "lan0", "netns", neighbour)
        for namespace, address in ((host, HOST), (neighbour, NEIGHBOUR)):
            _ip("-n", namespace, "addr", "add", f"{address}/24", "dev", "lan0")
            _ip("-n", namespace, "link", "set", "lan0", "up")

    def enter(self, *, neighbour: bool = False) -> list[str]:
        """A command's beginning that puts it there."""
        return ["nsenter", f"--net=/run/netns/{self.names[neighbour]}"]

    def remove(self) -> None:
        """Let both go."""
        for namespace in self.names:
            subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def nginx() -> Path:
    """An archive with Debian's nginx and what it needs, made once."""
    archive = STATE / "nginx.tar"
    if not archive.exists():
        print("unpacking Debian's nginx into an image (once)", flush=True)
        with tempfile.TemporaryDirectory(dir=STATE) as directory:
            made = Path(directory, "nginx.tar")
            command = ["mmdebstrap", "--quiet", "--variant=extract", "--include=nginx,dash", SUITE, str(made)]
            subprocess.run([*command, peers.mirror(SUITE)], check=True, stdin=subprocess.DEVNULL)
            made.rename(archive)
    return archive


def starts(hosts: "list[str]") -> "dict[str, list[list[float]]]":
    """Milliseconds of each kind of start on each engine, in turn; who comes after whom changes from round to round."""
    found: dict[str, list[list[float]]] = {name: [[] for _ in hosts] for name in STARTS}
    order = [(name, engine) for name in STARTS for engine in range(len(hosts))]
    shuffled = random.Random(PAIRS)  # what an engine still does behind its answer costs the next one
    for number in range(PAIRS + 1):
        shuffled.shuffle(order)
        for name, engine in order:
            took = timed(hosts[engine], ["run", "--rm", *STARTS[name], "busybox", "true"])
            if number:  # the first of each is the warming up
                found[name][engine].append(took)
    return found


def show_starts(found: "dict[str, list[list[float]]]", names: list[str]) -> None:
    """Print the table of starts: medians, and what each kind costs more than the one above it."""
    print(f"\nrun --rm busybox true, {PAIRS} rounds, milliseconds: median, and what it costs more than the line above")
    print(f"{'':24}" + "".join(f"{name:>24}" for name in names))
    above: list[list[float]] | None = None
    for kind, engines in found.items():
        cells = []
        for engine, values in enumerate(engines):
            more = ""
            if above is not None:
                gap = statistics.median(b - a for a, b in zip(above[engine], values, strict=True))
                more = f"  (+{gap:.1f})"
            cells.append(f"{statistics.median(values):.1f}{more}")
        print(f"{kind:24}" + "".join(f"{cell:>24}" for cell in cells), flush=True)
        above = engines


def crowd(ours: Ours) -> None:
    """Time a start with one port before and while another container publishes a thousand."""
    one = STARTS["-p 127.0.0.1::80"]

    def median() -> float:
        return statistics.median(timed(ours.host, ["run", "--rm", *one, "busybox", "true"]) for _ in range(PAIRS))

    before = median()
    held = docker(ours.host, "run", "-d", "-p", f"20000-{20000 + PORTS - 1}:1-{PORTS}", "busybox", "sleep", "100000")
    crowded = median()
    docker(ours.host, "rm", "-f", held)
    after = (before + median()) / 2
    print(f"\nrun --rm -p: {after:.1f} ms; with {PORTS} ports published {crowded:.1f} ms (ratio {crowded / after:.2f})")


def answers(place: Place) -> None:
    """Wait until the server does."""
    ask = [*place.enter(), "curl", "-s", "--retry", "50", "--retry-all-errors", "--retry-delay", "0"]
    subprocess.run([*ask, f"http://{HOST}:{PORT}/"], check=True, capture_output=True, timeout=60)


class Load:
    """One run of wrk: requests a second, and microseconds of processor time that client and server spent on each.

    Raises:
        RuntimeError: some failed.
    """

    def __init__(self, enter: list[str], address: str, servers: list[int]) -> None:
        command = [*enter, "nice", "-n", "-10", "wrk", "-t1", "-c32", f"-d{SECONDS}", f"http://{address}:{PORT}/"]
        before = running(servers)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            report = process.stdout.read()
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        served = running(servers) - before
        rate = re.search(r"Requests/sec:\s+([\d.]+)", report)
        count = re.search(r"(\d+) requests in", report)
        if rate is None or count is None or "Socket errors" in report or "Non-2xx" in report:
            raise RuntimeError(f"wrk {address}: {report}")
        self.rate = float(rate[1])
        self.cost = (served + used.ru_utime + used.ru_stime) * 1e6 / int(count[1])


def running(pids: list[int]) -> float:
    """Seconds that processes have run, to the nanosecond (proc(5), schedstat)."""
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids) / 1e9


def servers_of(host: str, *, proxies: bool) -> list[int]:
    """What works for a request on an engine: nginx, and dockerd's process for the port."""
    found = [int(line.split()[1]) for line in docker(host, "top", "web").splitlines()[1:]]
    if proxies:
        words = ["pgrep", "-f", f"docker-proxy .*-host-port {PORT} "]
        found += map(int, subprocess.run(words, check=False, capture_output=True, text=True).stdout.split())
    return found


def requests(places: list[Place], hosts: list[str], names: list[str]) -> None:
    """Serve with nginx on each; print requests a second by each way, and what one costs: that is less disturbed."""
    archive = nginx()
    for host in hosts:
        docker(host, "import", str(archive), "nginx")
        # the machine's other work is not to decide: both get all that there is
        docker(
            *(host, "run", "-d", "--name", "web", "--cpu-shares", "262144", "-p", f"{PORT}:80"),
            *("nginx", "sh", "-c", SERVE),
        )
    for place in places[: len(hosts)]:
        answers(place)
    servers = [servers_of(host, proxies=number == 1) for number, host in enumerate(hosts)]
    print(
        f"\nnginx through -p, wrk with 32 connections, {ROUNDS} rounds of {SECONDS} s: requests a second; "
        "microseconds of processor time for each, of client and server"
    )
    print(f"{'':24}" + "".join(f"{name:>24}" for name in names))
    for way, address, neighbour in (
        ("from 127.0.0.1", "127.0.0.1", False),
        ("from the host's address", HOST, False),
        ("from the LAN", HOST, True),
    ):
        found: list[list[Load]] = [[] for _ in hosts]
        order = list(enumerate(places[: len(hosts)]))
        draw = random.Random(ROUNDS)
        for number in range(ROUNDS + 1):
            draw.shuffle(order)
            for engine, place in order:
                load = Load(place.enter(neighbour=neighbour), address, servers[engine])
                if number:  # the first of each is the warming up
                    found[engine].append(load)
        cells = [
            f"{statistics.median(one.rate for one in some):.0f}; {statistics.median(one.cost for one in some):.1f} us"
            for some in found
        ]
        ratio = ""
        if len(found) > 1:
            pairs = list(zip(*found, strict=True))
            rate = statistics.median(a.rate / b.rate for a, b in pairs)
            cost = statistics.median(a.cost / b.cost for a, b in pairs)
            ratio = f"   ratio {rate:.2f} (goal 1); of cost {cost:.2f}"
        print(f"{way:24}" + "".join(f"{cell:>24}" for cell in cells) + ratio, flush=True)
    for host in hosts:
        docker(host, "rm", "-f", "web")


def main() -> int:
    """Run the comparison; the exit code says whether it could be run."""
    places = [Place("o"), Place("t")]
    ours: Ours | None = None
    theirs: peers.Peer | None = None
    try:
        ours = Ours(places[0].enter())
        ours.start()
        wherry(ours, "image", "bootstrap", "busybox")
        hosts, names = [ours.host], ["wherryd"]
        theirs = peers.newest(ours.directory / "peer", places[1].enter())
        if theirs is not None:
            theirs.start()
            archive = ours.directory / "busybox.tar"
            docker(ours.host, "save", "-o", str(archive), "busybox")
            docker(theirs.host, "load", "-i", str(archive))
            hosts.append(theirs.host)
            names.append(f"dockerd {theirs.version()}")
        show_starts(starts(hosts), names)
        requests(places, hosts, names)
        crowd(ours)
    finally:
        try:
            if theirs is not None:
                theirs.stop()
        finally:
            if ours is not None:
                ours.stop()
            for place in places:
                place.remove()
    return 0


if __name__ == "__main__":
    sys.exit(main())
