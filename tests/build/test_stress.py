"""Builds that do not wait for each other, nor for what never comes; and what an engine does, on request."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build.conftest import Context
from tests.build.stress import Stress
from tests.e2e.harness import EngineProcess, running, until

pytestmark = pytest.mark.root

BUILDS = int(os.environ.get("WHERRY_BUILDS", "33"))
# far more than a build takes on a busy machine
PATIENCE = 120.0


@pytest.fixture(scope="module")
def stressed() -> Iterator[EngineProcess]:
    """Give an engine whose processes are killed."""
    with running(EngineProcess()) as engine:
        yield engine


def test_no_build_hangs(stressed: EngineProcess) -> None:
    """Cache mounts of every kind, several builds at once, clients that leave: each comes to its end."""
    stress = Stress(stressed, seconds=PATIENCE, kills=False)
    stress.run(BUILDS, at_once=6)
    assert stress.done["built"] > stress.done["failed as it should"] > 0
    stressed.assert_nothing_runs()


def test_no_build_hangs_while_processes_are_killed(stressed: EngineProcess) -> None:
    """The spawner, spare processes, monitors and launches: a build goes on, or fails and says why."""
    stress = Stress(stressed, seconds=PATIENCE, kills=True)
    stress.run(BUILDS, at_once=6)
    assert sum(stress.done.values()) == BUILDS
    until(lambda: not stressed.cgroups(), "nothing of a killed step is left")


def test_a_step_mounts_the_cache_that_it_has_alone_twice(context: Context) -> None:
    """It waited for itself, for ever."""
    mount = "--mount=type=cache,id=twice,sharing=locked"
    context.write("Dockerfile", f"FROM busybox\nRUN {mount},target=/a {mount},target=/b echo 1 >/a/f && cat /b/f >/c\n")
    words = ("docker", "build", "-q", "-t", "twice", str(context.directory))
    context.engine.run(*words, env={"DOCKER_BUILDKIT": "0"}, seconds=60)
    assert context.run("twice", "cat", "/c") == "1\n"


def test_an_engine_tells_what_it_does(engine: EngineProcess) -> None:
    """SIGUSR1 has it write its stacks where its volatile state lies, for its owner alone; it goes on."""
    run = Path(engine.roots.run)
    os.kill(engine.pid, signal.SIGUSR1)
    until(lambda: "stacks written to" in engine.log.read_text(), "the log says where they are")
    (written,) = run.glob("stacks-*.log")
    try:
        text = written.read_text()
        assert "thread MainThread:" in text
        assert "thread database:" in text
        # the innermost wait of a task, too
        assert "daemon.py" in text
        assert "Event.wait" in text
        assert written.stat().st_mode & 0o777 == 0o600
    finally:
        written.unlink()
    engine.docker("version")
