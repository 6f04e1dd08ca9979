"""Processes that join a running container: each with streams, an exit code and an event of its own."""

import os
import time

from wherry.errors import Conflict, ExecNotFound, InvalidArgument, WherryError
from wherry.linux.process import pidfd_send_signal
from wherry.monitor.children import watch_child
from wherry.monitor.helper import Helper
from wherry.monitor.sandbox import taken
from wherry.monitor.streams import Streams, client_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.linux.loop import Loop
    from wherry.monitor.host import HostProcess
    from wherry.monitor.record import Record
    from wherry.monitor.sandbox import Sandbox
    from wherry.runtime.launch import Launched


class Execs:
    """The execs of one container.

    Args:
        loop: the monitor's.
        sandbox: where they run.
        record: names them in state.json.
        spool_dir: for slow clients' backlogs.
        on_event: tells wherryd: `(name, values)`.
        on_idle: called when a client of any of them is gone.
        on_error: told that state.json could not be written, as on a full disk; what runs goes on.
    """

    __slots__ = (
        "_loop",
        "_on_error",
        "_on_event",
        "_on_idle",
        "_record",
        "_running",
        "_sandbox",
        "_spool_dir",
        "_starting",
        "_streams",
    )

    def __init__(
        self,
        loop: "Loop",
        sandbox: "Sandbox | HostProcess",
        record: "Record",
        spool_dir: str,
        on_event: "Callable[..., None]",
        on_idle: "Callable[[], None]",
        on_error: "Callable[[BaseException], None]",
    ) -> None:
        self._loop = loop
        self._sandbox = sandbox
        self._on_error = on_error
        self._record = record
        self._spool_dir = spool_dir
        self._on_event = on_event
        self._on_idle = on_idle
        self._running: dict[str, tuple[int, int, Streams]] = {}
        self._starting: set[str] = set()
        self._streams: list[Streams] = []

    @property
    def running(self) -> bool:
        """Some exec runs, or is being started."""
        return bool(self._running or self._starting)

    @property
    def clients(self) -> bool:
        """Some exec, running or not, has a client."""
        self._streams = [streams for streams in self._streams if streams.clients]
        return bool(self._streams)

    @property
    def flushed(self) -> bool:
        """No client of any exec has output still to get."""
        return all(streams.flushed for streams in self._streams)

    def start(
        self,
        init_pid: int,
        message: "dict[str, Any]",
        fds: "dict[str, int]",
        reply: "Callable[[dict[str, Any], Exception | None], None]",
    ) -> None:
        """Join a process; replies `{"pid"}` once its program runs, or the error.

        Args:
            init_pid: process 1 of the container.
            message: as the contract's `exec`: `exec_id`, `process`, `stdin`, `stdout`, `stderr`, `tty`, `detach_keys`,
                `framed` (by default: unless there is a terminal), `seccomp`, `socketcalls`,
                `console_size` ([rows, columns] or null).
            fds: `client`, if anybody is attached.
            reply: called later, with an error: CommandNotFound, CommandNotExecutable, NotRunning, KernelError…

        Raises:
            Conflict: the id is in use.
            InvalidArgument: detach keys that are none.
        """
        exec_id, tty = str(message["exec_id"]), bool(message.get("tty"))
        if exec_id in self._running or exec_id in self._starting:
            raise Conflict(f"exec {exec_id} is running")
        attached = "client" in fds
        options = client_options(message)
        if "framed" not in message:
            options["framed"] = not tty

        def on_client(what: str) -> None:
            self._on_event(what, exec_id=exec_id)

        streams = Streams(
            self._loop,
            self._spool_dir,
            tty=tty,
            stdin=attached and bool(message.get("stdin")),
            stdin_once=True,
            on_client=on_client,
            on_idle=self._on_idle,
        )
        stdio = None if tty else streams.open_pipes()
        client = os.dup(fds["client"]) if attached else -1

        def done(values: "dict[str, Any]", given: "dict[str, int]", error: "WherryError | None") -> None:
            self._starting.discard(exec_id)
            if error is not None:
                streams.discard()
                if client >= 0:
                    os.close(client)
                reply({}, error)
                return
            self._started(exec_id, streams, taken(values, given), client, options)
            reply({"pid": values["pid"]}, None)

        self._starting.add(exec_id)
        Helper(
            self._loop,
            lambda: self._sandbox.join(init_pid, message, stdio),
            _abandon,
            done,
            exec_id,
            may_try_again=True,
        )
        streams.close_child_ends()

    def _started(
        self,
        exec_id: str,
        streams: Streams,
        launched: "Launched",
        client: int,
        options: "dict[str, Any]",
    ) -> None:
        if launched.master is not None:
            streams.take_terminal(launched.master)
        self._sandbox.answer(self._loop, launched)
        self._running[exec_id] = (launched.pid, launched.pidfd, streams)
        if client >= 0:
            self._streams.append(streams)
            streams.attach(client, **options)
        streams.begin()

        def exited(code: int, _signal: "int | None") -> None:
            self._running.pop(exec_id, None)
            streams.drain()
            streams.finish()
            self._on_event("exec-exited", exec_id=exec_id, code=code)
            self._record.exec_ended(exec_id, code, time.time_ns())

        watch_child(self._loop, launched.pid, launched.pidfd, exited)
        try:
            self._record.exec_started(exec_id, launched.pid, launched.start_time)
        except WherryError as error:
            self._on_error(error)  # the next write tells

    def resize(self, exec_id: str, rows: int, columns: int) -> None:
        """Set the size of an exec's terminal; raises ExecNotFound when it does not run."""
        self._find(exec_id)[2].resize(rows, columns)

    def signal(self, exec_id: str, number: int) -> None:
        """Send a signal to an exec's process; raises ExecNotFound when it does not run."""
        if not pidfd_send_signal(self._find(exec_id)[1], number):
            raise ExecNotFound(f"exec {exec_id} has ended")

    def attach(self, exec_id: str, message: "dict[str, Any]", fds: "dict[str, int]") -> None:
        """Add a client to a running exec; raises ExecNotFound when it does not run."""
        streams = self._find(exec_id)[2]
        if "client" not in fds:
            raise InvalidArgument("attach needs the descriptor `client`")
        streams.attach(fds.pop("client"), **client_options(message))

    def _find(self, exec_id: str) -> "tuple[int, int, Streams]":
        try:
            return self._running[exec_id]
        except KeyError:
            raise ExecNotFound(f"No such exec instance: {exec_id}") from None


def _abandon() -> None:
    # the monitor died while its helper worked: wherryd kills the whole cgroup then, and this process with it
    return
