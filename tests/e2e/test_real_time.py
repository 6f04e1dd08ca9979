"""`--cpu-rt-period` and `--cpu-rt-runtime`: a budget for real-time processes, where the kernel has groups of them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import EngineProcess, running

pytestmark = pytest.mark.root

CPU = Path("/sys/fs/cgroup/cpu")
ASKED = ("--cpu-rt-period", "500000", "--cpu-rt-runtime", "2000")
TRUE = ("busybox", "true")


@pytest.fixture
def engine() -> Iterator[EngineProcess]:
    """An engine of its own: its cgroups get a budget."""
    with running(EngineProcess()) as engine:
        yield engine


def _pid(engine: EngineProcess, id_: str) -> int:
    return int(engine.docker("inspect", "-f", "{{.State.Pid}}", id_).out)


def test_real_time_budgets(engine: EngineProcess) -> None:
    """With a budget a process can be a real-time one, without it the kernel refuses; other kernels are named."""
    run = ("run", "--rm")
    if not (CPU / "cpu.rt_runtime_us").exists():
        refused = engine.docker(*run, *ASKED, *TRUE, check=False)
        assert refused.code == 125 and "Your kernel does not support CPU real-time scheduler" in refused.err
        return
    refused = engine.docker(*run, "--cpu-rt-runtime", "2000", "--cpu-rt-period", "1000", *TRUE, check=False)
    assert refused.code == 125 and "cpu real-time runtime cannot be higher than cpu real-time period" in refused.err
    # nobody has given the engine's own cgroups a budget: a part of nothing cannot be had, and the error says of what
    refused = engine.docker(*run, *ASKED, *TRUE, check=False)
    assert refused.code == 125 and "CPU real-time runtime" in refused.err, refused
    top = CPU / engine.roots.scope
    for directory in (top, top / "containers"):
        (directory / "cpu.rt_runtime_us").write_text("20000")
    id_ = engine.docker("run", "-d", *ASKED, "busybox", "sleep", "1000").out.strip()
    held = top / "containers" / id_
    assert (held / "cpu.rt_period_us").read_text() == "500000\n"
    assert (held / "cpu.rt_runtime_us").read_text() == "2000\n"
    os.sched_setscheduler(_pid(engine, id_), os.SCHED_FIFO, os.sched_param(1))
    without = engine.docker("run", "-d", "busybox", "sleep", "1000").out.strip()
    with pytest.raises(PermissionError):
        os.sched_setscheduler(_pid(engine, without), os.SCHED_FIFO, os.sched_param(1))
