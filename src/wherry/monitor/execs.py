"""Processes that join a running container: each with streams, an exit code and an event of its own."""

import signal

from wherry.errors import Conflict, ExecNotFound, InvalidArgument
from wherry.monitor.children import watch_child
from wherry.monitor.streams import Streams, client_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.monitor.loop import Loop
    from wherry.monitor.record import Record
    from wherry.monitor.sandbox import Sandbox


class Execs:
    """The execs of one container.

    Args:
        loop: the monitor's.
        sandbox: where they run.
        record: names them in state.json.
        spool_dir: for slow clients' backlogs.
        on_event: tells wherryd: `(name, values)`.
        on_idle: called when a client of any of them is gone.
    """

    __slots__ = ("_loop", "_on_event", "_on_idle", "_record", "_running", "_sandbox", "_spool_dir", "_streams")

    def __init__(
        self,
        loop: "Loop",
        sandbox: "Sandbox",
        record: "Record",
        spool_dir: str,
        on_event: "Callable[..., None]",
        on_idle: "Callable[[], None]",
    ) -> None:
        self._loop = loop
        self._sandbox = sandbox
        self._record = record
        self._spool_dir = spool_dir
        self._on_event = on_event
        self._on_idle = on_idle
        self._running: dict[str, tuple[int, int, Streams]] = {}
        self._streams: list[Streams] = []

    @property
    def flushed(self) -> bool:
        """No client of any exec has output still to get."""
        self._streams = [streams for streams in self._streams if streams.clients]
        return all(streams.flushed for streams in self._streams)

    def start(self, init_pid: int, message: "dict[str, Any]", fds: "dict[str, int]") -> "dict[str, Any]":
        """Join a process; returns `{"pid"}` once its program runs.

        Args:
            init_pid: process 1 of the container.
            message: as the contract's `exec`: `exec_id`, `process`, `stdin`, `stdout`, `stderr`, `tty`, `detach_keys`,
                `framed` (by default: unless there is a terminal), `seccomp`, `console_size` ([rows, columns] or null).
            fds: `client`, if anybody is attached.

        Raises:
            CommandNotFound, CommandNotExecutable: the program.
            Conflict: the id is in use.
            KernelError: a step failed.
        """
        exec_id, tty = str(message["exec_id"]), bool(message.get("tty"))
        if exec_id in self._running:
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
        try:
            stdio = None if tty else streams.open_pipes()
            launched = self._sandbox.join(init_pid, message["process"], stdio, message.get("seccomp"))
        except BaseException:
            streams.discard()
            raise
        streams.close_child_ends()
        if launched.master is not None:
            streams.take_terminal(launched.master)
            size = message.get("console_size")
            if size:
                streams.resize(int(size[0]), int(size[1]))
        self._running[exec_id] = (launched.pid, launched.pidfd, streams)
        self._streams.append(streams)
        if attached:
            streams.attach(fds.pop("client"), **options)
            streams.begin_input()
        self._record.exec_started(exec_id, launched.pid, launched.start_time)

        def exited(code: int, _signal: "int | None") -> None:
            self._running.pop(exec_id, None)
            streams.drain()
            streams.finish()
            self._record.exec_ended(exec_id, code)
            self._on_event("exec-exited", exec_id=exec_id, code=code)

        watch_child(self._loop, launched.pid, launched.pidfd, exited)
        return {"pid": launched.pid}

    def resize(self, exec_id: str, rows: int, columns: int) -> None:
        """Set the size of an exec's terminal; raises ExecNotFound when it does not run."""
        self._find(exec_id)[2].resize(rows, columns)

    def signal(self, exec_id: str, number: int) -> None:
        """Send a signal to an exec's process; raises ExecNotFound when it does not run."""
        try:
            signal.pidfd_send_signal(self._find(exec_id)[1], number)
        except ProcessLookupError:
            raise ExecNotFound(f"exec {exec_id} has ended") from None

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
