"""README's two commands on bare Debian machines: each of two releases, with cgroup v1 and with cgroup v2 alone.

    python -m tests.worlds [--log DIR] [--tests "ARGUMENTS OF PYTEST"] [WORLD...]

A world is a root file system with git and make beside Debian's minimal packages, and a clone of this checkout's last
commit. Its processes have mount, PID, UTS, IPC and network namespaces of their own; the kernel is this machine's.
slirp4netns carries its connections out, so that worlds, and the engines of this machine, see nothing of each other's
links and firewall rules. It is removed at the end, with all its processes. Packages that it fetched are kept for the
next world of its release, and so two of one release follow each other: apt lets one alone fetch into a directory.
"""

import argparse
import asyncio
import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests import cgroups
from tests.debian import CACHE
from wherry.images.debian import apt_lines, known_suites

ROOT = Path(__file__).resolve().parents[1]
SUITES = ("bookworm", "trixie")
WORLDS = tuple(f"{suite}-{version}" for suite in SUITES for version in ("v1", "v2"))
# what README asks for, and the certificates for mirrors that are reached by HTTPS
PACKAGES = ("git", "make", "ca-certificates")
HOME = "/root/wherry"
# how this machine reaches its mirrors and package indexes
_NETWORK = re.compile(r"(?i)(https?|no|all)_proxy|PIP_\w+|\w*(SSL_CERT|CA_BUNDLE|CA_CERTS|CERT_FILE)\w*")
_FILES = ("/etc/hosts", "/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")
# slirp4netns's own address, which asks the resolvers of this machine
_RESOLVER = "nameserver 10.0.2.3\n"
# within a world: where its release's fetched packages are kept on this machine
_KEPT = {"archives": "/var/cache/apt/archives", "pip": "/root/.cache/pip", "tests": str(CACHE)}

# Arguments: the root, the version of cgroups, the directory of kept packages, what to execute. A pivot, not a chroot,
# because a process in a chroot may not make a user namespace (user_namespaces(7)).
_ENTER = """
set -eu
root=$1 version=$2 kept=$3; shift 3
ip link set lo up
waited=0
# the way out comes last of all that slirp4netns sets up
until ip route show default | grep -q tap0; do
    waited=$((waited + 1))
    [ $waited -lt 300 ] || { echo "no way out of the world's network" >&2; exit 1; }
    sleep 0.1
done
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
mount -t sysfs sysfs sys
if [ "$version" = v2 ]; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup
else
    mount --rbind /sys/fs/cgroup sys/fs/cgroup
fi
mount --rbind /dev dev
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run
mkdir run/lock old
for pair in $KEPT; do
    mkdir -p "$kept/${pair%%=*}" ".${pair#*=}"
    mount --bind "$kept/${pair%%=*}" ".${pair#*=}"
done
for path in $SHARED; do
    [ -e ".$path" ] || if [ -d "$path" ]; then mkdir -p ".$path"; else mkdir -p ".${path%/*}"; : >".$path"; fi
    mount --bind "$path" ".$path"
    mount -o remount,bind,ro ".$path"
done
unset KEPT SHARED
hostname world
pivot_root . old
cd /
umount -l /old
rmdir /old
code=0
"$@" || code=$?
exit $code
"""

# process 1 is the shell above: it waits for this one, and reaps what nobody waits for
_STEPS = """
cd {home}
step() {{
    name=$1; shift
    began=$(date +%s)
    "$@" </dev/null && code=0 || code=$?
    echo "@world $name $code $(($(date +%s) - began))"
    [ $code = 0 ] || exit $code
}}
echo "@world kernel $(uname -r)"
{steps}
for link in /sys/class/net/wh*; do
    [ ! -e "$link" ] || echo "@world left link:${{link##*/}}"
done
nft list tables | sed -n "s/^table \\(.*\\) \\(wherry-.*\\)/@world left table:\\1:\\2/p"
"""
_VERSIONS = """
import subprocess
from tests import peers
for package in ("docker-cli", "docker.io"):
    command = ["dpkg-query", f"--admindir={peers.place()}/root/var/lib/dpkg", "-W", "-f", "${Version}", package]
    print("@world", package, subprocess.run(command, check=True, capture_output=True, text=True).stdout)
"""


def base(suite: str) -> Path:
    """An archive of a bare root of a release; made from this machine's mirrors when it is not in the cache."""
    found = CACHE / f"world-{suite}-{'-'.join(PACKAGES)}.tar"
    if not found.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        print(f"making a bare Debian {suite} (about a minute, once)", flush=True)
        making = CACHE / f"{found.name}.{os.getpid()}.tar"
        lines = asyncio.run(apt_lines(known_suites()[suite]))
        command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
        try:
            subprocess.run([*command, suite, str(making), *lines], check=True, timeout=1200)
            making.rename(found)
        finally:
            making.unlink(missing_ok=True)
    return found


def _furnish(root: Path) -> None:
    """Give a bare root this machine's way to the mirrors, and a clone of the checkout."""
    for path in _FILES:
        if os.path.exists(path):
            target = root / path.lstrip("/")
            target.unlink(missing_ok=True)
            shutil.copy(path, target)
    for found in Path("/etc/apt/apt.conf.d").glob("*"):
        if found.is_file() and re.search(r"^\s*Acquire", found.read_text(errors="replace"), re.MULTILINE):
            shutil.copy(found, root / "etc/apt/apt.conf.d")
    resolver = root / "etc/resolv.conf"
    resolver.unlink(missing_ok=True)
    resolver.write_text(_RESOLVER)
    # as in Debian's container images: packages of servers are installed, their servers are not started
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    # the archives are kept
    (root / "etc/apt/apt.conf.d/docker-clean").unlink(missing_ok=True)
    (root / "etc/apt/apt.conf.d/99kept").write_text('APT::Keep-Downloaded-Packages "true";\n')
    clone = root / HOME.lstrip("/")
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone)], check=True)


@contextlib.contextmanager
def made(world: str) -> Iterator[Path]:
    """Give the root of a world; it is removed at the end."""
    archive = base(world.partition("-")[0])
    top = CACHE / "worlds"
    top.mkdir(parents=True, exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix=f"{world}.", dir=top))
    try:
        root.chmod(0o755)
        command = ["tar", "--extract", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", str(root)]
        subprocess.run([*command, "--exclude=./dev/*", "-f", str(archive)], check=True, timeout=300)
        _furnish(root)
        yield root
    finally:
        shutil.rmtree(root)


class Outcome:
    """What a world said.

    Attributes:
        told: name -> words, of `kernel`, `docker-cli`, `docker.io`, `run`, `test` (exit code and seconds).
        counts: pytest's last line.
        left: what engines of the world have left: links and tables there, cgroups on this machine.
    """

    def __init__(self, world: str) -> None:
        self.world = world
        self.told: dict[str, str] = {}
        self.counts = ""
        self.left: list[str] = []

    def read(self, line: str) -> None:
        """Take a line of the world's output."""
        if line.startswith("@world "):
            name, _, words = line.removeprefix("@world ").partition(" ")
            if name == "left":
                self.left.append(words.strip())
            else:
                self.told[name] = words.strip()
        elif found := re.match(r"(?:=+ )?(\d+ (?:passed|failed|error|skipped).*) in [\d.]+s", line):
            self.counts = found[1]

    @property
    def green(self) -> bool:
        """Whether both commands succeeded, and nothing is left."""
        return not self.left and all(self.told.get(name, "").startswith("0 ") for name in ("run", "test"))

    def __str__(self) -> str:
        told = {name: self.told.get(name, "-") for name in ("kernel", "docker-cli", "docker.io", "run", "test")}
        run, test = (told[name].split(" ")[-1] for name in ("run", "test"))
        left = f"; left: {' '.join(self.left)}" if self.left else ""
        colour = "green" if self.green else "NOT GREEN"
        return (
            f"{self.world}: {colour}: {self.counts or 'no tests'}; make run {run} s, tests {test} s; "
            f"kernel {told['kernel']}, docker {told['docker-cli']}, dockerd {told['docker.io']}{left}"
        )


def _traces() -> set[str]:
    """Cgroups of engines whose processes are gone."""
    engines = {path.name for top in cgroups.hierarchies() for path in top.glob("wherry-*")}
    return {f"cgroup:{engine}" for engine in engines if not cgroups.processes(engine)}


def _left(before: set[str], seconds: float = 60) -> set[str]:
    """Cgroups that stay without a process for as long as this; `before` are older than the world.

    Worlds share the cgroups: a neighbour's engine that begins or ends has none for a moment.
    """
    left = _traces() - before
    deadline = time.monotonic() + seconds
    while left and time.monotonic() < deadline:
        time.sleep(0.2)
        left &= _traces()
    return left


@contextlib.contextmanager
def _connected(pid: int) -> Iterator[None]:
    """Give a process that makes itself a network namespace a way out of it, for as long as the context lasts."""
    own = os.stat("/proc/self/ns/net")
    deadline = time.monotonic() + 10
    while os.path.samestat(own, os.stat(f"/proc/{pid}/ns/net")):
        if time.monotonic() > deadline:
            raise TimeoutError("the world makes no network namespace")
        time.sleep(0.01)
    command = ["slirp4netns", "--configure", "--mtu=1500", "--disable-host-loopback", str(pid), "tap0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


@contextlib.contextmanager
def turn(name: str) -> Iterator[Callable[[], None]]:
    """Wait until no other process has its turn at what is named; gives what ends this one's before the context does."""
    (CACHE / "worlds").mkdir(parents=True, exist_ok=True)
    with open(CACHE / "worlds" / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lambda: fcntl.flock(lock, fcntl.LOCK_UN)


def visit(world: str, log: Path, tests: str) -> Outcome:
    """Run README's two commands in a world.

    Args:
        world: one of `WORLDS`.
        log: gets everything that is printed there.
        tests: arguments of pytest, for a run of some tests instead of all; empty: `make test`.
    """
    suite, version = world.split("-")
    outcome = Outcome(world)
    steps = ["step run make run"]
    if tests:
        steps += ["step peers make peers", f"step test .venv/bin/python -m pytest {tests}"]
    else:
        steps += ["step test make test"]
    steps.append(f".venv/bin/python -c '{_VERSIONS}'")
    if tests:
        # known before the tests may fail
        steps[2:] = [steps[3], steps[2]]
    network = {name: value for name, value in os.environ.items() if _NETWORK.fullmatch(name)}
    # not the directory of certificates: packages write there
    shared = {value for value in network.values() if os.path.isabs(value) and not value.startswith("/etc/ssl/")}
    environment = {
        **network,
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "CI": "true",
        "LANG": "C.UTF-8",
        "TERM": os.environ.get("TERM", "dumb"),
        "DEBIAN_FRONTEND": "noninteractive",
        "SHARED": " ".join(sorted(path for path in shared if os.path.exists(path))),
        "KEPT": " ".join(f"{name}={path}" for name, path in _KEPT.items()),
    }
    before = _traces()
    # `make run` has the same data root in each world, and so its engine the same name in the cgroups, which they share
    with turn(suite), made(world) as root, open(log, "w") as file, turn("run") as turn_ends:
        kept = CACHE / "worlds" / suite
        command = [
            *("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--uts", "--ipc"),
            *("sh", "-c", _ENTER, "world"),
            *(str(root), version, str(kept), "sh", "-c", _STEPS.format(home=HOME, steps="\n".join(steps))),
        ]
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            assert process.stdout is not None
            try:
                with _connected(process.pid):
                    for raw in process.stdout:
                        line = raw.decode(errors="replace")
                        file.write(line)
                        file.flush()
                        outcome.read(line)
                        if "run" in outcome.told:
                            turn_ends()
            finally:
                process.kill()  # and process 1 with it, by --kill-child
    outcome.left += sorted(_left(before))
    return outcome


def possible(world: str) -> str:
    """Why a world cannot be had on this machine; empty where it can."""
    if os.geteuid() != 0:
        return "only root can make one"
    if missing := [name for name in ("mmdebstrap", "slirp4netns") if shutil.which(name) is None]:
        return f"these programs are missing: {' '.join(missing)}"
    if world.endswith("v1") and cgroups.unified():
        return "this kernel has its controllers in cgroup v2"
    return ""


def main() -> int:
    """Visit the worlds that the command line names, or all; returns the exit code."""
    parser = argparse.ArgumentParser(description="README's two commands on bare Debian machines")
    parser.add_argument("worlds", nargs="*", metavar="WORLD", help=f"of {', '.join(WORLDS)}; all by default")
    parser.add_argument("--log", type=Path, help="directory of the logs (default: a new one in /tmp)")
    parser.add_argument("--tests", default="", help="arguments of pytest, for a run of some tests")
    given = parser.parse_args()
    if unknown := set(given.worlds) - set(WORLDS):
        parser.error(f"no such world: {', '.join(sorted(unknown))}")
    logs = given.log or Path(tempfile.mkdtemp(prefix="wherry-worlds-"))
    logs.mkdir(parents=True, exist_ok=True)
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "log", "-1", "--oneline"], capture_output=True, text=True, check=True
    )
    print(f"commit {commit.stdout.strip()}; logs in {logs}", flush=True)
    lines = []
    green = True
    for world in given.worlds or WORLDS:
        if reason := possible(world):
            lines.append(f"{world}: not possible: {reason}")
            green = False
        else:
            began = time.strftime("%H:%M:%S")
            print(f"{world}: since {began}, see {logs / world}.log", flush=True)
            outcome = visit(world, logs / f"{world}.log", given.tests)
            green = green and outcome.green
            lines.append(str(outcome))
        print(lines[-1], flush=True)
    print("\n".join(["", *lines]))
    return 0 if green else 1


if __name__ == "__main__":
    sys.exit(main())
