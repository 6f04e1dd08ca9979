"""wherryd's side: the spawner kept alive, a handle for each monitor, adoption of those that an earlier wherryd made.

This is the one asyncio module of the package. It never forks: the spawner is executed with posix_spawn(3) or vfork.
All calls belong to the event loop's thread.
"""

import _socket
import asyncio
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from json import JSONDecodeError, loads
from typing import Any

from wherry.errors import MonitorLost, NotSupported, Unavailable, WherryError, from_wire
from wherry.linux.channel import VERSION, Channel, close_all, pair
from wherry.linux.sockets import connect_at
from wherry.monitor.control import SOCKET_NAME

ADOPT_SECONDS = 5.0
_FIRST_BACKOFF = 0.02
_LONGEST_BACKOFF = 0.8
_STABLE_SECONDS = 5.0
_READY_SECONDS = 10.0
_RESULT_LIMIT = 16 << 20

_CODE = (
    "import sys; sys.path[:] = {path!r}; from wherry.monitor import lean; lean.install(); "
    "from wherry.monitor.spawner import main; main({fd})"
)

Event = dict[str, Any]


class _Requests:
    """Requests and replies over a channel, from the event loop.

    Args:
        channel: owned; becomes non-blocking.
        on_message: gets what is not a reply.
        on_close: called once when the other side has gone.
        gone: makes the error of requests that get no answer.
    """

    def __init__(
        self,
        channel: Channel,
        on_message: Callable[[Event], None],
        on_close: Callable[[], None],
        gone: Callable[[], WherryError],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._channel: Channel | None = channel
        self._on_message = on_message
        self._on_close = on_close
        self._gone = gone
        self._seq = 0
        self._pending: dict[int, asyncio.Future[tuple[Event, dict[str, int]]]] = {}
        self._queue: deque[tuple[Event, dict[str, int]]] = deque()
        channel.sock.setblocking(False)
        self._fd = channel.fileno()
        self._loop.add_reader(self._fd, self._readable)

    @property
    def open(self) -> bool:
        return self._channel is not None

    async def request(self, message: Event, fds: Mapping[str, int] | None = None) -> tuple[Event, dict[str, int]]:
        """Send and wait; `fds` stay the caller's. Raises the error that came back, or `gone()`."""
        if self._channel is None:
            raise self._gone()
        self._seq += 1
        seq = self._seq
        future: asyncio.Future[tuple[Event, dict[str, int]]] = self._loop.create_future()
        self._pending[seq] = future
        # duplicated: the caller may close its own before a full socket lets the message go
        self._queue.append(({**message, "seq": seq}, {name: os.dup(fd) for name, fd in (fds or {}).items()}))
        self._flush()
        try:
            return await future
        finally:
            self._pending.pop(seq, None)

    def close(self) -> None:
        """Close; pending requests fail. `on_close` is not called."""
        channel, self._channel = self._channel, None
        if channel is None:
            return
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        channel.close()
        for _, fds in self._queue:
            close_all(list(fds.values()))
        self._queue.clear()
        for future in self._pending.values():
            if not future.done():
                future.set_exception(self._gone())
                future.exception()  # whoever waited may be gone: no complaint then
        self._pending.clear()

    def _closed(self) -> None:
        if self._channel is not None:
            self.close()
            self._on_close()

    def _flush(self) -> None:
        channel = self._channel
        while channel is not None and self._queue:
            message, fds = self._queue[0]
            try:
                channel.send(message, fds)
            except BlockingIOError:
                self._loop.add_writer(self._fd, self._flush)
                return
            except WherryError as error:  # over the size of a message: this request only
                future = self._pending.get(message["seq"])
                if future is not None and not future.done():
                    future.set_exception(error)
            except OSError:
                self._closed()
                return
            self._queue.popleft()
            close_all(list(fds.values()))
        if channel is not None:
            self._loop.remove_writer(self._fd)

    def _readable(self) -> None:
        for _ in range(64):
            channel = self._channel
            if channel is None:
                return
            try:
                received = channel.receive()
            except BlockingIOError:
                return
            except (OSError, WherryError):
                received = None
            if received is None:
                self._closed()
                return
            message, fds = received
            if "seq" not in message:
                close_all(list(fds.values()))
                self._on_message(message)
                continue
            future = self._pending.get(message["seq"]) if message["seq"] is not None else None
            if future is None or future.done():
                close_all(list(fds.values()))
            elif "error" in message:
                close_all(list(fds.values()))
                future.set_exception(from_wire(message["error"]))
            else:
                future.set_result((message, fds))


class MonitorHandle:
    """One monitor, from wherryd's side.

    Attributes:
        pid, start_time: who it is.
        pidfd: owned.
        state: for an adopted one, its state when it was adopted; else empty.
        on_event: set it to get events (`{"event", …}`); those that came earlier are delivered then.
        on_lost: set it to be called once when the monitor dies before `end` was asked of it.
        on_disconnect: set it to be called when the connection has closed while the monitor lives.
    """

    def __init__(self, pid: int, start_time: int, pidfd: int, channel: Channel, state: Event | None = None) -> None:
        self.pid = pid
        self.start_time = start_time
        self.pidfd = pidfd
        self.state: Event = state or {}
        self.on_disconnect: Callable[[], None] | None = None
        self._on_event: Callable[[Event], None] | None = None
        self._on_lost: Callable[[], None] | None = None
        self._early: deque[Event] = deque()
        self._ending = False
        self._lost = False
        self._loop = asyncio.get_running_loop()
        self.dead: asyncio.Future[None] = self._loop.create_future()
        self._requests = _Requests(channel, self._event, self._disconnected, self._gone)
        self._loop.add_reader(pidfd, self._died)

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
        if self.pidfd >= 0:
            self._loop.remove_reader(self.pidfd)
            os.close(self.pidfd)
            self.pidfd = -1
        if not self.dead.done():
            self.dead.cancel()

    def _gone(self) -> WherryError:
        return MonitorLost(f"monitor {self.pid} is gone", pid=self.pid)

    def _event(self, event: Event) -> None:
        if self._on_event is not None:
            self._on_event(event)
        else:
            self._early.append(event)

    def _disconnected(self) -> None:
        if self.on_disconnect is not None and not self._ending:
            self.on_disconnect()

    def _died(self) -> None:
        self._requests._readable()
        self._loop.remove_reader(self.pidfd)
        os.close(self.pidfd)
        self.pidfd = -1
        if not self.dead.done():
            self.dead.set_result(None)
        self._requests.close()
        if not self._ending:
            self._lost = True
            if self._on_lost is not None:
                self._on_lost()


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
        self._path = [entry for entry in (path or sys.path) if entry]
        self.on_respawn = on_respawn
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: _Requests | None = None
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
            Unavailable: the spawner died meanwhile.
        """
        ours, theirs = pair()
        try:
            try:
                reply, received = await self._request(
                    {"op": "monitor", "launch": dict(launch)}, {"control": theirs.fileno(), **(fds or {})}
                )
            finally:
                theirs.close()
        except BaseException:
            ours.close()
            raise
        return MonitorHandle(reply["pid"], reply["start_time"], received["pidfd"], ours)

    async def run_worker(
        self,
        kind: str,
        args: Mapping[str, Any],
        fds: Mapping[str, int] | None = None,
        progress: Callable[[Event], None] | None = None,
    ) -> Event:
        """Fork a worker and wait for its result.

        When the caller is cancelled the worker is killed.

        Args:
            kind: a name of `workers.KINDS`.
            args: plain JSON values.
            fds: named descriptors; they stay the caller's.
            progress: gets each progress object.

        Raises:
            Unavailable: it died without a result, or the spawner did.
            WherryError: what the worker raised, as its class.
        """
        read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(write, True)
        pidfd = -1
        try:
            try:
                _, received = await self._request(
                    {"op": "worker", "kind": kind, "args": dict(args)}, {**(fds or {}), "result": write}
                )
            finally:
                os.close(write)
            pidfd = received["pidfd"]
            try:
                result = await _read_result(read, progress)
            except BaseException:
                _kill(pidfd)
                raise
            if result is None:
                raise Unavailable(f"worker {kind} ended without a result", kind=kind)
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
            image = _sealed_interpreter()
            code = _CODE.format(path=self._path, fd=theirs.fileno())
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", code],
                executable=f"/proc/self/fd/{image}" if image >= 0 else sys.executable,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
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
        self._requests = _Requests(ours, lambda _message: None, self._died, _dead)
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
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        raise MonitorLost(f"monitor {pid} is gone: {error}", pid=pid) from None
    try:
        # the descriptor first: what it names cannot change under the check
        from wherry.monitor.child import start_time

        if start_time(pid) != start:
            raise MonitorLost(f"monitor {pid} is gone, another process has its number", pid=pid)
        channel = Channel(connect_at(run_dir, SOCKET_NAME, _socket.SOCK_SEQPACKET, blocking=False))
    except OSError as error:
        os.close(pidfd)
        raise MonitorLost(f"monitor {pid} does not answer: {error}", pid=pid) from None
    except BaseException:
        os.close(pidfd)
        raise
    handle = MonitorHandle(pid, start, pidfd, channel)
    try:
        async with asyncio.timeout(ADOPT_SECONDS):
            handle.state = (await handle.request("state"))["state"]
    except TimeoutError:
        handle.close()
        raise MonitorLost(f"monitor {pid} does not answer", pid=pid) from None
    except BaseException:
        handle.close()
        raise
    return handle


def _dead() -> WherryError:
    return Unavailable("the spawner died")


def _sealed_interpreter() -> int:
    from wherry.linux.interpreter import sealed_interpreter

    return sealed_interpreter()


def _kill(pidfd: int) -> None:
    import signal

    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
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


async def _read_result(fd: int, progress: Callable[[Event], None] | None) -> Event | None:
    """Read lines until the end of the pipe: progress objects, and the result, which is returned."""
    loop = asyncio.get_running_loop()
    buffer, result = bytearray(), None
    while True:
        readable: asyncio.Future[None] = loop.create_future()
        loop.add_reader(fd, _resolve, readable)
        try:
            await readable
        finally:
            loop.remove_reader(fd)
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            continue
        if not data:
            return result
        buffer += data
        while (end := buffer.find(b"\n")) >= 0:
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
