"""Events: also those that nobody watched, and those of an engine that was killed since."""

import contextlib
import json
import sqlite3
import time
from pathlib import Path

import pytest

from tests.e2e.harness import EngineProcess, until

pytestmark = pytest.mark.root


def history(engine: EngineProcess, *flags: str) -> list[str]:
    """The actions of the last minutes, up to now."""
    window = ("--since", "10m", "--until", "0s")
    lines = engine.docker("events", *window, "--format", "{{json .}}", *flags).out.splitlines()
    return [json.loads(line)["Action"] for line in lines]


def stored(engine: EngineProcess, name: str) -> list[str]:
    """What the database has of a container's story."""
    with contextlib.closing(sqlite3.connect(f"file:{engine.roots.database}?mode=ro", uri=True)) as database:
        bodies = [json.loads(body) for (body,) in database.execute("SELECT body FROM events ORDER BY number")]
    return [body["Action"] for body in bodies if body["Actor"]["Attributes"].get("name") == name]


def test_what_nobody_watched(own_engine: EngineProcess) -> None:
    """A run, a killed engine, an end without an engine: afterwards the whole story is there, in order, and filtered."""
    engine = own_engine
    engine.docker("run", "--rm", "--name", "e1", "-l", "team=a", "busybox", "true")
    engine.docker("run", "-d", "--name", "e2", "busybox", "sleep", "1000")
    pid = engine.docker("inspect", "-f", "{{.State.Pid}}", "e2").out.strip()
    whole = ["create", "attach", "start", "die", "destroy"]
    until(lambda: set(history(engine, "--filter", "container=e1")) == set(whole), "the first story")
    until(lambda: stored(engine, "e2") == ["create", "start"], "the journal, which is written half a second behind")
    engine.kill()
    engine.run("kill", "-9", pid)
    engine.start()
    first = history(engine, "--filter", "container=e1")
    assert sorted(first) == sorted(whole)
    assert history(engine, "--filter", "container=e2") == ["create", "start", "die"]
    assert history(engine, "--filter", "label=team=a") == first
    assert history(engine, "--filter", "label=team=b") == []
    assert history(engine, "--filter", "event=die", "--filter", "type=container") == ["die", "die"]
    shown = engine.wherry("events", "--since", "10m", "--until", "0s", "--filter", "event=die").out
    assert [line.split()[1:3] for line in shown.splitlines()] == [["container", "die"]] * 2
    assert "exitCode=137" in shown
    engine.stop()
    engine.start()
    assert history(engine, "--filter", "container=e2") == ["create", "start", "die"]


def test_a_story_in_order_for_who_watches(engine: EngineProcess) -> None:
    """Everything that is done to a container, as it is done, with dockerd's attributes."""
    since = time.time()
    engine.docker("run", "-d", "--name", "e1", "busybox", "sleep", "1000")
    engine.docker("pause", "e1")
    engine.docker("unpause", "e1")
    engine.docker("rename", "e1", "e2")
    engine.docker("update", "--cpu-shares", "512", "e2")
    engine.docker("exec", "e2", "true")
    engine.docker("top", "e2")
    engine.docker("stop", "-t", "0", "e2")
    engine.docker("start", "e2")
    engine.docker("restart", "-t", "0", "e2")
    engine.docker("kill", "e2")
    engine.docker("wait", "e2")
    engine.docker("rm", "e2")
    window = ("--since", f"{since:.6f}", "--until", f"{time.time():.6f}")
    lines = engine.docker("events", *window, "--filter", "type=container", "--format", "{{json .}}").out.splitlines()
    events = [json.loads(line) for line in lines]
    actions = [event["Action"].split(":")[0] for event in events]
    assert [action for action in actions if action != "exec_die"] == [
        *("create", "start", "pause", "unpause", "rename", "update", "exec_create", "exec_start", "top"),
        *("kill", "kill", "die", "stop", "start", "kill", "kill", "die", "stop", "start", "restart"),
        *("kill", "die", "destroy"),
    ]
    attributes = [event["Actor"]["Attributes"] for event in events]
    assert attributes[actions.index("rename")]["oldName"] == "/e1"
    assert attributes[actions.index("kill")]["signal"] == "15"
    assert {"execDuration", "exitCode", "image", "name"} <= set(attributes[actions.index("die")])
    assert all(event["time"] == event["timeNano"] // 10**9 for event in events)


def test_what_has_just_happened(engine: EngineProcess) -> None:
    """Who asks for the past right after an answer finds what the answer was about, whatever way `now` is written."""
    ways = (("docker", "0s"), ("docker", "{:.9f}"), ("wherry", "0s"), ("wherry", "{:.9f}"))
    for number, (command, now) in enumerate(ways):
        ask = engine.docker if command == "docker" else engine.wherry
        engine.docker("volume", "create", f"just{number}")
        engine.docker("volume", "rm", f"just{number}")
        for window in (("--since", "10m"), ()):
            told = ask("events", *window, "--until", now.format(time.time()), "--filter", f"volume=just{number}").out
            assert [line.split()[2] for line in told.splitlines()] == ["create", "destroy"], (command, now, window)
    refused = engine.docker("events", "--since", "5", "--until", "4", code=1)
    assert "`since` time (5) cannot be after `until` time (4)" in refused.err


def _codes(state: Path) -> set[int | None]:
    return {entry["code"] for entry in json.loads(state.read_text())["execs"]}


def test_health_and_ends_without_an_engine(own_engine: EngineProcess) -> None:
    """What monitors saw while wherryd was away is told afterwards, once, each with the time at which it happened."""
    engine = own_engine
    check = ("--health-cmd", "test -e /ok", "--health-interval", "50ms", "--health-retries", "1")
    engine.docker("run", "-d", "--name", "e1", *check, "busybox", "sleep", "1000")
    engine.docker("run", "-d", "--name", "e2", "busybox", "sh", "-c", "until [ -e /go ]; do sleep 0.05; done; exit 3")
    until(lambda: history(engine, "--filter", "event=health_status") == ["health_status: unhealthy"], "it is unhealthy")
    root = f"/proc/{engine.docker('inspect', '-f', '{{.State.Pid}}', 'e1').out.strip()}/root"
    other = f"/proc/{engine.docker('inspect', '-f', '{{.State.Pid}}', 'e2').out.strip()}/root"
    id_ = engine.docker("inspect", "-f", "{{.Id}}", "e1").out.strip()
    ended = Path(engine.roots.container(engine.docker("inspect", "-f", "{{.Id}}", "e2").out.strip()), "exit.json")
    state = Path(engine.roots.sandbox(id_), "health.json")

    def known() -> str:
        return str(json.loads(state.read_text())["status"])

    for number in (7, 8):
        engine.docker("exec", "-d", "e1", "sh", "-c", f"until [ -e /go{number} ]; do sleep 0.05; done; exit {number}")
    engine.kill()
    for word in ("healthy", "unhealthy", "healthy"):
        Path(root, "ok").touch() if word == "healthy" else Path(root, "ok").unlink()
        until(lambda word=word: known() == word, f"the monitor finds it {word}")  # type: ignore[misc]
    Path(other, "go").touch()
    until(ended.exists, "it has ended")
    Path(root, "go7").touch()
    until(lambda: _codes(state.with_name("state.json")) == {7, None}, "one exec has ended")
    Path(root, "go8").touch()
    until(lambda: _codes(state.with_name("state.json")) == {7, 8}, "the other, too")
    back = time.time_ns()
    for _ in range(2):
        engine.start()
        story = ["unhealthy", "healthy", "unhealthy", "healthy"]
        told = engine.docker("events", "--until", "0s", "--filter", "container=e1", "--format", "{{json .}}").out
        events = [json.loads(line) for line in told.splitlines()]
        health = [event for event in events if event["Action"].startswith("health_status")]
        assert [event["Action"].partition(": ")[2] for event in health] == story
        assert all(event["timeNano"] < back for event in health)
        assert sorted(event["timeNano"] for event in health) == [event["timeNano"] for event in health]
        window = ("--until", "0s", "--filter", "container=e2", "--filter", "event=die", "--format", "{{json .}}")
        (died,) = (json.loads(line) for line in engine.docker("events", *window).out.splitlines())
        assert died["timeNano"] == json.loads(ended.read_text())["finished_at"] < back
        assert died["Actor"]["Attributes"]["exitCode"] == "3"
        window = ("--until", "0s", "--filter", "container=e1", "--filter", "event=exec_die", "--format", "{{json .}}")
        execs = [json.loads(line) for line in engine.docker("events", *window).out.splitlines()]
        assert [event["Actor"]["Attributes"]["exitCode"] for event in execs] == ["7", "8"]
        assert all(event["timeNano"] < back for event in execs)
        engine.kill()
    engine.start()
