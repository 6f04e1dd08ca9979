"""A container's streams and the caller's: one loop over the hijacked connection, stdin, and the engine's wait."""

import _socket
import os
import select

from wherry.cli.output import write_all
from wherry.cli.terminal import DetachWatch, RawTerminal, parse_detach_keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.client.connection import Connection, Response

ENDED = "ended"
DETACHED = "detached"
WATCHED = "watched"

_CHUNK = 256 * 1024
_MAX_VECTOR = 256  # pieces in one writev


class Demux:
    """Takes Docker's framed stream apart: each frame has 8 bytes of head (stream, 0, 0, 0, length)."""

    def __init__(self, stdout: int = 1, stderr: int = 2) -> None:
        self._fds = {0: stdout, 1: stdout, 2: stderr}
        self._head = b""
        self._left = 0
        self._fd = stdout

    def feed(self, data: bytes) -> None:
        """Write the frames' content where it belongs; what a frame lacks comes with the next call."""
        view = memoryview(data)
        pieces: list[memoryview] = []
        while view:
            if self._left:
                piece = view[: self._left]
                pieces.append(piece)
                self._left -= len(piece)
                view = view[len(piece) :]
                continue
            need = 8 - len(self._head)
            head = self._head + bytes(view[:need])
            view = view[need:]
            if len(head) < 8:
                self._head = head
                break
            self._head = b""
            fd = self._fds.get(head[0])
            if fd is None:
                # 3 is an error of the engine's own: a person should see it
                fd = self._fds[2]
            if (fd != self._fd or len(pieces) >= _MAX_VECTOR) and pieces:
                self._flush(pieces)
                pieces = []
            self._fd = fd
            self._left = int.from_bytes(head[4:], "big")
        if pieces:
            self._flush(pieces)

    def _flush(self, pieces: "list[memoryview]") -> None:
        if len(pieces) == 1:
            write_all(self._fd, pieces[0])
            return
        try:
            written = os.writev(self._fd, pieces)
        except BlockingIOError:
            written = 0
        for piece in pieces:
            if written >= len(piece):
                written -= len(piece)
                continue
            write_all(self._fd, piece[written:])
            written = 0


class Session:
    """One attached container or exec.

    Args:
        connection: a hijacked connection.
        tail: bytes of the stream that were read with its head.
        tty: whether the stream is raw, and the keys that detach are looked for.
        stdin: whether to send ours.
        output: whether anything comes back.
        detach_keys: as the flag says them.
    """

    def __init__(
        self, connection: "Connection", tail: bytes, *, tty: bool, stdin: bool, output: bool, detach_keys: str = ""
    ) -> None:
        self._sock = connection.sock
        self._connection = connection
        self._tty = tty
        self._output = output
        self._demux = None if tty else Demux()
        self._tail = tail
        self._pending = memoryview(b"")
        self._stdin_open = stdin
        self._closing = not stdin
        self._half_closed = False
        self._raw = RawTerminal()
        self._watch: DetachWatch | None = None
        # asked again at short intervals until the process is there to be resized
        self.resize: Callable[[], bool] | None = None
        self._resize_attempts = 10
        if tty and stdin:
            self._watch = DetachWatch(parse_detach_keys(detach_keys or "ctrl-p,ctrl-q"))

    def enter_terminal(self) -> None:
        """Raw mode, when this session reads a terminal for one. Undone by `close`."""
        if self._watch is not None and os.isatty(0):
            self._raw.enter()

    def close(self) -> None:
        """Restore the terminal, close the stream."""
        self._raw.leave()
        self._connection.close()

    def run(self, watch: "Response | None" = None) -> str:
        """Copy until the stream ends, the keys that detach were typed, or `watch` has something to read.

        Returns:
            `ENDED`, `DETACHED` or `WATCHED`; after the last, the session may be run on.
        """
        if self._tail:
            tail, self._tail = self._tail, b""
            self._write(tail)
        while True:
            if self._closing and not self._pending and not self._half_closed:
                self._half_close()
                if not self._output:
                    return ENDED
            ready = self._wait(watch)
            if watch is not None and watch.fileno() in ready:
                return WATCHED
            events = ready.get(self._sock.fileno(), 0)
            if events & ~select.POLLOUT:
                try:
                    data = self._sock.recv(_CHUNK)
                except OSError:
                    data = b""
                if not data:
                    self._raw.leave()
                    return ENDED
                self._write(data)
            if events & select.POLLOUT:
                self._send()
            if 0 in ready and self._read_stdin():
                self._raw.leave()
                return DETACHED

    def _wait(self, watch: "Response | None") -> "dict[int, int]":
        poll = select.poll()
        poll.register(self._sock, select.POLLIN | (select.POLLOUT if self._pending else 0))
        if self._stdin_open and not self._pending:
            poll.register(0, select.POLLIN)
        if watch is not None:
            poll.register(watch.fileno(), select.POLLIN)
        timeout = None
        if self.resize is not None:
            if self._resize_attempts == 0 or self.resize():
                self.resize = None
            else:
                self._resize_attempts -= 1
                timeout = (10 - self._resize_attempts) * 10
        return dict(poll.poll(timeout))

    def _write(self, data: bytes) -> None:
        if self._demux is not None:
            self._demux.feed(data)
        else:
            write_all(1, data)

    def _read_stdin(self) -> bool:
        """Returns whether the keys that detach were typed."""
        try:
            data = os.read(0, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:  # a terminal that hung up
            data = b""
        if not data:
            self._stdin_open = False
            self._closing = True
            self._raw.leave()
            return False
        detached = False
        if self._watch is not None:
            data, detached = self._watch.feed(data)
        self._pending = memoryview(data)
        if self._pending:
            self._send()
        return detached

    def _send(self) -> None:
        try:
            sent = self._sock.send(self._pending, _socket.MSG_NOSIGNAL | _socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            # nobody reads it any more; what there is to say comes on the other half
            self._pending = memoryview(b"")
            self._stdin_open = False
            self._half_closed = True
            return
        self._pending = self._pending[sent:]

    def _half_close(self) -> None:
        self._half_closed = True
        try:
            self._sock.shutdown(_socket.SHUT_WR)
        except OSError:  # the peer closed it first
            return
