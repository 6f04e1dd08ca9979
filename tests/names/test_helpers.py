"""Helpers under monitors: started when needed, found again, started once more, gone with the engine or its roots."""

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest

from wherry.errors import CommandNotFound
from wherry.paths import Roots

from .conftest import alive, helpers_of, kill, until

pytestmark = pytest.mark.root

SLEEPER = {"argv": ["/bin/busybox", "sleep", "1000"], "env": {}}


def _monitor(run_dir: str) -> int:
    return int(json.loads(Path(run_dir, "state.json").read_text())["monitor"]["pid"])


def test_a_helper_is_started_found_again_and_ended(roots: Roots) -> None:
    """`ensure` starts it once; a later engine finds the same process; `close(remove=True)` leaves nothing."""

    async def main() -> None:
        async with helpers_of(roots) as first:
            helper = first.helper("sleeper", SLEEPER)
            assert not helper.left
            await asyncio.gather(helper.ensure(), helper.ensure())
            pid = helper.pid
            assert alive(pid)
            assert os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
            assert "helpers/sleeper" in Path(f"/proc/{pid}/cgroup").read_text()
        async with helpers_of(roots) as second:
            helper = second.helper("sleeper", SLEEPER)
            assert helper.left
            await helper.ensure()
            assert helper.pid == pid
            monitor = _monitor(helper.run_dir)
            await second.close(remove=True)
            assert not alive(pid)
            assert not alive(monitor)
            assert not os.path.exists(helper.run_dir)

    asyncio.run(main())


def test_a_helper_that_dies_or_loses_its_monitor_is_started_again(roots: Roots) -> None:
    """kill -9 of the helper, and of its monitor: each time there is one new process, and `on_started` has been told."""

    async def main() -> None:
        async with helpers_of(roots) as helpers:
            helper = helpers.helper("sleeper", SLEEPER)
            started: list[int] = []
            helper.on_started = lambda: started.append(helper.pid)
            await helper.ensure()
            kill(helper.pid)
            await until(lambda: len(started) == 2, "it runs again")
            kill(_monitor(helper.run_dir))
            await until(lambda: len(started) == 3, "it runs under another monitor")
            assert [alive(pid) for pid in started] == [False, False, True]
            await helpers.close(remove=True)
            assert not alive(started[-1])

    asyncio.run(main())


def test_a_helper_ends_when_the_roots_are_removed(roots: Roots) -> None:
    """Nobody is left to end it: the monitor sees its directory go."""

    async def main() -> tuple[int, int]:
        async with helpers_of(roots) as helpers:
            helper = helpers.helper("sleeper", SLEEPER)
            await helper.ensure()
            return helper.pid, _monitor(helper.run_dir)

    pid, monitor = asyncio.run(main())
    assert alive(pid)
    shutil.rmtree(roots.run)
    shutil.rmtree(roots.data)
    asyncio.run(until(lambda: not alive(pid) and not alive(monitor), "both are gone"))


def test_a_program_that_is_missing_is_an_error(roots: Roots) -> None:
    """The start fails in words, and nothing stays behind when the engine closes."""

    async def main() -> None:
        async with helpers_of(roots) as helpers:
            helper = helpers.helper("sleeper", {"argv": ["/nowhere/at/all"], "env": {}})
            with pytest.raises(CommandNotFound, match="/nowhere/at/all"):
                await helper.ensure()
            await helpers.close(remove=True)
            assert not os.path.exists(helper.run_dir)

    asyncio.run(main())
