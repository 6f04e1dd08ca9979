"""What the fake engine's containers do with a client's socket."""

import socket
import struct
import threading
from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .fake_engine import FakeEngine

Behaviour = Callable[[socket.socket, bytes], None]


def frame(data: bytes, stream: int = 1) -> bytes:
    """Wrap output as Docker does where there is no terminal."""
    return struct.pack(">BxxxL", stream, len(data)) + data


def echo(sock: socket.socket, tail: bytes, *, framed: bool = True) -> None:
    """Send back what comes, tail first, until the client ends its side; then say so."""
    wrap = frame if framed else bytes
    data = tail
    while True:
        if data:
            sock.sendall(wrap(data))
        data = sock.recv(65536)
        if not data:
            break
    sock.sendall(wrap(b"<end>"))


def shell(sock: socket.socket, tail: bytes) -> None:
    """A terminal that echoes lines in capitals and ends at `exit`."""
    sock.sendall(b"/ # ")
    line = tail
    while b"exit" not in line:
        data = sock.recv(4096)
        if not data:
            return
        line += data
        if b"\r" in line or b"\n" in line:
            sock.sendall(b"\r\n" + line.strip().upper() + b"\r\n/ # ")
            if b"exit" in line:
                break
            line = b""


def count(sock: socket.socket, tail: bytes) -> None:
    """Count bytes until the client ends its side."""
    total = len(tail)
    while data := sock.recv(1 << 18):
        total += len(data)
    sock.sendall(frame(b"%d" % total))


def log_lines(sock: socket.socket, tail: bytes, *, chunked: bool) -> None:
    """Three lines on both streams."""
    lines = [frame(b"one\n"), frame(b"two\n", 2), frame(b"three\n")]
    for line in lines:
        sock.sendall(b"%x\r\n%b\r\n" % (len(line), line) if chunked else line)
    if chunked:
        sock.sendall(b"0\r\n\r\n")


class FakeTicket:
    """Runs a behaviour over the socket in a thread, as a monitor would in a process."""

    def __init__(self, engine: "FakeEngine", behaviour: Behaviour, tty: bool) -> None:
        self.engine = engine
        self.behaviour = behaviour
        self.tty = tty

    async def connect(self, fd: int, tail: bytes = b"") -> None:
        """Take the socket over."""
        self.engine.tails.append(tail)
        thread = threading.Thread(target=self._run, args=(fd, tail))
        self.engine.threads.append(thread)
        thread.start()

    def _run(self, fd: int, tail: bytes) -> None:
        with socket.socket(fileno=fd) as sock:
            sock.setblocking(True)
            sock.settimeout(20)
            try:
                self.behaviour(sock, tail)
            except OSError as error:
                self.engine.stream_errors.append(error)
            finally:
                self.engine.exited.set()
