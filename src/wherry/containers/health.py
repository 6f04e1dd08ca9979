"""Health: what a container's monitor is told to ask, what it answered, and who waits for that.

The monitor runs the check (`monitor.health`); this is the engine's view of it.
"""

import asyncio
import json
from typing import Any

from wherry.containers import clock
from wherry.containers.context import Context
from wherry.containers.model import Container
from wherry.containers.spec.process import exec_process
from wherry.wire.containers import Config, ExecConfig

DEFAULT_SHELL = ("/bin/sh", "-c")
POLICY = "on-unhealthy"

Json = dict[str, Any]


def probe(config: Config) -> list[str] | None:
    """The words of the check; None where there is none, or of a kind that dockerd does not know either."""
    check = config.healthcheck
    if check is None or not check.test or len(check.test) < 2:
        return None
    kind, *words = check.test
    if kind == "CMD":
        return words
    return [*(config.shell or DEFAULT_SHELL), *words] if kind == "CMD-SHELL" else None


def settings(context: Context, container: Container, confinement: Json, path: str) -> Json | None:
    """Write the exec message of the probe to `path`, and give the `health` part of the launch; None without a check."""
    config, host = container.record.config, container.record.host_config
    words, check = probe(config), config.healthcheck
    if words is None or check is None:
        return None
    process = exec_process(config, host, ExecConfig(), words, context.machine)
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"process": process, **confinement}, file, separators=(",", ":"))
    return {
        "probe": path,
        "interval": check.interval,
        "timeout": check.timeout,
        "start_period": check.start_period,
        "start_interval": check.start_interval,
        "retries": check.retries,
    }


def started(container: Container) -> None:
    """Process 1 runs: nothing is known of its health yet. The log goes on."""
    if probe(container.record.config) is not None:
        log = container.health["log"] if container.health else []
        container.health = {"status": "starting", "streak": 0, "log": log}


def ended(container: Container) -> None:
    """Process 1 has ended: as with dockerd, what does not run is unhealthy."""
    if container.health is not None:
        container.health["status"] = "unhealthy"
    _answer(container)


def on_result(context: Context, container: Container, event: Json) -> None:
    """Take what a probe found."""
    if container.health is None or any(entry["start"] == event["entry"]["start"] for entry in container.health["log"]):
        return
    log = [*container.health["log"][-4:], event["entry"]]
    container.health = {"status": event["status"], "streak": event["streak"], "log": log}
    if event["changed"]:
        context.event(container, f"health_status: {event['status']}")
    _answer(container)


def recover(container: Container, run_dir: str, data_dir: str) -> None:
    """Read what a monitor left: of a running container in the run directory, else beside its exit."""
    if probe(container.record.config) is None:
        return
    for directory in (run_dir, data_dir):
        try:
            with open(f"{directory}/health.json", "rb") as file:
                value = json.load(file)
            container.health = {name: value[name] for name in ("status", "streak", "log")}
            container.health["changes"] = value.get("changes") or []  # of an older monitor
            return
        except (OSError, ValueError, KeyError, TypeError):
            continue


def tell_missed(context: Context, container: Container) -> None:
    """Tell of the changes that the monitor noted while no engine was there, each with its time."""
    for at, status_ in (container.health or {}).pop("changes", ()):
        context.event(container, f"health_status: {status_}", at)


def shown(container: Container) -> Json | None:
    """Docker's `State.Health`; None where there is no check, or never was a start."""
    health = container.health
    if health is None:
        return None
    return {
        "Status": health["status"],
        "FailingStreak": health["streak"],
        "Log": [
            {
                "Start": clock.rfc3339(entry["start"]),
                "End": clock.rfc3339(entry["end"]),
                "ExitCode": entry["code"],
                "Output": entry["output"],
            }
            for entry in health["log"]
        ],
    }


def status(container: Container) -> str:
    """`none`, `starting`, `healthy` or `unhealthy`."""
    return container.health["status"] if container.health is not None else "none"


def wait(container: Container) -> "asyncio.Future[Json]":
    """A future that is done when the container is healthy (or runs, where it has no check): `{"StatusCode": 0}`.

    When it turns unhealthy, ends, or does not run, the answer holds an `Error` and the exit code, at least 1.
    """
    future: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
    container.health_waiters.append(future)
    _answer(container)
    return future


def _answer(container: Container) -> None:
    answer = _verdict(container)
    if answer is None:
        return
    waiters, container.health_waiters = container.health_waiters, []
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(answer)


def _verdict(container: Container) -> Json | None:
    """What to tell who waits; None: it is not known yet."""
    if not container.running:
        if container.status == "restarting":
            return None
        message = f"container {container.name} is not running: {container.status}"
        return {"StatusCode": container.exit.code or 1, "Error": {"Message": message}}
    state = status(container)
    if state == "unhealthy":
        return {"StatusCode": 1, "Error": {"Message": f"container {container.name} is unhealthy"}}
    return None if state == "starting" else {"StatusCode": 0}
