"""`kill -9` of wherryd, the spawner and monitors: containers go on, exits are recorded, and nothing is left behind."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import EngineProcess, children, cmdline, monitor, running, until
from tests.e2e.shared import lent

pytestmark = pytest.mark.root

KEPT = (b"wherry-spawner", b"wherry-spare")
COUNT = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done"


@pytest.fixture(scope="module")
def crash_engine() -> Iterator[EngineProcess]:
    """Give an engine for this module alone: it is killed again and again."""
    with running(EngineProcess()) as engine:
        yield engine


@pytest.fixture
def engine(crash_engine: EngineProcess) -> Iterator[EngineProcess]:
    """Give that engine running, without containers; whatever the test left is removed."""
    with lent(crash_engine) as engine:
        yield engine
    crash_engine.assert_nothing_runs()


def state(engine: EngineProcess, name: str) -> dict[str, Any]:
    """`State` as inspect shows it."""
    shown: dict[str, Any] = json.loads(engine.docker("inspect", "-f", "{{json .State}}", name).out)
    return shown


def kill(pid: int) -> None:
    """`kill -9`; one that is gone is no error."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def gone(pid: int) -> bool:
    """No such process, or a zombie of it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def is_monitor(pid: int) -> bool:
    """Whether a process of the cgroup of monitors lives, and is neither the spawner nor the spare."""
    try:
        return not gone(pid) and not cmdline(pid).startswith(KEPT)
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_containers_outlive_the_engine(engine: EngineProcess) -> None:
    """After `kill -9` of wherryd and a new start: the same ids, addresses and ports, and every verb goes on."""
    page = "echo hello >/index.html; httpd -h / -p 80; exec sleep 1000"
    engine.docker("run", "-d", "--name", "web", "-p", "127.0.0.1::80", "busybox", "sh", "-c", page)
    engine.docker("run", "-d", "--name", "counter", "busybox", "sh", "-c", COUNT)
    engine.docker("run", "-d", "--name", "held", "busybox", "sleep", "1000")
    engine.docker("pause", "held")
    shown = ".Id .Name .State.Pid .State.StartedAt .NetworkSettings.IPAddress .NetworkSettings.MacAddress .State.Status"
    line = " ".join(f"{{{{{field}}}}}" for field in shown.split()) + " {{json .NetworkSettings.Ports}}"
    names = ("web", "counter", "held")
    before = engine.docker("inspect", "-f", line, *names).out
    port = engine.docker("port", "web", "80/tcp").out.strip()
    engine.kill()
    fetch = ("curl", "-s", "--max-time", "5", f"http://{port}/")
    assert engine.run(*fetch).out == "hello\n"
    engine.start()
    assert engine.docker("inspect", "-f", line, *names).out == before
    assert engine.run(*fetch).out == "hello\n"
    assert sorted(engine.docker("ps", "--format", "{{.Names}}").out.split()) == sorted(names)
    assert engine.docker("exec", "web", "cat", "/index.html").out == "hello\n"
    assert engine.docker("exec", "web", "sh", "-c", "exit 9", code=9).out == ""
    assert engine.docker("logs", "--tail", "1", "counter").out.startswith("line ")
    followed = engine.run("sh", "-c", "docker logs -f --tail 1 counter | head -5").out.split("\n")
    numbers = [int(entry.split()[1]) for entry in followed if entry]
    assert numbers == list(range(numbers[0], numbers[0] + 5))
    attached = engine.run("sh", "-c", "docker attach --no-stdin --sig-proxy=false counter | head -2").out
    assert attached.count("line ") == 2
    engine.docker("unpause", "held")
    engine.docker("restart", "-t", "0", "web")
    assert engine.docker("port", "web", "80/tcp").out.strip()
    # a new container gets an address of its own
    addresses = engine.docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", *names).out.split()
    engine.docker("run", "-d", "--name", "fresh", "busybox", "sleep", "1000")
    assert engine.docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "fresh").out.strip() not in addresses
    engine.docker("stop", "-t", "0", *names)
    assert state(engine, "held")["ExitCode"] == 137
    engine.docker("rm", *names)


def test_exits_meanwhile_are_recorded(engine: EngineProcess) -> None:
    """What ended while wherryd was away has its code; what was run with --rm is removed, what policies want starts."""
    wait = "while [ ! -e /go/go ]; do sleep 0.02; done; "
    go = engine.base / "go"
    go.mkdir(exist_ok=True)
    bind = ("-v", f"{go}:/go")
    engine.docker("run", "-d", "--name", "seven", *bind, "busybox", "sh", "-c", f"{wait}echo last; exit 7")
    engine.docker("run", "-d", "--name", "zero", *bind, "busybox", "sh", "-c", wait + "exit 0")
    engine.docker("run", "-d", "--name", "brief", "--rm", *bind, "busybox", "sh", "-c", wait + "exit 3")
    policy = ("--restart", "always", "--name", "again")
    engine.docker(
        "run", "-d", *policy, *bind, "busybox", "sh", "-c", wait.replace("go ]", "again ]") + "rm /go/again; exit 1"
    )
    pids = [state(engine, name)["Pid"] for name in ("seven", "zero", "brief", "again")]
    engine.kill()
    (go / "go").touch()
    (go / "again").touch()
    until(lambda: all(gone(pid) for pid in pids[:3]), "the containers have ended")
    engine.start()
    assert state(engine, "seven")["ExitCode"] == 7
    assert state(engine, "seven")["Status"] == "exited"
    assert state(engine, "zero")["ExitCode"] == 0
    assert engine.docker("logs", "seven").out == "last\n"
    until(lambda: not engine.docker("ps", "-aq", "--filter", "name=brief").out, "the --rm container is removed")
    until(lambda: state(engine, "again")["Running"] and state(engine, "again")["Pid"] != pids[3], "it runs again")
    engine.docker("rm", "-f", "again", "seven", "zero")


def test_an_attached_client_does_not_notice(engine: EngineProcess) -> None:
    """A client that is attached over the death of wherryd gets every line, before and after."""
    with subprocess.Popen(
        ["docker", "run", "--name", "stream", "busybox", "sh", "-c", COUNT],
        env=engine.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as client:
        assert client.stdout is not None
        seen = [client.stdout.readline() for _ in range(5)]
        engine.kill()
        seen += [client.stdout.readline() for _ in range(10)]
        engine.start()
        seen += [client.stdout.readline() for _ in range(10)]
        assert seen == [f"line {n}\n" for n in range(1, 26)]
        engine.docker("kill", "stream")
        rest = client.stdout.read().splitlines()
        assert rest == [f"line {n}" for n in range(26, 26 + len(rest))]
        client.wait(10)
    # its streams end before the engine has written down why
    until(lambda: state(engine, "stream")["ExitCode"] == 137, "the exit is known")


def test_an_exec_outlives_the_engine(engine: EngineProcess) -> None:
    """The stream of an exec goes on over a restart of wherryd, and its exit code arrives."""
    engine.docker("run", "-d", "--name", "home", "busybox", "sleep", "1000")
    script = "echo begun; while [ ! -e /go ]; do sleep 0.02; done; echo ended; exit 5"
    with subprocess.Popen(
        ["docker", "exec", "home", "sh", "-c", script], env=engine.env, stdout=subprocess.PIPE, text=True
    ) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "begun\n"
        engine.kill()
        engine.start()
        engine.docker("exec", "home", "touch", "/go")
        assert client.stdout.read() == "ended\n"
        assert client.wait(10) == 5


def test_the_spawner_is_replaced(engine: EngineProcess) -> None:
    """A killed spawner: the next run works, what runs is untouched, and no zombie stays."""
    engine.docker("run", "-d", "--name", "runs", "busybox", "sleep", "1000")
    pid = state(engine, "runs")["Pid"]
    for _ in range(3):
        spawner = engine.spawner
        os.kill(spawner, signal.SIGKILL)
        assert engine.docker("run", "--rm", "busybox", "echo", "works").out == "works\n"
        assert engine.spawner != spawner
    assert state(engine, "runs")["Pid"] == pid
    assert engine.docker("exec", "runs", "echo", "yes").out == "yes\n"
    until(lambda: len(children(engine.pid)) == 1, "wherryd has one child, and no zombies")
    engine.docker("rm", "-f", "runs")


def test_a_killed_monitor(engine: EngineProcess) -> None:
    """Its processes are killed: 137; with a restart policy it runs again; the waiting client is answered."""
    engine.docker("run", "-d", "--name", "plain", "busybox", "sh", "-c", "sleep 999 & sleep 1000")
    engine.docker("run", "-d", "--name", "always", "--restart", "always", "busybox", "sleep", "1000")
    inside = state(engine, "always")["Pid"]
    with subprocess.Popen(["docker", "wait", "plain"], env=engine.env, stdout=subprocess.PIPE, text=True) as waiter:
        os.kill(monitor(engine, "plain"), signal.SIGKILL)
        os.kill(monitor(engine, "always"), signal.SIGKILL)
        assert waiter.communicate(timeout=20)[0] == "137\n"
    shown = state(engine, "plain")
    assert (shown["Status"], shown["ExitCode"], shown["OOMKilled"]) == ("exited", 137, False)
    until(lambda: gone(inside), "its processes are gone")
    until(lambda: state(engine, "always")["Running"] and state(engine, "always")["Pid"] != inside, "it runs again")
    engine.docker("start", "plain")
    assert state(engine, "plain")["Running"]
    engine.docker("rm", "-f", "plain", "always")


def test_a_lost_exit_is_not_invented(engine: EngineProcess) -> None:
    """Where nobody saw the end of process 1, the code is 255 and State.Error says that it is lost."""
    engine.docker("run", "-d", "--name", "lost", "busybox", "sleep", "1000")
    engine.docker("run", "-d", "--name", "killed", "busybox", "sleep", "1000")
    inside, watcher = state(engine, "lost")["Pid"], monitor(engine, "lost")
    other = monitor(engine, "killed")
    engine.kill()
    os.kill(watcher, signal.SIGKILL)
    os.kill(other, signal.SIGKILL)
    os.kill(inside, signal.SIGTERM)
    os.kill(inside, signal.SIGKILL)
    until(lambda: gone(inside), "process 1 is gone")
    engine.start()
    shown = state(engine, "lost")
    assert (shown["Status"], shown["ExitCode"], shown["OOMKilled"]) == ("exited", 255, False)
    assert "killed" in shown["Error"]
    shown = state(engine, "killed")
    assert (shown["Status"], shown["ExitCode"], shown["Error"]) == ("exited", 137, "")
    engine.docker("start", "lost", "killed")
    assert state(engine, "lost")["Running"]
    engine.docker("rm", "-f", "lost", "killed")


def test_a_start_that_fails_meanwhile(engine: EngineProcess) -> None:
    """wherryd is killed during a start that then fails: the next one shows what any failed start leaves."""
    for flags in ((), ("--rm",)):
        rounds = 0
        while not fails_meanwhile(engine, *flags):
            rounds += 1
            assert rounds < 20, "the failure reached wherryd before the signal in every round"


def test_a_failed_start_outlives_the_engine(engine: EngineProcess, tmp_path: Path) -> None:
    """`State` of a start that failed is the same after a restart of wherryd: of the first start, and of a later one."""
    source = tmp_path / "source"
    source.mkdir()
    engine.docker("create", "--name", "first", "busybox", "/no/such")
    engine.docker("run", "--name", "later", "busybox", "sh", "-c", "mv /bin/sh /moved; exit 3", code=3)
    engine.docker("run", "--name", "early", "--mount", f"type=bind,src={source},dst=/b", "busybox", "true")
    source.rmdir()
    names = {"first": ("created", 127), "later": ("exited", 127), "early": ("exited", 128)}
    for name in names:
        engine.docker("start", name, code=1)
    before = {name: state(engine, name) for name in names}
    assert {name: (value["Status"], value["ExitCode"]) for name, value in before.items()} == names
    assert all(value["Error"] for value in before.values())
    engine.kill()
    engine.start()
    assert {name: state(engine, name) for name in names} == before


def fails_meanwhile(engine: EngineProcess, *flags: str) -> bool:
    """Kill wherryd during a start of no program, and check what the next wherryd shows.

    Returns:
        Whether the start failed after wherryd was killed.
    """
    since = time.time()
    id_ = engine.docker("create", "--name", "fails", *flags, "busybox", "/no/such").out.strip()
    path = Path(engine.roots.sandbox(id_)) / "state.json"
    with subprocess.Popen(["docker", "start", "fails"], env=engine.env, stderr=subprocess.DEVNULL) as client:
        while not path.exists() and client.poll() is None:
            pass  # not a moment is lost: the failure follows the monitor's first word within milliseconds
        engine.kill()
        client.wait(20)
    met = path.exists()
    if met:
        until(lambda: json.loads(path.read_text())["status"] == "stopped", "the start has failed")
    engine.start()
    if flags:
        until(lambda: not engine.docker("ps", "-aq").out, "it is removed")
    else:
        shown = state(engine, "fails")
        assert (shown["Status"], shown["ExitCode"], shown["OOMKilled"]) == ("created", 127, False)
        assert engine.docker("start", "fails", code=1).err.startswith(f"Error response from daemon: {shown['Error']}\n")
        assert state(engine, "fails") == shown
        engine.docker("rm", "fails")
    words = (
        "--since",
        f"{since:.3f}",
        "--until",
        f"{time.time():.3f}",
        "--filter",
        f"container={id_}",
        "--format",
        "{{.Action}}",
    )
    assert "die" not in engine.docker("events", *words).out.split()
    return met


@pytest.mark.parametrize("victim", ["wherryd", "spawner", "monitor", "all"])
def test_killed_in_the_midst_of_a_step(engine: EngineProcess, victim: str) -> None:
    """Killed at odd moments of create, start, stop and rm: what is there afterwards can be used and removed."""
    rounds = int(os.environ.get("WHERRY_KILLS", "5"))
    killed = number = 0
    command = (
        "docker create --name half busybox sleep 1000 && docker start half && docker stop -t 0 half && docker rm half"
    )
    # further rounds where none of them met a process of that kind
    while number < rounds or (not killed and number < 10 * rounds):
        with subprocess.Popen(
            ["sh", "-c", command], env=engine.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as client:
            # spread over the half second that these four take, or longer on a machine that needs it
            delay = 0.6 * ((number * 0.618034) % 1.0) * (1 + number // rounds)
            number += 1
            try:
                client.wait(delay)
            except subprocess.TimeoutExpired:
                delay = 0
            if victim in ("wherryd", "all"):
                engine.kill()
            if victim == "spawner":
                found = children(engine.pid)
            else:
                found = engine.group("monitors") if victim != "wherryd" else []
            for pid in found:
                if victim != "monitor" or is_monitor(pid):
                    kill(pid)
                    killed += 1
            killed += victim == "wherryd"
            client.wait(30)
        if engine.process is None:
            engine.start()
        names = engine.docker("ps", "-a", "--format", "{{.Names}}").out.split()
        assert names in ([], ["half"])
        on_disk = os.listdir(engine.roots.containers)
        assert len(on_disk) == len(names)
        if names:
            shown = state(engine, "half")
            assert shown["Status"] in ("created", "running", "exited"), shown
            codes = {"wherryd": (137,), "spawner": (137,)}.get(victim, (137, 255))
            assert shown["Status"] != "exited" or shown["ExitCode"] in codes, shown
            assert bool(shown["Error"]) == (shown["ExitCode"] not in (0, 137)), shown
            engine.docker("start", "half")
            assert state(engine, "half")["Running"]
            engine.docker("rm", "-f", "half")
        engine.assert_nothing_runs()
        until(lambda: not os.listdir(engine.roots.trash), "the trash is emptied")
        assert not os.listdir(engine.roots.containers)
    assert killed, "no round met a process to kill"


def test_a_power_failure(engine: EngineProcess) -> None:
    """Everything dies and the run root is gone: what ran is lost (255), what ended keeps its code."""
    engine.docker("run", "-d", "--name", "ran", "busybox", "sleep", "1000")
    engine.docker("run", "-d", "--name", "back", "--restart", "on-failure", "busybox", "sleep", "1000")
    engine.docker("run", "-d", "--rm", "--name", "brief", "busybox", "sleep", "1000")
    engine.docker("run", "--name", "ended", "busybox", "sh", "-c", "exit 4", code=4)
    engine.docker("run", "--name", "failed", "busybox", "nowhere", code=127)
    engine.docker("create", "--name", "never", "busybox", "true")
    engine.kill()
    assert engine.group("containers") and engine.group("monitors")
    for pid in engine.processes():
        kill(pid)
    until(lambda: not engine.processes(), "all are dead")
    shutil.rmtree(engine.roots.run)
    engine.start()
    shown = {name: state(engine, name) for name in ("ran", "ended", "failed", "never")}
    codes = {name: (value["Status"], value["ExitCode"]) for name, value in shown.items()}
    assert codes == {
        "ran": ("exited", 255),
        "ended": ("exited", 4),
        "failed": ("created", 127),
        "never": ("created", 0),
    }
    assert "not known" in shown["ran"]["Error"]
    until(lambda: state(engine, "back")["Running"], "its policy starts it")
    assert not engine.docker("ps", "-aq", "--filter", "name=brief").out
    engine.docker("start", "ran", "never")


def test_monitors_are_not_left(engine: EngineProcess) -> None:
    """After all of that only the spawner is in the cgroup of monitors."""

    assert engine.group("monitors"), "the spawner is looked for where it is"

    def strays() -> list[int]:
        return [pid for pid in engine.group("monitors") if is_monitor(pid)]

    until(lambda: not strays(), "no monitor is left")
