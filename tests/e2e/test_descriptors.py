"""wherryd at its limit of descriptors: what begins is refused in words, and what ends something always works."""

import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.harness import WHERRYD, EngineProcess, monitor, running, until
from tests.unix_http import UnixConnection

pytestmark = pytest.mark.root

LIMIT = 128
HINT = "raise LimitNOFILE of its service, or `ulimit -n` before it is started"


def limited(limit: int) -> EngineProcess:
    """Give an engine, not started, that may have so many descriptors."""
    return EngineProcess(program=("prlimit", f"--nofile={limit}:{limit}", WHERRYD))


@pytest.fixture
def scarce() -> Iterator[EngineProcess]:
    """Give an engine with few descriptors."""
    with running(limited(LIMIT)) as engine:
        yield engine


def held(pid: int) -> int:
    """How many descriptors a process has."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def fill(engine: EngineProcess) -> tuple[list[str], str]:
    """Start containers until one is refused; the names of those that run, and the refusal."""
    names: list[str] = []
    while len(names) < LIMIT:
        name = f"c{len(names)}"
        done = engine.docker("run", "-d", "--name", name, "--network", "none", "busybox", "sleep", "1000", check=False)
        if done.code:
            return names, done.err
        names.append(name)
    raise AssertionError("no limit was met")


def test_a_container_costs_one_descriptor(own_engine: EngineProcess) -> None:
    """Of wherryd; none of the spawner; and it is given back."""
    engine = own_engine
    engine.docker("run", "--rm", "busybox", "true")
    names = [f"c{number}" for number in range(8)]
    engine.docker("run", "-d", "--name", "first", "busybox", "sleep", "1000")

    def settled(wherryd: int, spawner: int) -> bool:
        # what is opened when first needed, such as the spawner's line to the spare, may have come since
        found = held(engine.pid), held(engine.spawner)
        return found[0] <= wherryd + 2 and found[1] <= spawner + 2

    before = held(engine.pid), held(engine.spawner)
    for name in names:
        engine.docker("run", "-d", "--name", name, "busybox", "sleep", "1000")
    until(lambda: settled(before[0] + len(names), before[1]), f"one more than {before} for each container")
    engine.docker("rm", "-f", *names)
    until(lambda: settled(*before), f"{before} again")


def test_at_the_limit(scarce: EngineProcess) -> None:
    """A start is refused in words; exec, restart, stop and rm work; what one gives back is there for the next."""
    engine = scarce
    names, refusal = fill(engine)
    assert len(names) > LIMIT // 3
    for words in (f"too many open files: wherryd may have {LIMIT} descriptors", HINT):
        assert words in refusal, refusal
    assert "internal error" not in refusal
    until(lambda: len(os.listdir(engine.roots.sandboxes)) == len(names), "nothing of the refused one is left")
    assert engine.docker("exec", names[0], "echo", "here").out == "here\n"
    engine.docker("restart", "-t", "0", *names[:3])
    assert engine.docker("ps", "-q").out.count("\n") == len(names)
    engine.docker("stop", "-t", "0", names[0], names[1])
    engine.docker("start", names[0])
    # fifty at once
    done = engine.docker("rm", "-f", *engine.docker("ps", "-aq").out.split())
    assert not done.err
    engine.assert_nothing_runs()
    engine.docker("run", "--rm", "busybox", "true")


def test_many_starts_at_once_at_the_limit(scarce: EngineProcess) -> None:
    """Each is either done or refused in words, and as many run as one after another."""
    engine = scarce
    names = [f"c{number}" for number in range(LIMIT)]
    for name in names:
        # one by one: made at once, they are as many connections
        engine.docker("create", "--name", name, "--network", "none", "busybox", "sleep", "1000")

    def start(name: str) -> str:
        return engine.docker("start", name, check=False).err

    with ThreadPoolExecutor(8) as pool:
        refused = [words for words in pool.map(start, names) if words]
    assert all("too many open files: wherryd may have" in words for words in refused), refused
    assert len(names) - len(refused) > LIMIT // 3
    assert engine.docker("ps", "-q").out.count("\n") == len(names) - len(refused)


def test_a_lower_limit_after_a_restart(scarce: EngineProcess) -> None:
    """With the same limit all are taken over; with one that is too low the engine says so and touches none."""
    engine = scarce
    names, _ = fill(engine)
    engine.kill()
    engine.start()
    assert engine.docker("ps", "-q").out.count("\n") == len(names)
    first = monitor(engine, names[0])
    engine.kill()
    enough, engine.program = engine.program, ("prlimit", "--nofile=64:64", WHERRYD)
    engine.launch()
    assert engine.process is not None
    assert engine.process.wait(30) == 1
    engine.process = None
    assert f"{len(names)} running containers cannot be taken over: too many open files" in engine.log_tail()
    engine.program = enough
    engine.start()
    assert engine.docker("ps", "-q").out.count("\n") == len(names)
    assert monitor(engine, names[0]) == first


def test_more_connections_than_descriptors(scarce: EngineProcess) -> None:
    """They wait in the kernel's queue, without busy waiting; those that were accepted are served to the end."""
    engine = scarce
    engine.docker("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    first = UnixConnection(engine.roots.socket, 30)
    first.request("GET", "/_ping")
    first.getresponse().read()
    logged = engine.log.read_text()
    flood = []
    try:
        for _ in range(2 * LIMIT):
            flood.append(socket.socket(socket.AF_UNIX))
            flood[-1].connect(engine.roots.socket)
        until(lambda: "new connections wait" in engine.log.read_text()[len(logged) :], "they wait")
        for method, path in (("POST", "/containers/web/stop?t=0"), ("DELETE", "/containers/web")):
            first.request(method, path)
            answer = first.getresponse()
            answer.read()
            assert answer.status == 204
    finally:
        for one in flood:
            one.close()
        first.close()
    engine.docker("run", "--rm", "busybox", "true")
    said = engine.log.read_text()[len(logged) :]
    assert "Too many open files" not in said
    assert said.count("\n") < LIMIT, said[:2000]


def test_what_else_begins_at_the_limit(scarce: EngineProcess) -> None:
    """A pull, a build and an export are refused in the same words."""
    engine = scarce
    names, _ = fill(engine)
    commands: tuple[tuple[str, ...], ...] = (("pull", "127.0.0.1:1/nothing"), ("build", "-"), ("export", names[0]))
    for command in commands:
        done = engine.docker(*command, stdin=b"FROM busybox\nRUN true\n", check=False)
        assert HINT in done.err, (command, done)
