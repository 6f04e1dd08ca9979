"""Health checks through both doors, with wherryd there and away; policies and waits that stand on them."""

import json
import time
from typing import Any

import pytest

from tests.e2e.harness import EngineProcess, until

pytestmark = pytest.mark.root

QUICK = ("--health-interval", "100ms", "--health-retries", "2")


def health(engine: EngineProcess, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engine.docker("inspect", "-f", "{{json .State.Health}}", name).out)
    return found


def status(engine: EngineProcess, name: str) -> str:
    return str(health(engine, name)["Status"])


def test_options_state_events_and_list(engine: EngineProcess) -> None:
    """What was asked, what inspect, ps, its filter and the events say of it."""
    since = time.time()
    engine.docker("run", "-d", "--name", "h1", *QUICK, "--health-cmd", "test -e /ok", "busybox", "sleep", "1000")
    assert "(health: starting)" in engine.docker("ps").out or status(engine, "h1") == "unhealthy"
    until(lambda: status(engine, "h1") == "unhealthy", "it is unhealthy")
    assert "(unhealthy)" in engine.docker("ps", "--filter", "health=unhealthy").out
    engine.docker("exec", "h1", "touch", "/ok")
    until(lambda: status(engine, "h1") == "healthy", "it is healthy")
    assert engine.docker("ps", "-q", "--filter", "health=unhealthy").out == ""
    found = health(engine, "h1")
    assert found["FailingStreak"] == 0
    assert 1 <= len(found["Log"]) <= 5
    assert set(found["Log"][0]) == {"Start", "End", "ExitCode", "Output"}
    config = json.loads(engine.docker("inspect", "-f", "{{json .Config.Healthcheck}}", "h1").out)
    assert config == {"Test": ["CMD-SHELL", "test -e /ok"], "Interval": 100_000_000, "Retries": 2}
    engine.docker("stop", "-t", "0", "h1")
    assert status(engine, "h1") == "unhealthy"
    window = ("--since", f"{since:.6f}", "--until", f"{time.time():.6f}")
    told = engine.docker("events", *window, "--filter", "event=health_status").out
    assert [line.split("health_status: ")[1].split()[0] for line in told.splitlines()] == ["unhealthy", "healthy"]
    # probes make no noise, unlike dockerd's
    everything = engine.docker("events", *window, "--filter", "container=h1").out
    assert everything.count("exec_start") == 1


def test_an_images_check(engine: EngineProcess) -> None:
    """It is run unless the command line takes it away or replaces parts of it."""
    archive = f"{engine.base}/health.tar"
    engine.docker("create", "--name", "src", "busybox")
    root = f"{engine.base}/r"
    engine.run("sh", "-c", f"mkdir -p {root}/bin && cp /bin/busybox {root}/bin/sh && tar -C {root} -cf {archive} .")
    engine.docker("import", "-c", "HEALTHCHECK --interval=100ms CMD exit 0", "-c", 'CMD ["sh"]', archive, "checked")
    try:
        engine.docker("run", "-di", "--name", "a1", "checked")
        engine.docker("run", "-di", "--name", "b1", "--no-healthcheck", "checked")
        engine.docker("run", "-di", "--name", "c1", "--health-cmd", "exit 1", "--health-retries", "1", "checked")
        until(lambda: status(engine, "a1") == "healthy", "the image's check is run")
        until(lambda: status(engine, "c1") == "unhealthy", "the one of the command line instead")
        assert health(engine, "b1") is None
        assert engine.docker("ps", "--filter", "health=none", "--format", "{{.Names}}").out.split() == ["b1"]
    finally:
        engine.remove_all()
        engine.docker("rmi", "checked")


def test_waiting_for_health(engine: EngineProcess) -> None:
    """`--wait` ends with health, with its lack, with the container, or with the time; each has its code."""
    run = ("run", "--wait", *QUICK)
    engine.wherry(*run, "--name", "a1", "--health-cmd", "true", "busybox", "sleep", "1000")
    assert status(engine, "a1") == "healthy"
    assert "is unhealthy" in engine.wherry(*run, "--health-cmd", "false", "busybox", "sleep", "9", code=1).err
    ended = engine.wherry(*run, "--health-cmd", "sleep 9", "busybox", "sh", "-c", "sleep 0.2; exit 7", code=7)
    assert "is not running" in ended.err
    slow = ("--wait-timeout", "1", "--health-cmd", "sleep 9", "busybox", "sleep", "1000")
    assert "not healthy after 1 second" in engine.wherry(*run, *slow, code=124).err
    engine.wherry("run", "--wait", "busybox", "sleep", "1000")
    engine.docker("stop", "-t", "0", "a1")
    engine.wherry("start", "--wait", "a1")
    assert status(engine, "a1") == "healthy"
    engine.wherry("run", "--wait-timeout", "x", "busybox", code=125)


def test_restart_on_unhealthy(engine: EngineProcess) -> None:
    """The policy ends what is unhealthy and starts it again; with a limit it leaves it running in the end."""
    check = ("--health-interval", "100ms", "--health-retries", "1", "--stop-timeout", "1")
    engine.docker(
        "run",
        "-d",
        "--name",
        "r1",
        "--restart",
        "on-unhealthy:2",
        *check,
        "--health-cmd",
        "exit 1",
        "busybox",
        "sleep",
        "1000",
    )

    def now() -> str:
        # at once: what waits to be started again is unhealthy too
        shown = "{{.RestartCount}} {{.State.Status}} {{.State.Health.Status}}"
        return engine.docker("inspect", "-f", shown, "r1").out.strip()

    until(lambda: now() == "2 running unhealthy", "two restarts", 40)
    started = engine.docker("inspect", "-f", "{{.State.StartedAt}}", "r1").out
    until(lambda: health(engine, "r1")["FailingStreak"] > 3, "more probes", 30)
    assert engine.docker("inspect", "-f", "{{.State.StartedAt}}", "r1").out == started
    engine.docker("create", "--restart", "on-unhealthy", "busybox", code=1)


def test_health_while_wherryd_is_away(own_engine: EngineProcess) -> None:
    """The monitor goes on asking: the engine that comes later knows what was found, and acts on it."""
    engine = own_engine
    engine.docker(
        "run",
        "-d",
        "--name",
        "h1",
        *QUICK,
        "--health-cmd",
        "test ! -e /bad",
        "busybox",
        "sh",
        "-c",
        "sleep 2; touch /bad; sleep 1000",
    )
    engine.docker(
        "run",
        "-d",
        "--name",
        "r1",
        *QUICK,
        "--restart",
        "on-unhealthy",
        "--stop-timeout",
        "0",
        "--health-cmd",
        "test ! -e /bad",
        "busybox",
        "sh",
        "-c",
        "sleep 1; touch /bad; sleep 1000",
    )
    until(lambda: status(engine, "h1") == "healthy", "it is healthy")
    id_ = engine.docker("inspect", "-f", "{{.Id}}", "h1").out.strip()
    engine.kill()
    file = f"{engine.roots.sandbox(id_)}/health.json"

    def unhealthy() -> bool:
        with open(file, encoding="utf-8") as lines:
            return bool(json.load(lines)["status"] == "unhealthy")

    until(unhealthy, "the monitor finds it unhealthy")
    engine.start()
    assert status(engine, "h1") == "unhealthy"
    until(lambda: engine.docker("inspect", "-f", "{{.RestartCount}}", "r1").out != "0\n", "the other was replaced")
    engine.docker("kill", "h1")
    engine.stop()
    engine.start()
    assert len(health(engine, "h1")["Log"]) == 5
    engine.assert_no_traceback()
