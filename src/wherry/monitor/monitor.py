"""The monitor: parent of one container, from its launch to the order to end.

    starting ──> running <──> paused          `again` starts it once more in the same sandbox (network namespace kept)
        └──────────┴──> stopped ──> again | end

It needs nobody while the container runs: output is logged, process 1 is reaped, and what happened is on disk before
anybody is told. It never decides to restart. The messages are those of `client.py`.
"""

import os
import time

from wherry.errors import AlreadyRunning, InvalidArgument, NotRunning, NotSupported, Paused, WherryError, to_wire
from wherry.linux.channel import VERSION, Channel, close_all
from wherry.linux.loop import IN, Loop
from wherry.linux.process import pidfd_send_signal
from wherry.linux.signals import SIGKILL
from wherry.monitor.child import fork_task, start_time
from wherry.monitor.children import watch_child
from wherry.monitor.control import SOCKET_NAME, Control
from wherry.monitor.execs import Execs
from wherry.monitor.health import Health
from wherry.monitor.helper import Helper
from wherry.monitor.host import HostProcess, watch_home
from wherry.monitor.logdrivers import open_log
from wherry.monitor.logwriter import compress_file
from wherry.monitor.record import Record, note_error
from wherry.monitor.rest import rest
from wherry.monitor.rewire import rewire
from wherry.monitor.sandbox import Sandbox
from wherry.monitor.streams import Streams, client_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.linux.inotify import Inotify
    from wherry.monitor.checkpoint import Checkpoint
    from wherry.monitor.logdrivers import Log

    Operation = Callable[[dict[str, Any], dict[str, int]], dict[str, Any] | None]

# how long a container outlives the owner that it should end with: time for a new connection to replace a broken one
OWNER_GRACE = 1.0
# how long, after `end`, a client may take for output that is already here; and how long for closing its side then:
# were its unread input thrown away sooner, it would see a broken connection in place of the end
LINGER = 3600.0
CLOSING = 5.0


class Monitor:
    """One container's parent; see the module.

    Args:
        launch: the launch object of the contract.
        fds: descriptors that came with it, by name; owned.
        make_sandbox: what containers live in (tests give another).
    """

    __slots__ = (
        "_checkpoint",
        "_control",
        "_ending",
        "_execs",
        "_failure",
        "_fds",
        "_health",
        "_helper",
        "_init",
        "_launch",
        "_left",
        "_listening",
        "_log",
        "_loop",
        "_oom_before",
        "_record",
        "_run_dir",
        "_sandbox",
        "_streams",
    )

    def __init__(
        self,
        launch: "dict[str, Any]",
        fds: "dict[str, int]",
        make_sandbox: "Callable[[dict[str, Any], dict[str, int]], Sandbox | HostProcess]" = Sandbox,
    ) -> None:
        self._loop = Loop(self._internal_error, rest)
        self._run_dir = launch["run_dir"]
        self._launch = launch
        self._fds = fds
        self._log: Log | None = None
        self._streams: Streams | None = None
        self._init: tuple[int, int] | None = None  # pid and pidfd of process 1 while it runs
        self._helper: Helper | None = None
        self._health: Health | None = None  # while the container runs, where it has a check
        self._failure: Exception | None = None  # why a launch under way must come to nothing
        self._listening = False
        self._ending = False
        self._checkpoint: Checkpoint | None = None  # the last one that was asked for
        self._left = False  # everything is given back; only clients keep this process
        self._oom_before = 0  # the cgroup's count at the end of the launch before
        self._control = Control(self._loop, Channel.from_fd(fds.pop("control")), self._dispatch, self._owner_lost)
        self._record = Record(
            self._run_dir,
            launch["data_dir"],
            id=launch["id"],
            status="starting",
            monitor={"pid": os.getpid(), "start_time": start_time(os.getpid())},
            init=None,
            started_at=None,
            exit=None,
            netns_fd=None,
            cgroup=launch["cgroup"],
            endpoints=[],
            execs=[],
            restart_count=0,
        )
        self._sandbox = make_sandbox(launch, fds)
        self._execs = Execs(
            self._loop,
            self._sandbox,
            self._record,
            launch["data_dir"],
            self._control.event,
            self._client_gone,
            self._internal_error,
        )

    def run(self) -> None:
        """Launch the container and serve until the order to end."""
        if "helper" in self._launch:
            home = watch_home(self._run_dir)
            self._loop.watch(home.fd, IN, lambda _bits: self._home_gone(home))
        self._start(self._launch, self._fds)
        self._loop.run()

    # ---- life

    def _start(self, launch: "dict[str, Any]", fds: "dict[str, int]") -> None:
        self._launch = launch
        tty = bool(launch.get("tty"))
        streams = self._streams = Streams(
            self._loop,
            launch["data_dir"],
            tty=tty,
            stdin=bool(launch.get("open_stdin")),
            stdin_once=bool(launch.get("stdin_once")),
            on_client=self._client_moved,
            on_idle=self._client_gone,
        )
        # The process is started first, by a helper; what has time happens meanwhile.
        try:
            stdio = None if tty else streams.open_pipes()
            self._helper = Helper(
                self._loop,
                lambda: self._sandbox.launch(launch, fds, stdio),
                self._sandbox.remove_cgroup,
                lambda values, given, error: self._launched(streams, values, given, error),
                launch["id"],
            )
            streams.close_child_ends()
            self._prepare(streams, launch, fds)
        except Exception as error:  # noqa: BLE001 - whatever it was, wherryd hears of it
            self._failure = error
            if self._helper is None:
                self._start_failed(streams, error)
        finally:
            self._record.values["held"] = self._sandbox.hold(fds)
            close_all([fd for name, fd in fds.items() if name != "ns:network"])

    def _prepare(self, streams: Streams, launch: "dict[str, Any]", fds: "dict[str, int]") -> None:
        if not self._listening:
            self._listening = True
            self._control.listen(self._run_dir)
        count = int(launch.get("restart_count") or 0)
        self._record.update(status="starting", init=None, exit=None, execs=[], restart_count=count)
        for entry in launch.get("attach") or ():
            streams.attach(fds.pop(entry["fd"]), **client_options(entry))
        streams.log = self._open_log(launch.get("log") or {})

    def _launched(
        self, streams: Streams, values: "dict[str, Any]", given: "dict[str, int]", error: "Exception | None"
    ) -> None:
        self._helper = None
        started_at = time.time_ns()
        if error is not None:
            self._start_failed(streams, self._failure or error)
            return
        launched = self._sandbox.launched(values, given)
        if launched.master is not None:
            streams.take_terminal(launched.master)
        self._sandbox.answer(self._loop, launched)
        self._init = (launched.pid, launched.pidfd)
        exited = lambda code, number: self._exited(launched.pid, started_at, code, number)  # noqa: E731
        watch_child(self._loop, launched.pid, launched.pidfd, exited)
        streams.begin()
        try:
            self._record.update(
                status="running",
                init={"pid": launched.pid, "start_time": launched.start_time},
                started_at=started_at,
                netns_fd=self._sandbox.netns_fd,
                endpoints=self._sandbox.endpoints,
            )
        except WherryError as error:
            self._failure = self._failure or error
        if self._failure is not None or self._ending:
            self._sandbox.kill()  # it runs, and must not: the log cannot be opened, say; `_exited` tells of it
        if self._failure is None:
            if self._launch.get("health"):
                self._check_health(launched.pid, started_at)
            self._control.event(
                "started",
                pid=launched.pid,
                start_time=launched.start_time,
                started_at=started_at,
                netns_fd=self._sandbox.netns_fd,
                endpoints=self._sandbox.endpoints,
                warnings=launched.warnings,
            )
        self._loop.busy = True

    def _check_health(self, pid: int, started_at: int) -> None:
        made = (self._loop, self._sandbox, self._launch["health"], self._run_dir, self._launch["data_dir"])
        tell = lambda **values: self._control.event("health", **values)  # noqa: E731
        self._health = Health(*made, tell, self._internal_error, lambda: self._control.connected)
        self._health.start(pid, started_at)

    def _start_failed(self, streams: Streams, error: Exception) -> None:
        wire = to_wire(error)
        if not isinstance(error, WherryError):
            self._internal_error(error)
        streams.discard()
        streams.finish()
        self._failure = None
        self._sandbox.kill()
        code = {"CommandNotFound": 127, "CommandNotExecutable": 126}.get(wire["class"], 128)
        ended = {
            "code": code,
            "signal": None,
            "oom": False,
            "started_at": None,
            "finished_at": time.time_ns(),
            "pid": None,
            "error": wire,
        }
        self._write_end(ended)
        self._control.event("start-failed", error=wire)
        self._stopped()

    def _exited(self, pid: int, started_at: int, code: int, number: "int | None") -> None:
        finished_at = time.time_ns()
        self._init = None
        if self._health is not None:
            self._health.stop()
            self._health = None
        if self._failure is not None:
            if self._streams is not None:
                self._start_failed(self._streams, self._failure)
            return
        self._sandbox.kill_rest()
        oom_count = self._sandbox.oom_count() if code else 0
        oom, self._oom_before = oom_count > self._oom_before, max(oom_count, self._oom_before)
        if self._streams is not None:
            self._streams.drain()
            if self._log is not None:
                self._log.flush()
            self._streams.finish()
        ended = {
            "code": code,
            "signal": number,
            "oom": oom,
            "started_at": started_at,
            "finished_at": finished_at,
            "pid": pid,
            "error": None,
        }
        self._write_end(ended)
        self._control.event("exited", code=code, signal=number, oom=oom, finished_at=finished_at)
        self._stopped()

    def _write_end(self, ended: "dict[str, Any]") -> None:
        ended["restart_count"] = self._record.values["restart_count"]
        try:
            self._record.ended(ended)
        except WherryError as error:
            self._internal_error(error)  # a full disk: the event and state.json still tell
        try:
            self._record.update(status="stopped", init=None, exit=ended)
        except WherryError as error:
            self._internal_error(error)  # the run root is gone: the end goes on all the same

    def _stopped(self) -> None:
        if self._ending or (self._launch.get("stop_on_control_close") and not self._control.connected):
            self._end()

    def _owner_lost(self) -> None:
        if self._launch.get("stop_on_control_close"):
            self._loop.call_later(OWNER_GRACE, self._owner_is_gone)

    def _owner_is_gone(self) -> None:
        if not self._control.connected:
            self._end()

    def _home_gone(self, home: "Inotify") -> None:
        home.clear()
        if self._listening and not os.path.exists(f"{self._run_dir}/{SOCKET_NAME}"):
            self._end()

    def _end(self) -> None:
        if self._left:
            return
        self._ending = True
        if self._helper is not None:
            self._helper.kill()  # `_launched` comes back here
            return
        if self._init is not None:
            self._sandbox.kill()  # `_exited` comes back here
            return
        try:
            self._sandbox.remove_cgroup()
        except WherryError as error:
            # who asked for the end looks after the cgroup too; this process must not stay for its sake
            self._internal_error(error)
        if self._log is not None:
            self._log.close()
            self._log = None
        self._loop.call_later(LINGER, self._loop.stop)
        self._loop.call_later(0, self._leave)

    def _leave(self) -> None:
        # after the reply: the kernel takes its time over links
        self._sandbox.close()
        self._left = True
        self._loop.call_later(CLOSING, self._no_longer)
        self._client_gone()

    def _client_gone(self) -> None:
        if self._left and not self._execs.clients and not (self._streams and self._streams.clients):
            self._control.flush()
            self._control.close()
            self._loop.stop()

    def _no_longer(self) -> None:
        if self._execs.flushed and (self._streams is None or self._streams.flushed):
            self._loop.stop()
        else:
            self._loop.call_later(CLOSING, self._no_longer)

    def _client_moved(self, what: str) -> None:
        self._control.event(what, exec_id=None)

    # ---- requests

    def _dispatch(self, message: "dict[str, Any]", fds: "dict[str, int]") -> "dict[str, Any] | None":
        if not VERSION - 2 <= int(message.get("v") or 0) <= VERSION:
            raise NotSupported(f"protocol {message.get('v')} is not spoken here")
        operation = str(message.get("op"))
        handler: Operation | None = getattr(self, f"_op_{operation}", None)
        if handler is None:
            raise NotSupported(f"no operation {operation!r}")
        try:
            return handler(message, fds)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidArgument(f"{message.get('op')}: {type(error).__name__}: {error}") from error

    def _running(self) -> "tuple[int, int]":
        if self._init is None:
            raise NotRunning(f"container {self._launch['id']} is not running", id=self._launch["id"])
        return self._init

    def _op_attach(self, message: "dict[str, Any]", fds: "dict[str, int]") -> "dict[str, Any]":
        if message.get("exec_id"):
            self._execs.attach(message["exec_id"], message, fds)
            return {}
        self._running()
        if "client" not in fds or self._streams is None:
            raise InvalidArgument("attach needs the descriptor `client`")
        self._streams.attach(fds.pop("client"), **client_options(message))
        return {}

    def _op_exec(self, message: "dict[str, Any]", fds: "dict[str, int]") -> None:
        pid, _ = self._undisturbed()
        if self._record.values["status"] == "paused":
            raise Paused(f"Container {self._launch['id']} is paused, unpause the container before exec")
        self._loop.busy = True
        self._execs.start(pid, message, fds, self._control.replier(message))

    def _op_resize(self, message: "dict[str, Any]", _fds: "dict[str, int]") -> "dict[str, Any]":
        rows, columns = int(message["height"]), int(message["width"])
        if message.get("exec_id"):
            self._execs.resize(message["exec_id"], rows, columns)
        else:
            self._running()
            if self._streams is not None:
                self._streams.resize(rows, columns)
        return {}

    def _op_signal(self, message: "dict[str, Any]", _fds: "dict[str, int]") -> "dict[str, Any]":
        number = int(message["signal"])
        if message.get("exec_id"):
            self._execs.signal(message["exec_id"], number)
            return {}
        _, pidfd = init = self._running()
        if not pidfd_send_signal(pidfd, number):
            raise NotRunning(f"container {self._launch['id']} is not running", id=self._launch["id"])
        if number == SIGKILL:
            self._sandbox.thaw_killed(self._loop, lambda: self._init is init)
        return {}

    def _freeze(self, on: bool, verb: str = "") -> None:
        self._sandbox.freeze(on)
        self._record.update(status="paused" if on else "running", frozen_for=verb if on else "")
        if self._health is not None:
            self._health.pause(on)

    def _op_freeze(self, message: "dict[str, Any]", _fds: "dict[str, int]") -> "dict[str, Any]":
        self._undisturbed()
        self._freeze(bool(message["on"]), str(message.get("verb") or ""))
        return {}

    def _undisturbed(self) -> "tuple[int, int]":
        if self._checkpoint is not None and self._checkpoint.under_way:
            raise Paused(f"container {self._launch['id']} is frozen: a checkpoint of it is being written")
        return self._running()

    def _op_checkpoint(self, message: "dict[str, Any]", _fds: "dict[str, int]") -> None:
        from wherry.monitor.checkpoint import Checkpoint  # no monitor carries it for nothing

        paused, reply = self._record.values["status"] == "paused", self._control.replier(message)
        made = (self._loop, self._sandbox, self._launch, self._undisturbed()[0], message, self._streams)
        self._checkpoint = Checkpoint(*made, paused=paused, health=self._health, execs=self._execs, reply=reply)

    def _op_rewire(self, message: "dict[str, Any]", fds: "dict[str, int]") -> None:
        self._running()
        rewire(self._loop, self._sandbox, self._record, message, fds, self._control.replier(message))

    def _op_pids(self, _message: "dict[str, Any]", _fds: "dict[str, int]") -> "dict[str, Any]":
        self._running()
        return {"pids": self._sandbox.pids()}

    def _op_update(self, message: "dict[str, Any]", _fds: "dict[str, int]") -> "dict[str, Any]":
        self._sandbox.update(message["resources"])
        return {}

    def _op_state(self, _message: "dict[str, Any]", _fds: "dict[str, int]") -> "dict[str, Any]":
        return {"state": self._record.values}

    def _op_again(self, message: "dict[str, Any]", fds: "dict[str, int]") -> "dict[str, Any]":
        if self._init is not None or self._helper is not None:
            raise AlreadyRunning(f"container {self._launch['id']} is running", id=self._launch["id"])
        if self._ending:
            raise NotRunning(f"container {self._launch['id']} is ending", id=self._launch["id"])
        launch, taken = message["launch"], dict(fds)
        fds.clear()
        # the reply comes first, its result as an event, as at birth
        self._loop.call_later(0, lambda: self._start(launch, taken))
        return {}

    def _op_end(self, _message: "dict[str, Any]", _fds: "dict[str, int]") -> "dict[str, Any]":
        self._end()
        return {"stopping": self._init is not None or self._helper is not None}

    def _op_resolver(self, _message: "dict[str, Any]", fds: "dict[str, int]") -> "dict[str, Any]":
        self._sandbox.lend_resolver(self._loop, self._launch["id"], fds.pop("to"))
        return {}

    def _op_ports(self, _message: "dict[str, Any]", fds: "dict[str, int]") -> "dict[str, Any]":
        self._sandbox.lend_ports(fds.pop("to"))
        return {}

    # ---- parts

    def _open_log(self, log: "dict[str, Any]") -> "Log | None":
        if self._log is not None and log.get("driver") == "json-file" and self._log.path == log["path"]:
            return self._log
        if self._log is not None:
            self._log.close()
        self._log = open_log(self._loop, log, self._compress, self._internal_error)
        return self._log

    def _compress(self, source: int, target: str, done: "Callable[[bool], None]") -> None:
        pid = fork_task(lambda: compress_file(source, target), [source], "wherry-compress")
        watch_child(self._loop, pid, os.pidfd_open(pid), lambda code, _signal: done(code == 0))

    def _internal_error(self, error: BaseException) -> None:
        note_error(self._launch["data_dir"], error)


def main(launch: "dict[str, Any]", fds: "dict[str, int]") -> None:
    """Run a monitor in this (forked) process until its container is over."""
    try:
        Monitor(launch, fds, HostProcess if "helper" in launch else Sandbox).run()
    except BaseException as error:
        note_error(launch["data_dir"], error)
        raise
