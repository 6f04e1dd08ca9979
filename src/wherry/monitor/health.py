"""A container's health check, run by its monitor: so also while wherryd is away.

A probe is a process that joins the container like an exec; its output is kept up to 4096 bytes, its exit code counts.
The rules (when a failure counts, how long to wait) are Docker's. What is known lies in `<run_dir>/health.json`, at the
end of the container in `<data_dir>/health.json`:

    {"v", "status": "starting|healthy|unhealthy", "streak": failures in a row,
     "log": [{"start": ns, "end": ns, "code": n, "output"}],                       the last five, oldest first
     "changes": [[ns, status]]}                          when the status changed; what an engine was told of goes
"""

import os
import time
from json import dumps, loads

from wherry.errors import WherryError
from wherry.linux.channel import VERSION
from wherry.linux.files import write_atomic
from wherry.linux.loop import IN
from wherry.linux.process import pidfd_send_signal
from wherry.linux.signals import SIGKILL
from wherry.monitor.children import watch_child
from wherry.monitor.helper import Helper
from wherry.monitor.sandbox import taken
from wherry.values import durations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.linux.loop import Loop
    from wherry.monitor.host import HostProcess
    from wherry.monitor.sandbox import Sandbox

FILE = "health.json"

MAX_OUTPUT = 4096
KEPT = 5
KEPT_CHANGES = 50
_REMEMBERED = 60 * 10**9
_READ = 16 * 1024

INTERVAL = 30 * 10**9
TIMEOUT = 30 * 10**9
START_INTERVAL = 5 * 10**9
RETRIES = 3


class Health:
    """The health of one container, from its start to its end.

    Args:
        loop: the monitor's.
        sandbox: where probes run.
        settings: `health` of a launch: `probe` (a file that holds the exec message), `interval`, `timeout`,
            `start_period`, `start_interval` (nanoseconds, 0: the default), `retries`.
        run_dir: of the file while the container runs.
        data_dir: of the file after its end.
        on_result: called after each probe with `status`, `streak`, `entry` and `changed`.
        on_error: told what nobody expected.
        is_heard: whether an engine is connected, to be told of results.
    """

    __slots__ = (
        "_data_dir",
        "_init_pid",
        "_is_heard",
        "_loop",
        "_on_error",
        "_on_result",
        "_paused",
        "_probe",
        "_run_dir",
        "_sandbox",
        "_settings",
        "_started_at",
        "_stopped",
        "_timer",
        "values",
    )

    def __init__(
        self,
        loop: "Loop",
        sandbox: "Sandbox | HostProcess",
        settings: "dict[str, Any]",
        run_dir: str,
        data_dir: str,
        on_result: "Callable[..., None]",
        on_error: "Callable[[BaseException], None]",
        is_heard: "Callable[[], bool]",
    ) -> None:
        self._loop = loop
        self._is_heard = is_heard
        self._sandbox = sandbox
        self._settings = settings
        self._run_dir = run_dir
        self._data_dir = data_dir
        self._on_result = on_result
        self._on_error = on_error
        self._init_pid = 0
        self._started_at = 0
        self._timer: tuple[float, Callable[[], None]] | None = None
        self._probe: _Probe | None = None
        self._paused = False
        self._stopped = False
        # the log goes on over restarts, as Docker's does
        self.values: dict[str, Any] = {
            "v": VERSION,
            "status": "starting",
            "streak": 0,
            "log": _earlier(data_dir),
            "changes": [],
        }

    def start(self, init_pid: int, started_at: int) -> None:
        """Process 1 runs: the first probe comes after an interval."""
        self._init_pid = init_pid
        self._started_at = started_at
        self._write(self._run_dir)
        self._wait()

    @property
    def probing(self) -> bool:
        """A probe is under way."""
        return self._probe is not None

    def pause(self, on: bool) -> None:
        """A frozen container is not asked; when it is thawed, an interval passes first."""
        self._paused = on
        self._forget()
        if not on and self._probe is None:
            self._wait()

    def stop(self) -> None:
        """Process 1 has ended, and the probe with it. What has stopped is not healthy, as Docker has it."""
        self._stopped = True
        self._forget()
        if self._probe is not None:
            self._probe.abandon()
        self.values["status"] = "unhealthy"
        self._write(self._data_dir)

    # ---- inner

    def _nanoseconds(self, name: str, default: int) -> int:
        return int(self._settings.get(name) or 0) or default

    def _forget(self) -> None:
        if self._timer is not None:
            self._loop.cancel(self._timer)
            self._timer = None

    def _wait(self) -> None:
        self._forget()
        period = self._nanoseconds("start_period", 0)
        if self.values["status"] == "starting" and time.time_ns() - self._started_at < period:
            pause = self._nanoseconds("start_interval", START_INTERVAL)
        else:
            pause = self._nanoseconds("interval", INTERVAL)
        self._timer = self._loop.call_later(pause / 1e9, self._due)

    def _due(self) -> None:
        self._timer = None
        limit = self._nanoseconds("timeout", TIMEOUT)
        self._probe = _Probe(self._loop, self._sandbox, self._init_pid, self._settings["probe"], limit, self._done)

    def _done(self, entry: "dict[str, Any]") -> None:
        self._probe = None
        if self._stopped:
            return
        values, before = self.values, self.values["status"]
        values["log"] = [*values["log"][1 - KEPT :], entry]
        if entry["code"] == 0:
            values["streak"] = 0
            values["status"] = "healthy"
        elif before != "starting" or entry["start"] - self._started_at >= self._nanoseconds("start_period", 0):
            values["streak"] += 1
            if values["streak"] >= (int(self._settings.get("retries") or 0) or RETRIES):
                values["status"] = "unhealthy"
        changed = values["status"] != before
        if changed:
            # also what was told lately: an engine that is killed a moment later has not written it down
            since = entry["end"] - _REMEMBERED if self._is_heard() else 0
            kept = [change for change in values["changes"] if change[0] >= since]
            values["changes"] = [*kept[1 - KEPT_CHANGES :], (entry["end"], values["status"])]
        self._write(self._run_dir)
        self._on_result(status=values["status"], streak=values["streak"], entry=entry, changed=changed)
        if not self._paused:
            self._wait()

    def _write(self, directory: str) -> None:
        try:
            write_atomic(f"{directory}/{FILE}", dumps(self.values).encode(), durable=False)
        except WherryError as error:
            self._on_error(error)  # a full disk: events still tell


def _earlier(data_dir: str) -> "list[dict[str, Any]]":
    try:
        with open(f"{data_dir}/{FILE}", "rb") as file:
            log = loads(file.read())["log"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return log[-KEPT:] if isinstance(log, list) else []


class _Probe:
    """One probe under way.

    Args:
        loop: the monitor's.
        sandbox: where it runs.
        init_pid: process 1.
        path: of the exec message.
        limit: nanoseconds that it may take.
        done: gets its entry in the log, once.
    """

    __slots__ = ("_child", "_done", "_ended", "_limit", "_loop", "_output", "_pipe", "_start", "_timer", "_total")

    def __init__(
        self,
        loop: "Loop",
        sandbox: "Sandbox | HostProcess",
        init_pid: int,
        path: str,
        limit: int,
        done: "Callable[[dict[str, Any]], None]",
    ) -> None:
        self._loop = loop
        self._done = done
        self._limit = limit
        self._start = time.time_ns()
        self._output = b""
        self._total = 0
        self._child: tuple[int, int] | None = None
        self._ended = False
        self._pipe, theirs = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._pipe, False)
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)

        def join() -> "tuple[dict[str, Any], dict[str, int]]":
            with open(path, "rb") as file:
                message = loads(file.read())
            return sandbox.join(init_pid, message, (null, theirs, theirs))

        def started(values: "dict[str, Any]", given: "dict[str, int]", error: "WherryError | None") -> None:
            if error is not None:
                self._end(-1, str(error))
                return
            launched = taken(values, given)
            sandbox.answer(loop, launched)
            self._child = (launched.pid, launched.pidfd)
            watch_child(loop, launched.pid, launched.pidfd, self._exited)
            if self._timer is None:
                self._kill()  # its time was over before it began

        try:
            loop.watch(self._pipe, IN, lambda _bits: self._read())
            Helper(loop, join, lambda: None, started, may_try_again=True)
        finally:
            os.close(theirs)
            os.close(null)
        self._timer: tuple[float, Callable[[], None]] | None = loop.call_later(limit / 1e9, self._late)

    def abandon(self) -> None:
        """Nobody wants the result any more: the container has ended."""
        self._finish()

    def _late(self) -> None:
        self._timer = None
        self._kill()

    def _kill(self) -> None:
        if self._child is not None:
            pid, pidfd = self._child
            if pidfd_send_signal(pidfd, SIGKILL):
                try:
                    # it leads a session of its own, and is ours to reap: the number is still its own
                    os.killpg(pid, SIGKILL)
                except ProcessLookupError:
                    return

    def _read(self) -> None:
        try:
            data = os.read(self._pipe, _READ) if self._pipe >= 0 else b""
        except BlockingIOError:
            return
        if not data:
            self._close()
            return
        self._total += len(data)
        self._output += data[: MAX_OUTPUT - len(self._output)]

    def _close(self) -> None:
        if self._pipe >= 0:
            self._loop.unwatch(self._pipe)
            os.close(self._pipe)
            self._pipe = -1

    def _exited(self, code: int, _signal: "int | None") -> None:
        self._child = None
        if self._ended:
            return
        # what it has left; who else holds the pipe is not waited for
        for _ in range(8):
            if self._pipe >= 0:
                self._read()
        text = self._output.decode("utf-8", "replace") + ("..." if self._total > MAX_OUTPUT else "")
        if self._timer is None:
            why = f"Health check exceeded timeout ({durations.printed(self._limit)})"
            self._end(-1, f"{why}: {text}" if text else why)
        else:
            self._end(code, text)

    def _finish(self) -> None:
        self._ended = True
        self._close()
        if self._timer is not None:
            self._loop.cancel(self._timer)

    def _end(self, code: int, output: str) -> None:
        if not self._ended:
            self._finish()
            self._done({"start": self._start, "end": time.time_ns(), "code": code, "output": output})
