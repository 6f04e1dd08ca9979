"""A spawner with helpers over roots of the test's own; nothing of them is left."""

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import EngineProcess, running
from tests.e2e.shared import lent
from wherry.engine.storage import remove_small_tree
from wherry.monitor.client import MonitorHandle, Spawner
from wherry.monitor.client import adopt as adopt_monitor
from wherry.paths import Roots
from wherry.runtime.cgroups import open_cgroup
from wherry.sandbox.helpers import Helpers
from wherry.sandbox.ports import EventHandler, LostHandler


@pytest.fixture
def roots() -> Iterator[Roots]:
    """Roots of the test's own; what still runs in their cgroups is killed."""
    base = Path(tempfile.mkdtemp(prefix="wherry-test-"))
    made = Roots(str(base / "data"), str(base / "run"))
    yield made
    for name in ("helpers/netd", "helpers/haproxy", "helpers/sleeper", "helpers", ""):
        group = open_cgroup(f"/{made.scope}/{name}".rstrip("/"))
        if group.exists():
            group.kill()
            group.remove()
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="module")
def module_engine() -> Iterator[EngineProcess]:
    """An engine with busybox in it."""
    with running(EngineProcess()) as engine:
        yield engine


@pytest.fixture
def engine(module_engine: EngineProcess) -> Iterator[EngineProcess]:
    """The module's engine; what the test made is removed after it."""
    with lent(module_engine) as engine:
        yield engine


@asynccontextmanager
async def helpers_of(roots: Roots) -> AsyncIterator[Helpers]:
    """The helpers of one engine; leaving it is like the engine's end with containers alive."""
    spawner = Spawner()
    await spawner.start()

    async def spawn(
        launch: dict[str, Any], fds: Mapping[str, int], on_event: EventHandler, on_lost: LostHandler
    ) -> MonitorHandle:
        handle = await spawner.spawn_monitor(launch, fds)
        handle.on_lost, handle.on_event = on_lost, on_event
        return handle

    async def adopt(run_dir: str, on_event: EventHandler, on_lost: LostHandler) -> MonitorHandle:
        handle = await adopt_monitor(run_dir)
        handle.on_lost, handle.on_event = on_lost, on_event
        return handle

    helpers = Helpers(roots, spawn, adopt, remove_small_tree)
    try:
        yield helpers
    finally:
        await helpers.close(remove=False)
        await spawner.close()


async def until(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Poll until `condition` is true."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def kill(pid: int) -> None:
    """SIGKILL; who is gone is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
