"""Background work of wherryd: it is counted, it ends, and a stop waits for none that the next engine does as well."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import EngineProcess, monitor, running, until
from tests.e2e.shared import ask, lent

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def stopped_engine() -> Iterator[EngineProcess]:
    """Give an engine for this module alone: it is stopped and started again."""
    with running(EngineProcess()) as engine:
        yield engine


@pytest.fixture
def engine(stopped_engine: EngineProcess) -> Iterator[EngineProcess]:
    """Give that engine; what the test made is removed after it."""
    with lent(stopped_engine) as engine:
        yield engine


def background(engine: EngineProcess) -> dict[str, Any]:
    """What `info` tells of the background work."""
    told: dict[str, Any] = ask(engine, "GET", "/info")["Background"]
    return told


def test_a_stop_does_not_wait_for_a_back_off(engine: EngineProcess) -> None:
    """A container waits for its next start for longer than a stop waits: the next engine starts it."""
    engine.docker("run", "-d", "--name", "fails", "--restart", "always", "busybox", "false")
    count = ("inspect", "-f", "{{.RestartCount}}", "fails")
    # the seventh pause takes 6.4 s; a stop waits for 5
    until(lambda: int(engine.docker(*count).out) >= 7, "it has failed seven times", 60)
    before = len(engine.log.read_text())
    engine.stop()
    assert "did not end" not in engine.log.read_text()[before:]
    engine.start()
    until(lambda: int(engine.docker(*count).out) >= 1, "its policy goes on")


def test_tasks_are_counted_and_named(engine: EngineProcess) -> None:
    """`info` shows each task with its name, age and deadline; the command shows how many there are."""
    until(lambda: background(engine)["Running"] == 0, "the engine is quiet")
    services = background(engine)["Services"]
    assert {"empty the trash", "services", "watch the firewall ruleset"} <= set(services)
    id_ = engine.docker("run", "-d", "--name", "fails", "--restart", "always", "busybox", "false").out.strip()
    until(lambda: int(engine.docker("inspect", "-f", "{{.RestartCount}}", "fails").out) >= 5, "it waits for seconds")
    (task,) = [one for one in background(engine)["Tasks"] if one["Name"] == f"restart {id_[:12]}"]
    assert 0 <= task["Seconds"] < task["Deadline"]
    assert "Background Tasks: 1 (" in engine.wherry("system", "info").out
    engine.docker("rm", "-f", "fails")
    until(lambda: background(engine)["Running"] == 0, "the engine is quiet again")


def test_a_removed_network_leaves_the_trash(engine: EngineProcess) -> None:
    """Its directory is deleted although no container is removed after it."""
    until(lambda: not os.listdir(engine.roots.trash), "the trash is empty")
    engine.docker("network", "create", "brief")
    engine.docker("network", "rm", "brief")
    until(lambda: not os.listdir(engine.roots.trash), "the trash is empty again")


def test_a_monitor_that_does_not_end_is_killed(engine: EngineProcess) -> None:
    """A monitor has told of an exit and then hangs: the container is removed, and nothing of it stays."""
    engine.docker("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    id_, pid = engine.docker("inspect", "-f", "{{.Id}} {{.State.Pid}}", "box").out.split()
    hangs = monitor(engine, "box")
    os.kill(engine.pid, signal.SIGSTOP)
    try:
        os.kill(int(pid), signal.SIGKILL)
        until((Path(engine.roots.container(id_)) / "exit.json").exists, "the exit is recorded")
        state = Path(engine.roots.sandbox(id_)) / "state.json"
        until(lambda: '"stopped"' in state.read_text(), "the monitor knows of it")
        # it tells of the exit, then waits for what comes
        until(lambda: "poll" in Path(f"/proc/{hangs}/wchan").read_text(), "the monitor waits for its end")
        os.kill(hangs, signal.SIGSTOP)
    finally:
        os.kill(engine.pid, signal.SIGCONT)
    assert engine.docker("wait", "box").out == "137\n"
    assert any(one["Name"] == f"settle {id_[:12]}" for one in background(engine)["Tasks"])
    engine.docker("rm", "box")
    until(lambda: not Path(f"/proc/{hangs}").exists(), "the monitor is killed")
    engine.assert_nothing_runs()
    until(lambda: background(engine)["Running"] == 0, "the engine is quiet")
