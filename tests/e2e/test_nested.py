"""An engine in a container of an engine, and containers that arrange their own cgroups."""

import io
import os
import signal
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cgroups import controllers, unified
from tests.e2e.harness import BIN, ROOT, WHERRYD, Done, EngineProcess, running, until

pytestmark = pytest.mark.root

# cgroup2 alone, whatever this machine has; what no v1 hierarchy holds is offered there
_V2 = 'mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$0" "$@"'
_SOCKET = "/run/inner/wherry.sock"
_EXECS = 5
# as Docker's own image of dockerd does it: room at the top, then controllers for what is below
_HAND_DOWN = """
cd /sys/fs/cgroup; [ -d unified ] && cd unified
mkdir init
until [ -n "$(cat cgroup.subtree_control)" ]; do
    while read pid; do echo "$pid" >init/cgroup.procs; done <cgroup.procs
    for name in $(cat cgroup.controllers); do echo "+$name" >cgroup.subtree_control; done
done 2>/dev/null
echo arranged
exec sleep 1000
"""
_WHERE = "cat /proc/self/cgroup | grep ^0::; cat /proc/1/cgroup | grep ^0::"


@pytest.fixture(scope="module", params=["host", *([] if unified() else ["v2"])])
def engine(request: pytest.FixtureRequest) -> Iterator[EngineProcess]:
    """Give an engine that sees this machine's cgroups, and one that sees cgroup v2 alone."""
    made = EngineProcess()
    if request.param == "v2":
        made.program = ("unshare", "-m", "--propagation", "private", "sh", "-c", _V2, WHERRYD)
    with running(made) as found:
        yield found


@pytest.fixture
def machine(engine: EngineProcess) -> Iterator[tuple[str, ...]]:
    """Give the words of `run` for a container that has this machine's programs, and this checkout's."""
    links = {name: os.readlink(f"/{name}") for name in os.listdir("/") if os.path.islink(f"/{name}")}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("etc", "proc", "run", "sys", "tmp", "usr", "var"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            archive.addfile(entry)
        for name, target in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    engine.docker("import", "-", "machine", stdin=out.getvalue())
    places = {
        "/usr",
        "/etc",
        str(ROOT),
        sys.prefix,
        sys.base_prefix,
        *(path for path in sys.path if os.path.isdir(path)),
    }
    places |= {
        f"/{name}" for name in ("bin", "sbin", "lib", "lib64") if os.path.isdir(f"/{name}") and name not in links
    }
    kept = sorted(
        path for path in places if not any(Path(path) != Path(o) and Path(path).is_relative_to(o) for o in places)
    )
    try:
        yield (*(word for path in kept for word in ("-v", f"{path}:{path}:ro")), "-v", "/var/lib/inner", "machine")
    finally:
        engine.remove_all()
        engine.docker("rmi", "machine")
        engine.docker("volume", "prune", "-f")


class Inner:
    """An engine in the container `outer`.

    Args:
        engine: the engine of that container.
    """

    def __init__(self, engine: EngineProcess) -> None:
        self.engine = engine

    def start(self) -> None:
        """Execute it and wait until it answers."""
        command = f"exec {WHERRYD} --data-root /var/lib/inner --exec-root /run/inner >>/run/inner.log 2>&1"
        self.engine.docker("exec", "-d", "outer", "sh", "-c", command)
        try:
            until(lambda: self.wherry("version", check=False).code == 0, "the inner engine answers")
        except AssertionError:
            self._explain()
            raise

    def end(self) -> None:
        """End it by SIGTERM."""
        self.engine.docker("exec", "outer", "sh", "-c", "kill $(cat /run/inner/*.pid)")
        until(lambda: self.wherry("version", check=False).code != 0, "the inner engine is gone")
        log = self.engine.docker("exec", "outer", "cat", "/run/inner.log").out
        assert "Traceback" not in log

    def _explain(self) -> None:
        for words in (("cat", "/run/inner.log"), ("ls", "-l", "/run/inner"), ("ps", "-ef")):
            print(words, self.engine.docker("exec", "outer", *words, check=False))

    def wherry(self, *words: str, check: bool = True) -> Done:
        """Run the wherry command against it."""
        words = ("exec", "-e", f"WHERRY_HOST=unix://{_SOCKET}", "outer", str(BIN / "wherry"), *words)
        return self.engine.docker(*words, check=check)


def enter(engine: EngineProcess, name: str = "outer") -> None:
    """Have exec work in a container, with pipes and with a terminal."""
    for number in range(_EXECS):
        assert engine.wherry("exec", name, "echo", str(number)).out == f"{number}\n"
    assert engine.wherry("exec", "-t", name, "echo", "terminal").out == "terminal\r\n"


def test_an_engine_in_a_privileged_container(engine: EngineProcess, machine: tuple[str, ...]) -> None:
    """It runs containers with network and limits; exec works in its container while it runs, and when it has ended."""
    engine.docker("run", "-d", "--name", "outer", "--privileged", *machine, "sleep", "1000")
    inner = Inner(engine)
    inner.start()
    enter(engine)
    inner.wherry("image", "bootstrap", "busybox")
    limit = ("--memory", "64m") if "memory" in _seen(engine) else ()
    inner.wherry(
        "run", "-d", "--name", "web", *limit, "-p", "8080:80", "busybox", "httpd", "-f", "-p", "80", "-h", "/bin"
    )
    fetch = "import urllib.request as r; print(len(r.urlopen('http://127.0.0.1:8080/sh').read()) > 0)"
    assert engine.docker("exec", "outer", sys.executable, "-c", fetch).out == "True\n"
    if limit:
        assert "64MiB" in inner.wherry("stats", "--no-stream", "web").out
    assert inner.wherry("exec", "web", "echo", "in").out == "in\n"
    enter(engine)
    inner.wherry("stop", "-t", "0", "web")
    inner.wherry("rm", "web")
    inner.end()
    enter(engine)
    # a branch that the inner engine left does not keep the container from its own
    engine.docker("restart", "-t", "0", "outer")
    enter(engine)
    inner.start()
    assert inner.wherry("run", "--rm", "busybox", "echo", "again").out == "again\n"
    enter(engine)
    engine.docker("rm", "-f", "outer")
    engine.assert_nothing_runs()


def _seen(engine: EngineProcess) -> frozenset[str]:
    """The controllers that the engine's containers have."""
    if engine.program == (WHERRYD,):
        return controllers()
    return frozenset(Path("/sys/fs/cgroup/unified/cgroup.controllers").read_text().split())


@pytest.mark.skipif(
    not (Path("/sys/fs/cgroup/cgroup.controllers").exists() or Path("/sys/fs/cgroup/unified").exists()),
    reason="this host has no cgroup v2",
)
def test_exec_goes_where_process_1_is(engine: EngineProcess) -> None:
    """A container that hands controllers down may have no process at its top: exec and health checks join process 1."""
    tree = Path("/sys/fs/cgroup") if unified() else Path("/sys/fs/cgroup/unified")
    offered = (tree / "cgroup.controllers").read_text().split()
    for directory in (tree, tree / engine.roots.scope, tree / engine.roots.scope / "containers"):
        # beside v1 the engine hands nothing down by itself
        (directory / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in offered))
    health = ("--health-cmd", "true", "--health-interval", "1s", "--health-start-interval", "100ms")
    words = (
        "--privileged",
        "--restart",
        "always",
        *health,
        "--health-start-period",
        "30s",
        "busybox",
        "sh",
        "-c",
        _HAND_DOWN,
    )
    engine.docker("run", "-d", "--name", "box", *words)
    until(lambda: "arranged" in engine.docker("logs", "box").out, "it is arranged")
    enter(engine, "box")
    mine, first = engine.docker("exec", "box", "sh", "-c", _WHERE).out.split()
    assert mine == first
    assert mine.endswith("/init")
    status = ("inspect", "-f", "{{.State.Health.Status}}", "box")
    until(lambda: engine.docker(*status).out == "healthy\n", "the health check runs")
    # the next run begins with a cgroup in which nothing is arranged
    os.kill(int(engine.docker("inspect", "-f", "{{.State.Pid}}", "box").out), signal.SIGKILL)
    until(lambda: engine.docker("logs", "box").out.count("arranged") == 2, "it is arranged again")
    enter(engine, "box")
    engine.docker("rm", "-f", "box")
    engine.assert_nothing_runs()
