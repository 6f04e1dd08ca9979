"""wherryd's side: the spawner kept alive, monitors and workers asked of it. (`handle.py`: one monitor; adoption.)

With `handle.py` and `requests.py` this is what of the package runs on asyncio. It never forks: the spawner is executed
with posix_spawn(3) or vfork. All calls belong to the event loop's thread.
"""

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from json import JSONDecodeError, loads
from typing import Any

from wherry.errors import MonitorLost, NotBegun, Unavailable, WherryError, from_wire
from wherry.linux import descriptors
from wherry.linux.channel import Channel, pair
from wherry.linux.interpreter import sealed_interpreter
from wherry.linux.signals import SIGKILL, send_by_pidfd
from wherry.monitor.handle import MonitorHandle, adopt
from wherry.monitor.requests import Event, Requests

__all__ = ["MonitorHandle", "Spawner", "adopt"]

_FIRST_BACKOFF = 0.02
_LONGEST_BACKOFF = 0.8
_STABLE_SECONDS = 5.0
_VARIABLES = frozenset({"PATH", "TZ", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR"})
_READY_SECONDS = 10.0
_RESULT_LIMIT = 16 << 20
_TRIES = 3
# kinds of workers for which there is always room: they give something back
_ENDING = frozenset({"remove"})

log = logging.getLogger("wherry.monitor")

_CODE = (
    "import sys; sys.path[:] = {path!r}; from wherry.monitor import lean; lean.install(); "
    "from wherry.monitor.spawner import main; main({fd})"
)


class Spawner:
    """The spawner process, executed now and again whenever it dies.

    Args:
        cgroups: directories (one per hierarchy) whose `cgroup.procs` it is put into before it forks anything.
        path: `sys.path` of the new process; by default this one's.
        on_respawn: called when a dead one has been replaced, with how many there have been.
    """

    def __init__(
        self,
        cgroups: tuple[str, ...] = (),
        path: list[str] | None = None,
        on_respawn: Callable[[int], None] | None = None,
    ) -> None:
        self._cgroups = cgroups
        # absolute: the spawner works in /, and a launcher may have been called by a relative path
        self._path = [os.path.abspath(entry) for entry in (path or sys.path) if entry]
        self.on_respawn = on_respawn
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: Requests | None = None
        self._ready: asyncio.Future[None] | None = None
        self._backoff = _FIRST_BACKOFF
        self._born = 0.0
        self._count = 0
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int | None:
        """Its pid while it runs."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Execute it. Raises Unavailable when that fails."""
        try:
            self._execute()
        except OSError as error:
            raise Unavailable(f"the spawner cannot be executed: {error}") from None

    async def close(self) -> None:
        """End it; what it forked lives on."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._requests is not None:
            self._requests.close()
            self._requests = None
        process, self._process = self._process, None
        if process is not None:
            await _reap(process)
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(Unavailable("the spawner is closed"))
            self._ready.exception()

    async def spawn_monitor(self, launch: Mapping[str, Any], fds: Mapping[str, int] | None = None) -> MonitorHandle:
        """Fork a monitor, which launches at once; the result comes as an event of the handle.

        Args:
            launch: the launch object of the contract.
            fds: `ns:<type>` and `attach:<n>`; they stay the caller's, who closes them.

        Raises:
            NotBegun: the spawner was killed before it had forked the monitor, or together with it: who asks again has
                to make sure first that nothing of this launch is there.
            Unavailable: there is no spawner, and none can be started.
        """
        ours, theirs = pair()
        try:
            try:
                reply, _ = await self._request(
                    {"op": "monitor", "launch": dict(launch)}, {"control": theirs.fileno(), **(fds or {})}
                )
            finally:
                theirs.close()
        except SpawnerKilled:
            return await _find(ours, launch["run_dir"])
        except BaseException:
            ours.close()
            raise
        return MonitorHandle(reply["pid"], reply["start_time"], ours, launch["run_dir"])

    async def run_worker(
        self,
        kind: str,
        args: Mapping[str, Any],
        fds: Mapping[str, int] | None = None,
        progress: Callable[[Event], None] | None = None,
    ) -> Event:
        """Fork a worker and wait for its result; again, if it or the spawner was killed before it had begun.

        When the caller is cancelled the worker is killed.

        Args:
            kind: a name of `workers.KINDS`.
            args: plain JSON values.
            fds: named descriptors; they stay the caller's.
            progress: gets each progress object.

        Raises:
            Unavailable: it was killed, or there is no spawner.
            TooManyOpenFiles: this process has only the descriptors left that it keeps to end things.
            WherryError: what the worker raised, as its class.
        """
        if kind not in _ENDING:
            descriptors.check()
        for _ in range(_TRIES - 1):
            try:
                return await self._run_worker(kind, args, fds, progress)
            except NotBegun as error:
                log.warning("%s; it is tried again", error)
        return await self._run_worker(kind, args, fds, progress)

    async def _run_worker(
        self,
        kind: str,
        args: Mapping[str, Any],
        fds: Mapping[str, int] | None,
        progress: Callable[[Event], None] | None,
    ) -> Event:
        read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(write, True)
        pidfd, ended = -1, False
        try:
            try:
                _, received = await self._request(
                    {"op": "worker", "kind": kind, "args": dict(args)}, {**(fds or {}), "result": write}
                )
                pidfd = received.get("pidfd", -1)
                ended = pidfd < 0
            except SpawnerKilled:
                pass  # it may have forked the worker before: the pipe tells
            finally:
                os.close(write)
            try:
                begun, result = await _read_result(read, pidfd, progress, ended=ended)
            except BaseException:
                if pidfd >= 0:
                    _kill(pidfd)
                raise
            if not begun:
                raise NotBegun(f"the process for the work {kind!r} was killed before it began", kind=kind)
            if result is None:
                raise Unavailable(f"the process for the work {kind!r} was killed before it was done", kind=kind)
            if "error" in result:
                raise from_wire(result["error"])
            value = result["ok"]
            return value if isinstance(value, dict) else {"value": value}
        finally:
            os.close(read)
            if pidfd >= 0:
                os.close(pidfd)

    # ---- inner

    async def _request(self, message: Event, fds: Mapping[str, int]) -> tuple[Event, dict[str, int]]:
        if self._closed:
            raise Unavailable("the spawner is closed")
        if self._requests is not None:
            self._requests.read()  # its end may be waiting to be read: nothing is sent to a dead one
        if self._requests is None:
            # it has just died: its successor is a moment away
            if self._ready is None:
                self._ready = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(_READY_SECONDS):
                    await asyncio.shield(self._ready)
            except TimeoutError:
                raise _dead() from None
        requests = self._requests
        if requests is None:
            raise _dead()
        return await requests.request(message, fds)

    def _execute(self) -> None:
        ours, theirs = pair()
        image = -1
        try:
            image = sealed_interpreter()
            code = _CODE.format(path=self._path, fd=theirs.fileno())
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", code],
                executable=f"/proc/self/fd/{image}" if image >= 0 else sys.executable,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # processes that join a container have this memory: a proxy's password is not for them
                env={name: value for name, value in os.environ.items() if name in _VARIABLES},
                pass_fds=[theirs.fileno(), image] if image >= 0 else [theirs.fileno()],
                cwd="/",
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            if image >= 0:
                os.close(image)
        try:
            for directory in self._cgroups:
                with open(f"{directory}/cgroup.procs", "w", encoding="ascii") as file:
                    file.write(str(self._process.pid))
        except OSError:
            ours.close()
            self._process.kill()
            self._process.wait()
            self._process = None
            raise
        loop = asyncio.get_running_loop()
        self._born = loop.time()
        self._count += 1
        self._requests = Requests(ours, lambda _message: None, self._died, _dead)
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)
        self._ready = None

    def _died(self) -> None:
        loop = asyncio.get_running_loop()
        self._requests = None
        process, self._process = self._process, None
        if process is not None:
            process.kill()  # its socket is closed: it is dead, or as good as
            process.wait()
        if self._closed:
            return
        if loop.time() - self._born > _STABLE_SECONDS:
            self._backoff = _FIRST_BACKOFF
        self._timer = loop.call_later(self._backoff, self._respawn)
        self._backoff = min(self._backoff * 2, _LONGEST_BACKOFF)

    def _respawn(self) -> None:
        if self._closed:
            return
        try:
            self._execute()
        except OSError:
            self._timer = asyncio.get_running_loop().call_later(_LONGEST_BACKOFF, self._respawn)
            return
        if self.on_respawn is not None:
            self.on_respawn(self._count)


class SpawnerKilled(Unavailable):
    """The spawner was killed while a request was under way, or before it; what it forked for that goes on."""


def _dead() -> WherryError:
    return SpawnerKilled("the process that starts containers (wherry-spawner) was killed; it is started again")


async def _find(ours: Channel, run_dir: str) -> MonitorHandle:
    """Make a handle of the monitor that a killed spawner may have forked: if there is one, it has the other end.

    Raises:
        NotBegun: there is none.
    """
    handle = MonitorHandle(0, 0, ours, run_dir)
    try:
        async with asyncio.timeout(_READY_SECONDS):
            state = (await handle.request("state"))["state"]
    except (MonitorLost, TimeoutError):
        handle.close()
        raise NotBegun("the process that starts containers (wherry-spawner) was killed meanwhile: try again") from None
    except BaseException:
        handle.close()
        raise
    handle.pid, handle.start_time = int(state["monitor"]["pid"]), int(state["monitor"]["start_time"])
    return handle


def _kill(pidfd: int) -> None:
    try:
        send_by_pidfd(pidfd, SIGKILL)
    except ProcessLookupError:
        return


async def _reap(process: "subprocess.Popen[bytes]") -> None:
    """Wait for a spawner that was told to end, and make it after two seconds."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    pidfd = os.pidfd_open(process.pid)
    loop.add_reader(pidfd, ended.set)
    try:
        async with asyncio.timeout(2.0):
            await ended.wait()
    except TimeoutError:
        process.kill()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        process.wait()


async def _read_result(
    fd: int, pidfd: int, progress: Callable[[Event], None] | None, *, ended: bool
) -> tuple[bool, Event | None]:
    """Read lines until the end of the pipe, or of the worker: an empty one when it begins, progress, and the result.

    A process that the worker has left behind may hold the pipe open for ever.

    Args:
        pidfd: the worker's; -1 where there is none.
        ended: it has ended already.

    Returns:
        Whether the worker has begun, and its result.
    """
    loop = asyncio.get_running_loop()
    buffer, begun, result = bytearray(), False, None
    dead = asyncio.Event()
    while True:
        readable: asyncio.Future[None] = loop.create_future()
        loop.add_reader(fd, _resolve, readable)
        if pidfd >= 0:
            loop.add_reader(pidfd, _ended, readable, dead)
        elif ended:
            _ended(readable, dead)
        try:
            await readable
        finally:
            loop.remove_reader(fd)
            if pidfd >= 0:
                loop.remove_reader(pidfd)
        try:
            # what a dead worker has written is in the pipe: after that it is empty
            data = os.read(fd, 65536)
        except BlockingIOError:
            if dead.is_set():
                return begun, result
            continue
        if not data:
            return begun, result
        begun = True
        buffer += data
        while (end := buffer.find(b"\n")) >= 0:
            if not end:
                del buffer[:1]
                continue
            try:
                value = loads(bytes(buffer[:end]))
            except JSONDecodeError:
                value = {}
            del buffer[: end + 1]
            if "ok" in value or "error" in value:
                result = value
            elif progress is not None:
                progress(value)
        if len(buffer) > _RESULT_LIMIT:
            raise Unavailable("a worker's answer has no end")


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _ended(future: "asyncio.Future[None]", dead: asyncio.Event) -> None:
    dead.set()
    _resolve(future)
