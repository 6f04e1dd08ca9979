"""A second wherryd beside a first: whatever roots, socket or pid file they share, the first one's containers stay."""

import contextlib
import itertools
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import WHERRYD, EngineProcess, running, until
from wherry.linux.process import start_time
from wherry.paths import Roots

pytestmark = pytest.mark.root


class Second:
    """Another wherryd, which shares with the first what is named."""

    def __init__(self, first: EngineProcess, shared: frozenset[str]) -> None:
        self.other = first.base / "second"
        self.roots = Roots(
            first.roots.data if "data" in shared else str(self.other / "data"),
            first.roots.run if "exec" in shared else str(self.other / "run"),
        )
        socket = first.roots.socket if "socket" in shared else f"{self.other}/second.sock"
        pidfile = first.roots.pidfile if "pidfile" in shared else f"{self.other}/second.pid"
        self.other.mkdir(exist_ok=True)
        self.host = f"unix://{socket}"
        self.words = [
            WHERRYD,
            *("--data-root", self.roots.data, "--exec-root", self.roots.run),
            *("--host", self.host, "--pidfile", pidfile),
        ]

    def attempt(self) -> str:
        """Start it; returns why it does not, or nothing: then it has listened, and was ended again."""
        log = self.other / "second.log"
        with open(log, "wb") as file:
            process = subprocess.Popen(self.words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd="/")
        try:
            deadline = time.monotonic() + 30
            # the first may answer at the same socket: the second's own word counts
            while process.poll() is None and "API listens on" not in log.read_text():
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.02)
            if process.poll() is None:
                process.terminate()
                assert process.wait(30) == 0, log.read_text()
                return ""
            assert process.returncode == 1, log.read_text()
            text = log.read_text()
            assert "Traceback" not in text, text
            return text
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(10)


@pytest.fixture
def first() -> Iterator[EngineProcess]:
    """Give an engine with two containers."""
    with running(EngineProcess()) as engine:
        engine.docker("network", "create", "front")
        for name in ("one", "two"):
            # on a network of its own: netd, a helper, runs too
            engine.docker("run", "-d", "--name", name, "--network", "front", "busybox", "sleep", "1000")
        yield engine


def alive(engine: EngineProcess) -> list[tuple[int, int]]:
    """Process 1 of each container, with its start time."""
    pids = [int(word) for word in engine.docker("inspect", "-f", "{{.State.Pid}}", "one", "two").out.split()]
    return [(pid, start_time(pid)) for pid in pids]


SHARED = [
    frozenset(chosen)
    for number in range(5)
    for chosen in itertools.combinations(("data", "exec", "socket", "pidfile"), number)
]


def test_beside_a_running_engine(first: EngineProcess) -> None:
    """Whatever is shared, the second says what and goes; with nothing shared it runs. The first's containers stay."""
    before = alive(first)
    for shared in SHARED:
        said = Second(first, shared).attempt()
        # the first thing in this order that is the first engine's
        words = {
            "data": f"the data root {first.roots.data} is in use by another wherryd (pid {first.pid})",
            "exec": f"the exec root {first.roots.run} is in use by another wherryd (pid {first.pid}, data root",
            "pidfile": f"the pid file {first.roots.pidfile} is in use by another wherryd (pid {first.pid})",
            "socket": f"another engine answers at {first.roots.socket}",
        }
        assert next((text for name, text in words.items() if name in shared), "") in said, shared
        assert bool(said) == bool(shared), said
        assert [(pid, start_time(pid)) for pid, _ in before] == before, shared
        assert int(Path(first.roots.pidfile).read_text()) == first.pid
    assert alive(first) == before
    assert first.docker("exec", "one", "ping", "-c1", "-w5", "two").code == 0


def test_after_a_killed_engine(first: EngineProcess) -> None:
    """Under the same roots its containers are adopted; under one of them they are left alone, with the reason."""
    before = alive(first)
    first.kill()
    for shared in SHARED:
        roots = shared & {"data", "exec"}
        if len(roots) == 1 and shared - roots:
            continue  # refused before socket and pid file are looked at
        said = Second(first, shared).attempt()
        if roots == {"data"}:
            assert f"2 containers run of the data root {first.roots.data} under the exec root {first.roots.run}" in said
        elif roots == {"exec"}:
            assert f"containers run of the data root {first.roots.data} under the exec root {first.roots.run}" in said
        else:
            assert not said
        assert [(pid, start_time(pid)) for pid, _ in before] == before, shared
    first.start()
    assert alive(first) == before
    assert first.docker("exec", "one", "ping", "-c1", "-w5", "two").code == 0


def test_dead_leftovers_of_another_data_root(first: EngineProcess) -> None:
    """An exec root in which nothing of its former data root lives any more is free for another."""
    before = alive(first)
    first.kill()
    for pid in first.processes():
        with contextlib.suppress(ProcessLookupError):  # one that ended by the death of another
            os.kill(pid, signal.SIGKILL)
    until(lambda: not first.processes(), "all of the first engine has ended")
    assert not Second(first, frozenset({"exec"})).attempt()
    first.start()
    assert first.docker("inspect", "-f", "{{.State.Status}}", "one", "two").out.split() == ["exited", "exited"]
    first.docker("start", "one")
    assert before


def test_the_same_paths_in_another_mount_namespace(first: EngineProcess) -> None:
    """An engine with the same roots elsewhere has the same name in the cgroups: what it does not see there stays."""
    before = alive(first)
    first.kill()  # beside one that lives the other refuses to start
    roots = first.roots
    # the host's processes are not seen there, but their cgroups are
    script = (
        f"mount --make-rprivate / && mount -t proc proc /proc && mount -t tmpfs tmpfs {first.base} && "
        f"exec {WHERRYD} --data-root {roots.data} --exec-root {roots.run}"
    )
    command = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-ec", script]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd="/") as process:
        assert process.stderr is not None
        said = ""
        try:
            for line in process.stderr:
                said += line
                if "API listens on" in line:
                    break
            assert "API listens on" in said, said
            assert "no container of this data root is in it; left as it is" in said
        finally:
            process.kill()
    first.start()
    assert alive(first) == before
    assert first.docker("exec", "one", "ping", "-c1", "-w5", "two").code == 0
