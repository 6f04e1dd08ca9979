"""`kill -9` of wherryd in every step: finished steps are known to the next build, and nothing is left of the others."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.build.conftest import CLASSIC, Context
from tests.e2e.harness import EngineProcess, until

pytestmark = pytest.mark.root
STEPS = 4


def _dockerfile(waits: int) -> str:
    """Four steps, of which one waits until somebody lets it go on."""
    lines = ["FROM busybox", "COPY f /0"]
    for number in range(1, STEPS):
        wait = "while [ ! -e /shared/go ]; do sleep 0.05; done; " if number == waits else ""
        mount = "--mount=type=cache,id=shared,target=/shared"
        lines.append(f"RUN {mount} touch /shared/at-{number}; {wait}echo {number} > /{number}")
    return "\n".join(lines) + "\n"


def test_killed_in_every_step_the_next_build_goes_on_from_it(own_engine: EngineProcess, tmp_path: Path) -> None:
    """Killed while step n runs: steps before it are cached, no process, mount, staged layer or place is left."""
    context = Context(tmp_path, own_engine)
    context.write("f", "1")
    shared = Path(own_engine.roots.build) / "mounts"

    def runs(number: int) -> None:
        until(lambda: bool(list(shared.glob(f"*/fs/at-{number}"))), f"step {number} runs")

    for number in range(1, STEPS):
        context.write("Dockerfile", _dockerfile(number))
        for mark in shared.glob("*/fs/*"):
            mark.unlink()
        client = subprocess.Popen(
            ["docker", "build", str(context.directory)],
            env={**own_engine.env, **CLASSIC},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        runs(number)
        own_engine.kill()
        client.wait(30)
        until(lambda: not own_engine.cgroups(), "the step ends with its engine")
        own_engine.start()
        own_engine.assert_nothing_runs()
        assert not os.listdir(own_engine.roots.ingest)
        assert not os.path.exists(f"{own_engine.roots.run}/build")
        next(shared.glob("*/fs")).joinpath("go").touch()
        done = context.docker(_dockerfile(number))
        # COPY and the steps before; those before this round's were made with other words
        assert done.out.count("Using cache") >= number
        own_engine.docker("builder", "prune", "-af")


def test_killed_while_a_layer_is_made_nothing_half_is_left(own_engine: EngineProcess, tmp_path: Path) -> None:
    """Killed while a copy is staged, and while a step's layer is written: what the cache then gives is whole.

    Every system call of copying, sealing, the cache and the image's record is killed in `tests/faults/test_builds.py`.
    """
    context = Context(tmp_path, own_engine)
    ingest = Path(own_engine.roots.ingest)
    for number, pattern in enumerate(("layer-*/fs/0", "_*/data")):
        context.write("f", f"{number:04}" * 500_000)
        dockerfile = "FROM busybox\nCOPY f /0\nRUN cat /0 /0 > /1 && echo 1 >> /1\nRUN cat /0 /1 > /2 && echo 2 >> /2\n"
        context.write("Dockerfile", dockerfile)
        client = subprocess.Popen(
            ["docker", "build", str(context.directory)],
            env={**own_engine.env, **CLASSIC},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(lambda: list(ingest.glob(pattern)), f"{pattern} is there")  # noqa: B023
        own_engine.kill()
        client.wait(30)
        own_engine.start()
        own_engine.assert_nothing_runs()
        assert not os.listdir(own_engine.roots.ingest)
        context.docker(dockerfile, "-t", "whole")
        shown = context.run("whole", "sh", "-c", "for n in 1 2; do wc -c < /$n; tail -n 1 /$n | tail -c 2; done")
        assert shown.split() == ["4000002", "1", "6000004", "2"]
