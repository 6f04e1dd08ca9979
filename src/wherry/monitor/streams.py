"""The streams of one process: its output fans out to the log and to clients, its input comes from any client.

Output is read only as fast as the best client takes it: with one slow client the process waits, as behind any pipe;
with several, the fastest sets the pace and the others' backlog goes to memory, then to a file (`attach.py`). While
these files are at their limit, the process waits for the slow ones too. Without clients its output is read, logged and
forgotten.
"""

import errno
import os
import struct
import termios
from binascii import a2b_base64
from fcntl import fcntl, ioctl

from wherry.linux.loop import ERR, HUP, IN, OUT
from wherry.monitor.attach import SPOOL, Client
from wherry.monitor.keys import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.linux.loop import Loop
    from wherry.monitor.logdrivers import Log

STDOUT = 1
STDERR = 2

READ_SIZE = 64 * 1024
# of a pipe whose process writes as fast as it can: the two change places less often
_WIDE = 256 * 1024
_F_SETPIPE_SZ = 1031
# what a dead process may have left in a pipe or terminal, with room to spare; a foreign holder cannot keep us longer
DRAIN_LIMIT = 8 << 20


class Sink:
    """The writing end of a process's standard input: takes everything given, and says when it is behind.

    Args:
        loop: the monitor's.
        fd: non-blocking; owned.
        is_pipe: data may be moved into it by splice(2).
        on_broken: called once when the process has closed its end.
    """

    __slots__ = ("_backlog", "_closing", "_loop", "_on_broken", "_waiting", "fd", "is_pipe")

    def __init__(self, loop: "Loop", fd: int, *, is_pipe: bool, on_broken: "Callable[[], None]") -> None:
        self._loop = loop
        self.fd = fd
        self.is_pipe = is_pipe
        self._on_broken = on_broken
        self._backlog = b""
        self._closing = False
        self._waiting: list[Client] = []

    @property
    def full(self) -> bool:
        """Nobody should bring more before `wait` has called back."""
        return bool(self._backlog)

    def write(self, data: bytes) -> None:
        """Write all of `data`, what does not fit as soon as it does."""
        if self._closing or self.fd < 0:
            return
        if self._backlog:
            self._backlog += data
            return
        self._backlog = data
        self._flush()
        if self._backlog and self.fd >= 0:
            self._loop.watch(self.fd, OUT, self._ready)

    def wait(self, client: "Client") -> None:
        """Call `client.resume_input()` when there is room again."""
        if client not in self._waiting:
            self._waiting.append(client)
        if self.fd >= 0:
            self._loop.watch(self.fd, OUT, self._ready)

    def close(self) -> None:
        """Close once everything given has been written."""
        self._closing = True
        if not self._backlog:
            self.abandon()

    def abandon(self) -> None:
        """Close now."""
        if self.fd >= 0:
            self._loop.unwatch(self.fd)
            os.close(self.fd)
            self.fd = -1
        self._backlog = b""
        self._waiting.clear()

    def broken(self) -> None:
        """The process has closed its standard input: stop taking any."""
        if self.fd >= 0:
            self.abandon()
            self._on_broken()

    def _ready(self, bits: int) -> None:
        if self._backlog:
            self._flush()
        if self.fd < 0:
            return
        if bits & (ERR | HUP) and self.is_pipe:
            self.broken()
            return
        if self._backlog:
            return
        if self._closing:
            self.abandon()
            return
        self._loop.unwatch(self.fd)
        waiting, self._waiting = self._waiting, []
        for client in waiting:
            client.resume_input()

    def _flush(self) -> None:
        while self._backlog:
            try:
                count = os.write(self.fd, self._backlog)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in (errno.EPIPE, errno.EIO):
                    raise
                self.broken()
                return
            self._backlog = self._backlog[count:]


class Streams:
    """Everything that flows in and out of one process.

    Args:
        loop: the monitor's.
        spool_dir: where a slow client's backlog file is made (it has no name).
        tty: the process has a terminal: one output stream, detach keys, no half-close of input.
        stdin: the process takes input.
        stdin_once: the end of a client's input is the end of the process's.
        log: where output is recorded, if anywhere.
        on_client: called with `"attached"` or `"detached"` as clients come and go by their own will.
        on_idle: called whenever a client is gone for good.
    """

    __slots__ = (
        "_child_ends",
        "_loop",
        "_on_client",
        "_on_idle",
        "_reading",
        "_widened",
        "begun",
        "clients",
        "dead",
        "log",
        "master",
        "sink",
        "sources",
        "spool_dir",
        "stdin",
        "stdin_once",
        "tty",
    )

    def __init__(
        self,
        loop: "Loop",
        spool_dir: str,
        *,
        tty: bool,
        stdin: bool,
        stdin_once: bool,
        log: "Log | None" = None,
        on_client: "Callable[[str], None]",
        on_idle: "Callable[[], None]",
    ) -> None:
        self._loop = loop
        self.spool_dir = spool_dir
        self.tty = tty
        self.stdin = stdin
        self.stdin_once = stdin_once
        self.log = log
        self._on_client = on_client
        self._on_idle = on_idle
        self.clients: list[Client] = []
        self.sources: dict[int, int] = {}
        self.sink: Sink | None = None
        self.master = -1
        self.begun = False
        self.dead = False
        self._reading = True
        self._child_ends: list[int] = []
        self._widened: set[int] = set()

    # ---- the process's side

    def open_pipes(self) -> "tuple[int, int, int]":
        """Make pipes and return the child's ends (stdin, stdout, stderr); `close_child_ends` once it has them."""
        if self.stdin:
            child_in, own_in = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(own_in, False)
            self._set_sink(own_in, is_pipe=True)
        else:
            child_in = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self._child_ends.append(child_in)
        for stream in (STDOUT, STDERR):
            own, child = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(own, False)
            self._child_ends.append(child)
            self._add_source(own, stream)
        return self._child_ends[0], self._child_ends[1], self._child_ends[2]

    def close_child_ends(self) -> None:
        """Close what `open_pipes` returned: only the process itself keeps its ends open."""
        for fd in self._child_ends:
            os.close(fd)
        self._child_ends.clear()

    def take_terminal(self, master: int) -> None:
        """Serve a pseudo terminal's master; owned from now on."""
        os.set_blocking(master, False)
        self.master = master
        self._add_source(os.dup(master), STDOUT)
        if self.stdin:
            self._set_sink(os.dup(master), is_pipe=False)

    def begin(self) -> None:
        """The process runs: its output is read, and clients that waited for it may send."""
        self.begun = True
        if self._reading:
            for fd in self.sources:
                self._loop.watch(fd, IN, self._reader(fd))
        for client in tuple(self.clients):
            client.resume_input()

    def resize(self, rows: int, columns: int) -> None:
        """Set the terminal's size; without a terminal, or after its end, nothing happens."""
        if self.master >= 0:
            ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows & 0xFFFF, columns & 0xFFFF, 0, 0))

    def close_stdin(self) -> None:
        """End of input for the process."""
        if self.sink is not None:
            self.sink.close()
            self.sink = None

    # ---- clients

    def attach(
        self,
        fd: int,
        *,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        framed: bool,
        detach_keys: "bytes | None",
        tail: bytes,
    ) -> Client:
        """Add a client; its socket is owned from now on.

        Args:
            fd: a connected stream socket.
            stdin: what it sends goes to the process.
            stdout: it gets standard output (all there is, with a terminal).
            stderr: it gets standard error.
            framed: with Docker's 8-byte headers.
            detach_keys: the sequence that ends it, for a terminal.
            tail: bytes that it sent already.
        """
        wants = (STDOUT if stdout else 0) | (STDERR if stderr else 0)
        keys = detach_keys if self.tty else None
        client = Client(
            self._loop, self, fd, stdin=stdin and self.stdin, wants=wants, framed=framed, keys=keys, tail=tail
        )
        self.clients.append(client)
        self._on_client("attached")
        client.start()
        self.balance()
        return client

    def detached(self) -> None:
        """A client has sent its detach keys (called by it)."""
        self._on_client("detached")

    def drop(self, client: "Client") -> None:
        """Forget a client (called by it)."""
        if client in self.clients:
            self.clients.remove(client)
            self.balance()
            self._on_idle()

    def end_of_input(self, client: "Client") -> None:
        """A client has ended its input: so does the process's, if that was asked; else the client's session is over."""
        if self.stdin_once and not self.tty:
            self.close_stdin()
        else:
            client.finish()

    def balance(self) -> None:
        """Read output, or leave it where it is, by how far behind the clients are."""
        reading = self.dead
        if not reading:
            takers = [client for client in self.clients if client.wants]
            reading = not takers or any(client.keeps_up for client in takers)
            if reading and sum(client.spooled for client in self.clients) >= SPOOL:
                reading = False
        if reading != self._reading:
            self._reading = reading
            for fd in self.sources if self.begun else ():
                if reading:
                    self._loop.watch(fd, IN, self._reader(fd))
                else:
                    self._loop.unwatch(fd)

    @property
    def flushed(self) -> bool:
        """No client has output still to get."""
        return not any(client.behind for client in self.clients)

    # ---- the end

    def drain(self) -> None:
        """The process is dead: take what it left, without waiting for whoever else holds its pipes, and close them."""
        self.dead = True
        for fd, stream in tuple(self.sources.items()):
            left = DRAIN_LIMIT
            while left > 0 and fd in self.sources:
                count = self._read(fd, stream)
                if count == 0:
                    break
                left -= count
            self._close_source(fd)
        if self.sink is not None:
            self.sink.abandon()
            self.sink = None
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def finish(self) -> None:
        """Give every client the end of file once it has all output."""
        for client in tuple(self.clients):
            client.finish()

    def discard(self) -> None:
        """Close the process's side at once: it was never started."""
        self.close_child_ends()
        self.dead = True
        for fd in tuple(self.sources):
            self._close_source(fd)
        if self.sink is not None:
            self.sink.abandon()
            self.sink = None

    # ---- inner

    def _set_sink(self, fd: int, *, is_pipe: bool) -> None:
        self.sink = Sink(self._loop, fd, is_pipe=is_pipe, on_broken=self._stdin_broken)

    def _stdin_broken(self) -> None:
        self.sink = None
        for client in tuple(self.clients):
            client.input_refused()

    def _add_source(self, fd: int, stream: int) -> None:
        self.sources[fd] = stream

    def _reader(self, fd: int) -> "Callable[[int], None]":
        stream = self.sources[fd]

        def readable(_bits: int) -> None:
            if fd in self.sources:
                self._read(fd, stream)

        return readable

    def _read(self, fd: int, stream: int) -> int:
        try:
            data = os.read(fd, READ_SIZE)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""  # the last holder of the terminal has closed it
        if not data:
            self._close_source(fd)
            return 0
        if len(data) == READ_SIZE:
            self._loop.busy = True
            if fd not in self._widened:
                self._widen(fd)
        if self.log is not None:
            self.log.write(stream, data)
        clients = self.clients
        if clients:
            for client in tuple(clients):
                client.output(stream, data)
            self.balance()
        return len(data)

    def _widen(self, fd: int) -> None:
        self._widened.add(fd)
        try:
            fcntl(fd, _F_SETPIPE_SZ, _WIDE)
        except OSError:
            return  # a terminal, or over the user's quota: the usual size does

    def _close_source(self, fd: int) -> None:
        if self.sources.pop(fd, None) is not None:
            self._loop.unwatch(fd)
            os.close(fd)


def client_options(message: "dict[str, Any]") -> "dict[str, Any]":
    """The `attach` arguments that a message's `stdin`, `stdout`, `stderr`, `framed`, `detach_keys`, `tail` mean.

    Raises:
        InvalidArgument: unknown detach keys.
    """
    return {
        "stdin": bool(message.get("stdin")),
        "stdout": bool(message.get("stdout")),
        "stderr": bool(message.get("stderr")),
        "framed": bool(message.get("framed")),
        "detach_keys": parse(message.get("detach_keys") or ""),
        "tail": a2b_base64(message.get("tail") or ""),
    }
