"""A restart of wherryd while containers come and go: every address, port and name is whose it was."""

import itertools
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import EngineProcess, running, until

pytestmark = pytest.mark.root

# at full size: WHERRY_ADOPTION=200,30,20
STEADY, FLIGHTY, KILLS = (int(word) for word in os.environ.get("WHERRY_ADOPTION", "10,4,3").split(","))


@pytest.fixture
def engine() -> Iterator[EngineProcess]:
    """Give an engine of the test's own, with a network `front`."""
    with running(EngineProcess()) as made:
        made.docker("network", "create", "front")
        yield made


def shown(engine: EngineProcess, *names: str) -> dict[str, dict[str, Any]]:
    """What inspect shows, by name."""
    return {one["Name"][1:]: one for one in json.loads(engine.docker("inspect", *names).out)} if names else {}


def place(one: dict[str, Any]) -> tuple[object, ...]:
    """What a container has of the networks, and that it is the same run."""
    networks = one["NetworkSettings"]["Networks"]
    addresses = {name: (value["IPAddress"], value["MacAddress"]) for name, value in networks.items()}
    return one["Id"], one["State"]["Pid"], one["State"]["Error"], addresses, one["NetworkSettings"]["Ports"]


def inside(pid: int) -> list[str]:
    """The addresses that a container really has, without loopback."""
    done = subprocess.run(
        ["nsenter", "-t", str(pid), "-n", "ip", "-o", "-4", "addr"], capture_output=True, text=True, check=True
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    return [words[3].partition("/")[0] for words in lines if words[1] != "lo"]


def populate(engine: EngineProcess, steady: int, flighty: int, seconds: float) -> list[str]:
    """Make containers that stay, some with a port and on two networks, and such that end again and again."""
    names = [f"steady{number}" for number in range(steady)]
    kinds = itertools.cycle([(), ("-p", "127.0.0.1::80"), ("--network", "front"), ("--network", "front", "-p", "80")])
    serve = "echo $HOSTNAME >/index.html; httpd -h / -p 80; exec sleep 100000"
    flee = f"sleep {seconds}; exit 1"
    # in turns: the addresses of those that stay and of those that go are mixed
    for number in range(max(steady, flighty)):
        if number < flighty:
            engine.docker("run", "-d", "--restart", "always", "--name", f"flees{number}", "busybox", "sh", "-c", flee)
        if number < steady:
            words = ("run", "-d", "--name", names[number], "--hostname", names[number], *next(kinds))
            engine.docker(*words, "busybox", "sh", "-c", serve)
    return names


def check_unique(engine: EngineProcess) -> None:
    """No address is two containers'."""
    # one look at each network: containers come and go meanwhile
    for network in json.loads(engine.docker("network", "inspect", "bridge", "front").out):
        addresses = [one["IPv4Address"] for one in network["Containers"].values()]
        assert len(addresses) == len(set(addresses)), network["Containers"]


def check_steady(engine: EngineProcess, names: list[str], before: dict[str, tuple[object, ...]]) -> None:
    """Those that stay have what they had, and it works."""
    now = shown(engine, *names)
    assert {name: place(one) for name, one in now.items()} == before
    for name, one in now.items():
        networks = one["NetworkSettings"]["Networks"].values()
        assert sorted(inside(one["State"]["Pid"])) == sorted(value["IPAddress"] for value in networks), name
        for binding in (one["NetworkSettings"]["Ports"] or {}).get("80/tcp") or []:
            if ":" not in binding["HostIp"]:
                page = engine.run("curl", "-s", "--max-time", "10", f"http://127.0.0.1:{binding['HostPort']}/").out
                assert page == f"{name}\n"
    assert "network lost" not in engine.docker("ps").out


def test_killed_again_and_again(engine: EngineProcess) -> None:
    """wherryd ends and begins, by SIGTERM and by SIGKILL, among containers that end every second."""
    names = populate(engine, STEADY, FLIGHTY, 1)
    before = {name: place(one) for name, one in shown(engine, *names).items()}
    for number in range(KILLS):
        if number % 2:
            engine.stop()
        else:
            engine.kill()
        select.select([], [], [], (number % 4) * 0.4)  # how many have ended meanwhile differs
        engine.start()
        check_steady(engine, names, before)
        check_unique(engine)


def test_nothing_starts_before_all_are_adopted(engine: EngineProcess) -> None:
    """A container found ended is not started again before the others have what is theirs, however long that takes."""
    names = populate(engine, 6, 4, 0.5)
    before = {name: place(one) for name, one in shown(engine, *names).items()}
    ids = {name: one["Id"] for name, one in shown(engine, *names).items()}
    states = [Path(engine.roots.sandbox(id_)) / "state.json" for id_ in ids.values()]
    engine.kill()
    flighty = [path for path in Path(engine.roots.sandboxes).glob("*/state.json") if path not in states]
    # adoption goes by id: the first of those that flee is met before these
    later = [path for path in states if path > min(flighty)]
    monitors = [int(json.loads(path.read_text())["monitor"]["pid"]) for path in later]

    def ended() -> bool:
        return all(json.loads(path.read_text())["status"] == "stopped" for path in flighty)

    until(ended, "those that flee have ended")
    for pid in monitors:
        os.kill(pid, signal.SIGSTOP)
    try:
        engine.launch()
        # time enough for many a restart, were they not held back
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            again = [path for path in flighty if path.exists() and "running" in path.read_text()]
            assert not again, f"started before the others were adopted: {again}"
            select.select([], [], [], 0.05)
    finally:
        for pid in monitors:
            os.kill(pid, signal.SIGCONT)
    until(lambda: engine.docker("version", check=False).code == 0, "wherryd answers", 30)
    check_steady(engine, names, before)
    restarts = ("inspect", "-f", "{{.RestartCount}}", "flees0")
    until(lambda: int(engine.docker(*restarts).out) > 1, "those that flee are started again")
    check_unique(engine)


def test_what_cannot_be_taken_back_is_shown(engine: EngineProcess) -> None:
    """An address that is another's by then: inspect and ps say so, and nothing else of it stays taken."""
    engine.docker("run", "-d", "--name", "one", "-p", "80", "busybox", "sleep", "1000")
    engine.docker("run", "-d", "--name", "two", "-p", "80", "busybox", "sleep", "1000")
    one, two = (shown(engine, name)[name] for name in ("one", "two"))
    engine.kill()
    paths = {name: Path(engine.roots.sandbox(value["Id"])) / "launch.json" for name, value in (("1", one), ("2", two))}
    # somebody has written into the run root: both say the same port
    first, second = (json.loads(paths[name].read_text()) for name in ("1", "2"))
    second["ports"] = first["ports"]
    paths["2"].write_text(json.dumps(second))
    engine.start()
    lost = [name for name in ("one", "two") if "is lost" in shown(engine, name)[name]["State"]["Error"]]
    assert len(lost) == 1
    assert "port is already allocated" in shown(engine, lost[0])[lost[0]]["State"]["Error"]
    assert "(network lost)" in engine.docker("ps", "--filter", f"name={lost[0]}").out
    network = ("network", "inspect", "bridge", "-f", "{{len .Containers}}")
    assert engine.docker(*network).out.strip() == "1"
    engine.docker("restart", "-t", "0", lost[0])
    assert shown(engine, lost[0])[lost[0]]["State"]["Error"] == ""
    assert "network lost" not in engine.docker("ps").out
    assert engine.docker(*network).out.strip() == "2"
    check_unique(engine)
