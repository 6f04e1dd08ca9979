"""What a verb leaves that is interrupted, or meets a container between two runs."""

import json
import os
import select
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import EngineProcess, monitor, running, until

pytestmark = pytest.mark.root

FRAME = 8


@pytest.fixture(scope="module")
def half_engine() -> Iterator[EngineProcess]:
    """Give an engine for this module alone: it is killed."""
    with running(EngineProcess()) as made:
        yield made


@pytest.fixture
def engine(half_engine: EngineProcess) -> Iterator[EngineProcess]:
    """Give that engine running; whatever containers the test made are removed after it."""
    yield half_engine
    if half_engine.process is None:
        half_engine.start()
    half_engine.remove_all()


def status(engine: EngineProcess, name: str) -> str:
    return engine.docker("inspect", "-f", "{{.State.Status}}", name).out.strip()


def events(engine: EngineProcess, name: str, since: float) -> list[str]:
    """The actions of a container's events since then."""
    words = ("events", "--since", f"{since:.3f}", "--until", f"{time.time():.3f}", "--filter", f"container={name}")
    return engine.docker(*words, "--format", "{{.Action}}").out.split("\n")[:-1]


def test_a_killed_commit_leaves_nothing_frozen(engine: EngineProcess) -> None:
    """wherryd is killed while `commit` has the container frozen: the next one thaws it, not what a user paused."""
    engine.docker(
        "run", "-d", "--name", "box", "busybox", "sh", "-c", "head -c 150000000 /dev/urandom >/big; sleep 1000"
    )
    until(
        lambda: engine.docker("exec", "box", "stat", "-c", "%s", "/big", check=False).out == "150000000\n", "it is full"
    )
    engine.docker("run", "-d", "--name", "held", "busybox", "sleep", "1000")
    engine.docker("pause", "held")
    id_ = engine.docker("inspect", "-f", "{{.Id}}", "box").out.strip()
    state = Path(engine.roots.sandbox(id_)) / "state.json"
    since = time.time()
    words = ["docker", "commit", "box", "made"]
    with subprocess.Popen(words, env=engine.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as commit:
        until(lambda: json.loads(state.read_text())["status"] == "paused", "the commit has frozen it")
        engine.kill()
        assert commit.wait(20) != 0
    engine.start()
    assert (status(engine, "box"), status(engine, "held")) == ("running", "paused")
    assert engine.docker("exec", "box", "echo", "goes on").out == "goes on\n"
    assert "unpause" in events(engine, "box", since)


def test_a_commit_thaws_by_itself(engine: EngineProcess) -> None:
    """A commit that is not disturbed leaves nothing behind that a later engine would thaw."""
    engine.docker("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    engine.docker("commit", "box", "made")
    engine.docker("pause", "box")
    engine.kill()
    engine.start()
    assert status(engine, "box") == "paused"


def test_what_waits_for_its_next_start_can_be_stopped(engine: EngineProcess) -> None:
    """`stop` in the restart delay is told as dockerd tells it; `kill` ends it too, and `restart` stops it first."""
    for verb, told in (("stop", ["stop"]), ("kill", []), ("restart", ["stop", "start", "restart"])):
        engine.docker("run", "-d", "--name", verb, "--restart", "always", "busybox", "false")
        # the delay has doubled to more than a second by then
        until(
            lambda name=verb: (
                int(engine.docker("inspect", "-f", "{{.RestartCount}}", name).out) > 4  # type: ignore[misc]
                and status(engine, name) == "restarting"
            ),
            "it waits for its next start",
        )
        since = time.time()
        engine.docker(verb, verb)
        if verb != "restart":
            assert events(engine, verb, since) == told
            assert status(engine, verb) == "exited"
            continue
        assert [one for one in events(engine, verb, since) if one != "die"][:3] == told


def _start_exec(engine: EngineProcess, id_: str) -> bytes:
    """Start an exec over a raw connection; everything that comes back."""
    body = json.dumps({"Detach": False, "Tty": False})
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(engine.roots.socket)
        head = f"POST /v1.43/exec/{id_}/start HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n"
        head += "Connection: Upgrade\r\nUpgrade: tcp\r\n"
        sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        found = b""
        while data := sock.recv(65536):
            found += data
        return found


def test_an_exec_that_is_started_twice(engine: EngineProcess) -> None:
    """As dockerd: attached, the connection is taken over and told the error; detached it is the answer."""
    engine.docker("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    curl = ("curl", "-s", "--unix-socket", engine.roots.socket, "-H", "Content-Type: application/json")
    made = engine.run(
        *curl,
        *("-d", '{"Cmd": ["sh", "-c", "while [ ! -e /go ]; do sleep 0.05; done"], "AttachStdout": true}'),
        "http://docker/v1.43/containers/box/exec",
    )
    id_ = json.loads(made.out)["Id"]
    first: list[bytes] = []
    thread = threading.Thread(target=lambda: first.append(_start_exec(engine, id_)))
    thread.start()
    shown = (*curl, f"http://docker/v1.43/exec/{id_}/json")
    until(lambda: json.loads(engine.run(*shown).out)["Pid"], "it runs")
    for words, code in (("is already running", "400"), ("has already run", "409")):
        answer = _start_exec(engine, id_)
        head, _, rest = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert rest[FRAME:] == f"Error: Exec command {id_} {words}\r\n".encode()
        assert rest[:1] == b"\1"
        asked = ("-d", '{"Detach": true}', f"http://docker/v1.43/exec/{id_}/start")
        told = engine.run(*curl, "-w", "%{http_code}", *asked).out
        assert words in told
        assert told.endswith(code)
        engine.docker("exec", "box", "touch", "/go")
        thread.join(20)
        until(lambda: not json.loads(engine.run(*shown).out)["Running"], "it has ended")
    assert first[0].startswith(b"HTTP/1.1 101 ")


def test_a_restart_changes_no_record(engine: EngineProcess) -> None:
    """A `--rm` container keeps that over a restart, whatever is written down or killed in its midst."""
    trap = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    engine.docker("run", "-d", "--rm", "--name", "brief", "busybox", "sh", "-c", trap)
    until(lambda: "ready" in engine.docker("logs", "brief").out, "it ignores SIGTERM")
    pid = engine.docker("inspect", "-f", "{{.State.Pid}}", "brief").out
    with subprocess.Popen(["docker", "restart", "-t", "2", "brief"], env=engine.env, stdout=subprocess.DEVNULL) as verb:
        select.select([], [], [], 0.5)
        engine.docker("rename", "brief", "named")  # which writes the record
        assert engine.docker("inspect", "-f", "{{.HostConfig.AutoRemove}}", "named").out == "true\n"
        record = Path(engine.roots.container(engine.docker("inspect", "-f", "{{.Id}}", "named").out.strip()))
        assert json.loads((record / "container.json").read_text())["host_config"]["AutoRemove"] is True
        assert verb.wait(30) == 0
    assert engine.docker("inspect", "-f", "{{.State.Status}}", "named").out == "running\n"
    assert engine.docker("inspect", "-f", "{{.State.Pid}}", "named").out != pid
    os.kill(monitor(engine, "named"), 0)
    engine.docker("kill", "named")
    until(lambda: not engine.docker("ps", "-aq").out, "--rm removes it")


def test_mount_points_of_a_killed_build_are_removed(engine: EngineProcess) -> None:
    """A killed engine was copying files for a build: its places to mount on are gone after the next start."""
    engine.kill()
    place = Path(engine.roots.run) / "build" / "0123456789abcdef"
    (place / "root").mkdir(parents=True)
    engine.start()
    assert not place.exists()
