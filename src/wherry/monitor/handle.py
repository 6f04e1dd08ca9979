"""A monitor from wherryd's side: its handle, and how a later wherryd takes over what an earlier one left running."""

import _socket
import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Mapping
from json import JSONDecodeError, loads
from typing import Any

from wherry.errors import MonitorLost, NotSupported, WherryError
from wherry.linux.background import background
from wherry.linux.channel import VERSION, Channel, close_all
from wherry.linux.sockets import connect_at
from wherry.monitor.child import start_time
from wherry.monitor.control import SOCKET_NAME
from wherry.monitor.requests import Event, Requests

ADOPT_SECONDS = 5.0
_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 1.0

log = logging.getLogger("wherry.monitor")


class MonitorHandle:
    """One monitor, from wherryd's side. It costs one descriptor, the connection, which ends with the monitor.

    Attributes:
        pid, start_time: who it is; pid 0: not known yet, and dead when its connection ends.
        state: for an adopted one, its state when it was adopted; else empty.
        on_event: set it to get events (`{"event", …}`); those that came earlier are delivered then.
        on_lost: set it to be called once when the monitor dies before `end` was asked of it.

    A connection that breaks while the monitor lives is made anew; what happened meanwhile comes as the events that were
    missed. Requests that were under way fail.
    """

    def __init__(self, pid: int, start_time: int, channel: Channel, run_dir: str) -> None:
        self.pid = pid
        self.start_time = start_time
        self._pidfd = -1  # only while there is no connection
        self._closed = False
        self.state: Event = {}
        self._run_dir = run_dir
        self._reconnecting: asyncio.Task[None] | None = None
        self._told_of_start = self._told_of_end = False
        self._on_event: Callable[[Event], None] | None = None
        self._on_lost: Callable[[], None] | None = None
        self._early: deque[Event] = deque()
        self._ending = False
        self._lost = False
        self._loop = asyncio.get_running_loop()
        self.dead: asyncio.Future[None] = self._loop.create_future()
        self._requests = Requests(channel, self._event, self._disconnected, self._gone)

    @property
    def alive(self) -> bool:
        """The process has not been seen dead."""
        return not self.dead.done()

    @property
    def on_event(self) -> Callable[[Event], None] | None:
        return self._on_event

    @on_event.setter
    def on_event(self, callback: Callable[[Event], None] | None) -> None:
        self._on_event = callback
        while callback is not None and self._early and self._on_event is callback:
            callback(self._early.popleft())

    @property
    def on_lost(self) -> Callable[[], None] | None:
        return self._on_lost

    @on_lost.setter
    def on_lost(self, callback: Callable[[], None] | None) -> None:
        self._on_lost = callback
        if callback is not None and self._lost:
            self._loop.call_soon(callback)

    async def request(self, op: str, *, fds: Mapping[str, int] | None = None, **args: Any) -> Event:
        """Ask the monitor; see the contract's operations (`attach`, `exec`, `resize`, `signal`, `freeze`, `pids`,
        `update`, `state`, `again`, `end`).

        Args:
            op: operation.
            fds: descriptors; they stay the caller's, who closes them.
            args: its arguments.

        Raises:
            MonitorLost: it is gone, or does not answer because it dies.
            WherryError: what the monitor said, as its class.
        """
        if op == "end":
            self._ending = True
        try:
            reply, received = await self._requests.request({"op": op, **args}, fds)
        except MonitorLost:
            raise
        except WherryError:
            if op == "end":
                self._ending = False
            raise
        close_all(list(received.values()))
        return reply

    async def wait_dead(self) -> None:
        """Wait until the process has ended."""
        await asyncio.shield(self.dead)

    def close(self) -> None:
        """Let go of it: it lives on, and nothing is reported any more."""
        self._requests.close()
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            self._reconnecting = None
        self._closed = True
        self._unwatch()
        if not self.dead.done():
            self.dead.cancel()

    def _gone(self) -> WherryError:
        words = f"the monitor of the container (wherry-monitor, {self.pid}) was killed, or has ended"
        return MonitorLost(words, pid=self.pid)

    def _event(self, event: Event) -> None:
        kind = event.get("event")
        if kind == "started":
            self._told_of_start, self._told_of_end = True, False
        elif kind in ("exited", "start-failed"):
            self._told_of_end = True
        if self._on_event is not None:
            self._on_event(event)
        else:
            self._early.append(event)

    def _disconnected(self) -> None:
        """Connect anew, unless the monitor is dying, which is the usual reason why its connection ends."""
        if self._closed or self.dead.done() or (self._reconnecting is not None and not self._reconnecting.done()):
            return
        if not self.pid:
            self._died()
            return
        if self._pidfd < 0:
            try:
                self._pidfd = os.pidfd_open(self.pid)
                # the descriptor first: what it names cannot change under the check
                if start_time(self.pid) != self.start_time:
                    raise ProcessLookupError
            except (ProcessLookupError, FileNotFoundError):
                self._died()
                return
            except OSError as error:
                # nothing is known: taken for dead, a container that runs would be killed
                log.warning("monitor %d cannot be watched: %s", self.pid, error)
                self._unwatch()
                self._loop.call_later(_LONGEST_PAUSE, self._disconnected)
                return
            self._loop.add_reader(self._pidfd, self._died)
        if not self._ending:
            self._reconnecting = background().stand(f"connect to monitor {self.pid} again", self._reconnect)

    def _unwatch(self) -> None:
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    async def _reconnect(self) -> None:
        pause = _FIRST_PAUSE
        while self.alive and not self._ending:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            try:
                channel = Channel(connect_at(self._run_dir, SOCKET_NAME, _socket.SOCK_SEQPACKET, blocking=False))
            except OSError:
                continue  # it is about to begin to listen, or about to be seen dead
            self._requests = Requests(channel, self._event, self._disconnected, self._gone)
            try:
                async with asyncio.timeout(ADOPT_SECONDS):
                    state = (await self.request("state"))["state"]
            except (TimeoutError, MonitorLost):
                self._requests.close()
                continue
            self._unwatch()
            self._catch_up(state)
            return

    def _catch_up(self, state: Event) -> None:
        """Tell what was missed, as the events that would have told it."""
        ended = state.get("exit") if state["status"] == "stopped" else None
        failed = ended is not None and ended.get("error") is not None
        if not self._told_of_start and not failed and state["status"] != "starting":
            init = state.get("init") or {"pid": (ended or {}).get("pid"), "start_time": 0}
            told = {name: state.get(name) for name in ("started_at", "netns_fd", "endpoints")}
            self._event({"event": "started", **init, **told, "warnings": []})
        for process in state.get("execs") or ():
            if process["code"] is not None:
                self._event({"event": "exec-exited", "exec_id": process["exec_id"], "code": process["code"]})
        if ended is None or self._told_of_end:
            return
        if failed:
            self._event({"event": "start-failed", "error": ended["error"]})
        else:
            told = {name: ended[name] for name in ("code", "signal", "oom", "finished_at")}
            self._event({"event": "exited", **told})

    def _died(self) -> None:
        self._unwatch()
        if self._closed or self.dead.done():
            return
        self.dead.set_result(None)
        self._requests.close()
        if not self._ending:
            self._lost = True
            if self._on_lost is not None:
                self._on_lost()


async def adopt(run_dir: str) -> MonitorHandle:
    """Take over the monitor that serves `run_dir`.

    Returns:
        A handle whose `state` is what the monitor says now.

    Raises:
        MonitorLost: no readable state, the process is another one or gone, or it does not answer within five seconds.
        NotSupported: it speaks a newer protocol than this wherryd.
    """
    try:
        with open(f"{run_dir}/state.json", "rb") as file:
            state = loads(file.read())
        pid, start = int(state["monitor"]["pid"]), int(state["monitor"]["start_time"])
        version = int(state["v"])
    except (OSError, JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise MonitorLost(f"{run_dir}/state.json: {type(error).__name__}: {error}", path=run_dir) from None
    if version > VERSION:
        raise NotSupported(f"monitor {pid} speaks protocol {version}, this engine {VERSION}", pid=pid)
    try:
        if start_time(pid) != start:
            raise MonitorLost(f"monitor {pid} is gone, another process has its number", pid=pid)
        channel = Channel(connect_at(run_dir, SOCKET_NAME, _socket.SOCK_SEQPACKET, blocking=False))
    except OSError as error:
        raise MonitorLost(f"monitor {pid} does not answer: {error}", pid=pid) from None
    handle = MonitorHandle(pid, start, channel, run_dir)
    try:
        async with asyncio.timeout(ADOPT_SECONDS):
            handle.state = (await handle.request("state"))["state"]
            handle._told_of_start = handle.state["status"] in ("running", "paused", "stopped")
            handle._told_of_end = handle.state["status"] == "stopped"
    except TimeoutError:
        handle.close()
        raise MonitorLost(f"monitor {pid} does not answer", pid=pid) from None
    except BaseException:
        handle.close()
        raise
    return handle
