"""One attached client: a socket that gets a process's output and may give it input.

What a client does not take at once waits in memory, beyond `MEMORY` bytes in a file without a name. While the files of
all clients of a process have `SPOOL` bytes, the process waits (`Streams.balance`). At the end a client gets the rest,
then end of file; the socket stays open until the client closes its side, because closing it over unread input would
give the client an error instead of the end (unix(7): ECONNRESET).
"""

import _socket
import errno
import os
import struct
from fcntl import fcntl

from wherry.linux.loop import ERR, HUP, IN, OUT
from wherry.monitor.keys import DetachKeys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque

    from wherry.linux.loop import Loop
    from wherry.monitor.streams import Streams
else:
    from _collections import deque  # `collections` would be an import for this alone

# a client further behind than this does not keep up; beyond MEMORY its backlog goes to the spool file
KEEPS_UP = 256 * 1024
MEMORY = 1 << 20
# what the spool files of one process's clients may have together; dockerd waits for a client from 1 MB on
SPOOL = 64 << 20

_READ = 64 * 1024
_PIPE_SIZE = 1 << 20
_SPLICE = 1 << 20
_NOW = _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL
_BUFFERS = 32
_SPLICE_NONBLOCK = os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE
_F_SETPIPE_SZ = 1031
_SO_SNDBUFFORCE = 32


def widen(sock: "_socket.socket") -> None:
    """Let a socket hold a megabyte: who writes and who reads change places less often."""
    try:
        sock.setsockopt(_socket.SOL_SOCKET, _SO_SNDBUFFORCE, MEMORY)
    except OSError:
        return  # the usual size does


class Spool:
    """A file without a name that is written at one end and sent from the other.

    Args:
        directory: the file system that pays.
    """

    __slots__ = ("_fd", "_head", "_tail")

    def __init__(self, directory: str) -> None:
        try:
            self._fd = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
                raise
            self._fd = os.memfd_create("wherry-spool", os.MFD_CLOEXEC)
        self._head = self._tail = 0

    def __len__(self) -> int:
        return self._tail - self._head

    @property
    def size(self) -> int:
        """Bytes of the file: what was sent is part of it until everything was."""
        return self._tail

    def append(self, data: "bytes | memoryview") -> None:
        """Write at the end; raises OSError where the file system is full."""
        view = memoryview(data)
        while view:
            count = os.pwrite(self._fd, view, self._tail)
            self._tail += count
            view = view[count:]

    def send(self, sock: int) -> None:
        """Send as much as the socket takes; raises BlockingIOError when it takes no more."""
        while self._head < self._tail:
            self._head += os.sendfile(sock, self._fd, self._head, min(self._tail - self._head, 1 << 20))

    def close(self) -> None:
        os.close(self._fd)


class Client:
    """See the module. Made by `Streams.attach`.

    Args:
        loop: the monitor's.
        streams: what it is attached to.
        fd: its socket; owned.
        stdin: its input goes to the process.
        wants: bits of the output streams that it gets (1 stdout, 2 stderr).
        framed: output carries Docker's 8-byte headers.
        keys: detach sequence, or None.
        tail: input that came with the request.
    """

    __slots__ = (
        "_fd",
        "_finishing",
        "_framed",
        "_gone",
        "_keys",
        "_loop",
        "_pending",
        "_queue",
        "_reading",
        "_shut",
        "_sock",
        "_spliced",
        "_spool",
        "_stdin",
        "_streams",
        "_tail",
        "_wide",
        "wants",
    )

    def __init__(
        self,
        loop: "Loop",
        streams: "Streams",
        fd: int,
        *,
        stdin: bool,
        wants: int,
        framed: bool,
        keys: "bytes | None",
        tail: bytes,
    ) -> None:
        self._loop = loop
        self._streams = streams
        self._sock = _socket.socket(fileno=fd)
        self._sock.setblocking(False)
        self._fd = fd
        self._stdin = stdin
        self.wants = wants
        self._framed = framed
        self._keys = DetachKeys(keys) if keys else None
        self._tail = tail
        self._queue: deque[bytes | memoryview] = deque()
        self._pending = 0
        self._spool: Spool | None = None
        self._reading = False  # its input is watched
        self._spliced = False  # the pipe was made large for it
        self._finishing = False  # no more output will come
        self._shut = False  # it was given the end of file
        self._gone = False  # it cannot be reached any more; its last input may still be read
        self._wide = False  # its socket was made to hold more

    @property
    def behind(self) -> int:
        """Bytes of output that it has still to get."""
        return self._pending + (len(self._spool) if self._spool is not None else 0)

    @property
    def spooled(self) -> int:
        """Bytes of its spool file."""
        return self._spool.size if self._spool is not None else 0

    @property
    def keeps_up(self) -> bool:
        return self.behind < KEEPS_UP

    def start(self) -> None:
        """Begin to serve it."""
        self.resume_input()

    # ---- output

    def output(self, stream: int, data: bytes) -> None:
        """Give it a piece of output, at most 64 KiB."""
        if not self.wants & stream or self._finishing:
            return
        if self._framed:
            buffers: tuple[bytes, ...] = (struct.pack(">BxxxI", stream, len(data)), data)
            size = len(data) + 8
        else:
            buffers, size = (data,), len(data)
        if not self._queue and self._spool is None:
            try:
                sent = self._sock.sendmsg(buffers, (), _NOW)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._unreachable()
                return
            if sent == size:
                return
            if not self._wide:
                self._wide = True
                widen(self._sock)
            for buffer in buffers:
                if sent >= len(buffer):
                    sent -= len(buffer)
                else:
                    self._keep(memoryview(buffer)[sent:] if sent else buffer)
                    sent = 0
            self._watch()
        else:
            for buffer in buffers:
                self._keep(buffer)

    def _keep(self, data: "bytes | memoryview") -> None:
        if self._spool is None and self._pending + len(data) <= MEMORY:
            self._queue.append(data)
            self._pending += len(data)
            return
        if self._gone:
            return
        try:
            if self._spool is None:
                self._spool = Spool(self._streams.spool_dir)
            self._spool.append(data)
        except OSError:
            # the disk is full: this client loses, nobody else
            self._unreachable()

    def _flush(self) -> None:
        queue = self._queue
        try:
            while queue:
                buffers = [queue[i] for i in range(min(len(queue), _BUFFERS))]
                sent = self._sock.sendmsg(buffers, (), _NOW)
                self._pending -= sent
                while sent:
                    head = queue[0]
                    if sent < len(head):
                        queue[0] = memoryview(head)[sent:]
                        break
                    sent -= len(head)
                    queue.popleft()
            if self._spool is not None:
                self._spool.send(self._fd)
                self._spool.close()
                self._spool = None
        except BlockingIOError:
            return
        except OSError:
            self._unreachable()

    def finish(self) -> None:
        """No more output will come: end of file after what is waiting. Its input is no longer the process's."""
        self._finishing = True
        self._stdin = False
        self._reading = True
        self._shut_when_flushed()
        if self._sock.fileno() >= 0:
            self._watch()

    def _shut_when_flushed(self) -> None:
        if self._finishing and not self._shut and not self.behind:
            self._shut = True
            self._discard_input()
            if self._sock.fileno() < 0:
                return
            try:
                self._sock.shutdown(_socket.SHUT_WR)
            except OSError:
                self.close()

    # ---- input

    def resume_input(self) -> None:
        """The process takes input (again)."""
        if self._sock.fileno() < 0:
            return
        # a client whose input nobody wants (yet) is not read: it would be discarded as fast as it can be sent
        self._reading = self._finishing or (self._stdin and self._streams.begun and self._streams.sink is not None)
        if self._reading and self._tail:
            tail, self._tail = self._tail, b""
            if self._stdin:
                self._give(tail)
        self._watch()

    def input_refused(self) -> None:
        """The process has closed its input: what the client still sends is not read."""
        if self._stdin:
            self._stdin = False
            self._reading = self._finishing
            self._watch()
            if self._gone:
                self.close()

    def _read(self) -> None:
        if not self._stdin:
            self._discard_input()
            return
        sink = self._streams.sink
        if sink is None:
            self._pause()
            return
        if sink.full:
            self._pause()
            sink.wait(self)
            return
        if sink.is_pipe and self._keys is None:
            self._splice(sink.fd)
            return
        try:
            data = self._sock.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._give(data)
        else:
            self._input_ended()

    def _give(self, data: bytes) -> None:
        sink = self._streams.sink
        detach = False
        if self._keys is not None:
            data, detach = self._keys.feed(data)
        if sink is not None and data:
            sink.write(data)
        if detach:
            self._streams.detached()
            self.finish()
        elif sink is not None and sink.full:
            self._pause()
            sink.wait(self)

    def _splice(self, pipe: int) -> None:
        if not self._spliced:
            self._spliced = True
            try:
                fcntl(pipe, _F_SETPIPE_SZ, _PIPE_SIZE)
            except OSError:
                self._spliced = True  # over the user's pipe quota: the usual size does
        sink = self._streams.sink
        try:
            count = os.splice(self._fd, pipe, _SPLICE, flags=_SPLICE_NONBLOCK)
        except BlockingIOError:
            self._pause()
            if sink is not None:
                sink.wait(self)
            return
        except BrokenPipeError:
            if sink is not None:
                sink.broken()
            return
        except OSError as error:
            if error.errno != errno.EINVAL:
                self._input_ended()
                return
            # a socket that cannot be spliced (TLS by the kernel): copy
            try:
                data = self._sock.recv(_READ)
            except BlockingIOError:
                return
            if data and sink is not None:
                sink.write(data)
                return
            count = 0
        if count == 0:
            self._input_ended()

    def _pause(self) -> None:
        self._reading = False
        self._watch()

    def _input_ended(self) -> None:
        self._stdin = False
        self._reading = False
        self._watch()
        self._streams.end_of_input(self)
        if self._gone and self._sock.fileno() >= 0:
            self.close()

    def _discard_input(self) -> None:
        try:
            data = self._sock.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            return
        self._reading = False
        if self._shut:
            self.close()
        else:
            self._watch()

    # ---- both

    def _watch(self) -> None:
        if self._sock.fileno() < 0:
            return
        events = (IN if self._reading else 0) | (OUT if self._queue or self._spool is not None else 0)
        if self._gone and not events:
            self._loop.unwatch(self._fd)  # HUP would be reported for ever
        else:
            self._loop.watch(self._fd, events, self._ready)

    def _ready(self, bits: int) -> None:
        if self._sock.fileno() < 0:
            return
        if bits & OUT:
            self._flush()
            self._shut_when_flushed()
            if self._sock.fileno() < 0:
                return
            self._watch()
            self._streams.balance()
        if bits & IN:
            self._read()
            if self._sock.fileno() < 0:
                return
        if bits & (HUP | ERR):
            self._unreachable()

    def _unreachable(self) -> None:
        # Its output has nowhere to go; input that it sent before it left is still the process's.
        self._gone = True
        self.wants = 0
        self._queue.clear()
        self._pending = 0
        if self._spool is not None:
            self._spool.close()
            self._spool = None
        if self._finishing or not self._stdin:
            self.close()
        else:
            self._watch()
            self._streams.balance()

    def close(self) -> None:
        """Drop it now."""
        if self._sock.fileno() < 0:
            return
        self._loop.unwatch(self._fd)
        self._sock.close()
        self._queue.clear()
        self._pending = 0
        if self._spool is not None:
            self._spool.close()
            self._spool = None
        self._streams.drop(self)
