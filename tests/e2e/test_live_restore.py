"""`live-restore` off: containers end with the engine, in order, and what restarts always is there again."""

import os
from pathlib import Path

import pytest

from tests.e2e.harness import EngineProcess, running, until

pytestmark = pytest.mark.root

GRACEFUL = 'trap "exit 7" TERM; echo ready; while :; do sleep 0.1; done'


def _exit(engine: EngineProcess, name: str) -> str:
    return engine.docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name).out.strip()


def test_containers_end_with_the_engine() -> None:
    """SIGTERM reaches process 1, its code is kept; nothing runs on; `--restart always` begins again with the engine."""
    with running(EngineProcess("--live-restore=false", "--shutdown-timeout=20")) as engine:
        assert engine.docker("info", "-f", "{{.LiveRestoreEnabled}}").out == "false\n"
        for name, flags in (("once", ()), ("always", ("--restart", "always"))):
            engine.docker("run", "-d", "--name", name, *flags, "busybox", "sh", "-c", GRACEFUL)
            until(lambda name=name: "ready" in engine.docker("logs", name).out, "its trap is set")  # type: ignore[misc]
        before = [int(engine.docker("inspect", "-f", "{{.State.Pid}}", name).out) for name in ("once", "always")]
        engine.stop()
        assert not [pid for pid in before if os.path.exists(f"/proc/{pid}")]
        assert not engine.processes() and not Path(f"/sys/class/net/{engine.roots.bridge}").exists()
        engine.start()
        assert _exit(engine, "once") == "exited 7"
        until(lambda: _exit(engine, "always") == "running 0", "it runs again")


def test_containers_outlive_the_engine_where_it_is_on() -> None:
    """The control: the same stop without the flag leaves the process alone."""
    with running(EngineProcess()) as engine:
        engine.docker("run", "-d", "--name", "stays", "busybox", "sh", "-c", GRACEFUL)
        pid = int(engine.docker("inspect", "-f", "{{.State.Pid}}", "stays").out)
        engine.stop()
        assert os.path.exists(f"/proc/{pid}")
        engine.start()
        assert _exit(engine, "stays") == "running 0"
        assert int(engine.docker("inspect", "-f", "{{.State.Pid}}", "stays").out) == pid
