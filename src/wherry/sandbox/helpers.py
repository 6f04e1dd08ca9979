"""Helpers: processes of the host that serve containers (netd, HAProxy), each under a monitor of its own.

One is started when it is first needed, found again by a later wherryd, and started once more when it dies. It is no
container: `ps` does not know it. Its run directory is `<run root>/helpers/<name>`, its log in `<data root>/helpers`.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

from wherry.errors import MonitorLost, Unavailable, WherryError, from_wire
from wherry.linux.background import background
from wherry.monitor.client import MonitorHandle
from wherry.paths import Roots
from wherry.runtime.cgroups import open_cgroup
from wherry.sandbox.ports import EventHandler, LostHandler

log = logging.getLogger("wherry.helpers")

START_SECONDS = 20.0
END_SECONDS = 10.0
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 5.0
_STABLE_SECONDS = 10.0
_LOG_SIZE, _LOG_FILES = 5 << 20, 2

Spawn = Callable[[dict[str, Any], dict[str, int], EventHandler, LostHandler], Awaitable[MonitorHandle]]
Adopt = Callable[[str, EventHandler, LostHandler], Awaitable[MonitorHandle]]


class Helper:
    """One helper; made by `Helpers.helper`.

    Args:
        owner: all helpers.
        name: `netd`, `haproxy`.
        what: the launch object's `helper` (`monitor/host.py`).
    """

    def __init__(self, owner: "Helpers", name: str, what: dict[str, Any]) -> None:
        self._owner = owner
        self.name = name
        self.what = what
        self.run_dir = owner.roots.helper_run(name)
        self.data_dir = owner.roots.helper(name)
        self.pid = 0
        self.on_started: Callable[[], None] = lambda: None
        """Called each time that it runs anew, or is found running."""
        self._monitor: MonitorHandle | None = None
        self._lock = asyncio.Lock()
        self._started: asyncio.Future[None] | None = None
        self._pause = _FIRST_PAUSE
        self._born = 0.0
        self._wanted = False
        self._again: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether its process has been seen alive."""
        return self.pid != 0

    @property
    def left(self) -> bool:
        """Whether an earlier engine has left something of it."""
        return os.path.isdir(self.run_dir)

    async def ensure(self) -> None:
        """Make sure that it runs: find it, or start it.

        Raises:
            WherryError: why it cannot be started.
        """
        self._wanted = True
        async with self._lock:
            if not self.running:
                await self._find_or_start()

    async def end(self) -> None:
        """End it, and remove what is volatile of it."""
        self._wanted = False
        if self._again is not None:
            self._again.cancel()
        async with self._lock:
            monitor, self._monitor = self._monitor, None
            self.pid = 0
            if monitor is None and self.left:
                try:
                    monitor = await self._owner.adopt(self.run_dir, lambda _event: None, lambda: None)
                except WherryError:
                    monitor = None
            if monitor is not None:
                try:
                    async with asyncio.timeout(END_SECONDS):
                        await monitor.request("end")
                        await monitor.wait_dead()
                except (MonitorLost, TimeoutError) as error:
                    log.warning("the monitor of %s did not end as it should: %s", self.name, error)
                finally:
                    monitor.close()
            await self._clear()

    def leave(self) -> None:
        """Forget it; it goes on."""
        self._wanted = False
        if self._again is not None:
            self._again.cancel()
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None

    # ---- inner

    async def _find_or_start(self) -> None:
        if self._monitor is None and self.left:
            try:
                await self._adopt()
            except WherryError as error:
                log.warning("%s is not found again: %s", self.name, error)
                await self._clear()
        if not self.running:
            await self._start()

    async def _adopt(self) -> None:
        monitor = self._monitor = await self._owner.adopt(self.run_dir, self._event, self._lost)
        async with asyncio.timeout(START_SECONDS):
            while True:
                state = (await monitor.request("state"))["state"]
                if state["status"] != "starting":
                    break
                await asyncio.sleep(0.01)  # its start was under way when wherryd was killed
        if state["status"] == "running" and not self.running:
            self._running(state["init"]["pid"])

    async def _start(self) -> None:
        for directory in (self.run_dir, self.data_dir):
            os.makedirs(directory, mode=0o700, exist_ok=True)
        started = self._started = asyncio.get_running_loop().create_future()
        launch = self._launch()
        try:
            async with asyncio.timeout(START_SECONDS):
                if self._monitor is not None:
                    await self._monitor.request("again", launch=launch)
                else:
                    self._monitor = await self._owner.spawn(launch, {}, self._event, self._lost)
                await started
        except TimeoutError:
            raise Unavailable(f"{self.name} did not start within {START_SECONDS:.0f} seconds") from None
        finally:
            self._started = None
            if not started.done():
                started.cancel()
            elif not started.cancelled():
                started.exception()  # its monitor's end may have been told twice

    def _launch(self) -> dict[str, Any]:
        return {
            "id": self.name,
            "run_dir": self.run_dir,
            "data_dir": self.data_dir,
            "cgroup": self._cgroup,
            "helper": self.what,
            "log": {
                "driver": "json-file",
                "path": f"{self.data_dir}/{self.name}.log",
                "max_size": _LOG_SIZE,
                "max_file": _LOG_FILES,
                "attrs": {},
            },
            "network": None,
            "attach": [],
        }

    @property
    def _cgroup(self) -> str:
        return f"/{self._owner.roots.scope}/helpers/{self.name}"

    def _event(self, event: dict[str, Any]) -> None:
        kind = event.get("event")
        if kind == "started":
            self._running(event["pid"])
            if self._started is not None and not self._started.done():
                self._started.set_result(None)
        elif kind == "start-failed":
            if self._started is not None and not self._started.done():
                self._started.set_exception(from_wire(event["error"]))
        elif kind == "exited":
            if self._wanted:
                log.warning("%s ended with code %s", self.name, event.get("code"))
            self._gone()

    def _running(self, pid: int) -> None:
        self.pid = pid
        self._born = asyncio.get_running_loop().time()
        self.on_started()

    def _lost(self) -> None:
        if self._started is not None and not self._started.done():
            self._started.set_exception(MonitorLost(f"the monitor of {self.name} ended"))
        self._monitor = None
        log.warning("the monitor of %s was killed", self.name)
        self._gone()

    def _gone(self) -> None:
        self.pid = 0
        if self._wanted and (self._again is None or self._again.done()):
            self._again = background().stand(f"start {self.name} again", self._revive)

    async def _revive(self) -> None:
        loop = asyncio.get_running_loop()
        while self._wanted and not self.running:
            if loop.time() - self._born > _STABLE_SECONDS:
                self._pause = _FIRST_PAUSE
            await asyncio.sleep(self._pause)
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)
            try:
                async with self._lock:
                    if self._wanted and not self.running:
                        if self._monitor is None:
                            await self._clear()
                        await self._start()
            except WherryError as error:
                log.error("%s cannot be started again: %s", self.name, error)

    async def _clear(self) -> None:
        """Kill what no monitor looks after any more, and remove the run directory."""
        await asyncio.get_running_loop().run_in_executor(None, self._clear_now)

    def _clear_now(self) -> None:
        group = open_cgroup(self._cgroup)
        if group.exists():
            group.kill()
            group.remove()
        self._owner.remove_tree(self.run_dir)


class Helpers:
    """All helpers of one engine.

    Args:
        roots: this engine's.
        spawn, adopt: make a monitor, take over a living one.
        remove_tree: removes a small volatile directory.
    """

    def __init__(self, roots: Roots, spawn: Spawn, adopt: Adopt, remove_tree: Callable[[str], None]) -> None:
        self.roots = roots
        self.spawn = spawn
        self.adopt = adopt
        self.remove_tree = remove_tree
        self._helpers: dict[str, Helper] = {}

    def helper(self, name: str, what: dict[str, Any]) -> Helper:
        """The helper of that name; nothing is started yet."""
        found = self._helpers.get(name)
        if found is None:
            found = self._helpers[name] = Helper(self, name, what)
        return found

    async def close(self, *, remove: bool) -> None:
        """Let go of all; with `remove`, end them."""
        for helper in self._helpers.values():
            if not remove:
                helper.leave()
            elif helper.left:
                try:
                    await helper.end()
                except WherryError as error:
                    log.warning("%s: %s", helper.name, error)
