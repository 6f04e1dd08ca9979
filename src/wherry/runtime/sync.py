"""The conversation between a launching parent and its child: one seqpacket socket pair, one datagram a message.

child -> parent   {"error": …}      it failed and ends
                  {"at": "hooks"}   its mounts are made; it waits for `pivot`
                  {"at": "terminal"} with the master's descriptor
                  {"at": "listener"} with the descriptor of its filter, where that asks about calls
                  {"at": "waiting"} everything is done; it waits for `start`
                  {"at": "exec"}    the next thing is execve; then the socket closes, or an error follows
parent -> child   one byte: M maps are written, C it is in its cgroup, P pivot, G go on to exec; H see `joiner`

A process that joins a container (`joiner`) has a second pair for the member that it makes, and has closed the first by
then: whoever traces the member can say anything on the second. It carries words, and no descriptors: `b` and the
member's pid, `f` or `e` and an errno.
"""

import _socket
import array
import os
import select
from json import dumps, loads

from wherry.errors import Conflict, KernelError, WherryError, from_wire, to_wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.runtime.cgroups.base import Cgroup

MAPS, CGROUP, PIVOT, GO, HELD = b"M", b"C", b"P", b"G", b"H"
BORN, FAILED, NOT_EXECUTED = b"b", b"f", b"e"
_LIMIT = 65536
LOOK_MILLISECONDS = 1000


class ParentSide:
    """The parent's end. `receive` gives messages until the child executes or ends."""

    __slots__ = ("_sock",)

    def __init__(self, sock: "_socket.socket") -> None:
        self._sock = sock

    def tell(self, word: bytes) -> None:
        """Send a word; a child that is gone will be noticed by `receive`."""
        try:
            self._sock.send(word, _socket.MSG_NOSIGNAL)
        except OSError:
            return

    def say_no_more(self) -> None:
        """Whatever the child waits for, it ends, with what it has to say itself still to be read."""
        try:
            self._sock.shutdown(_socket.SHUT_WR)
        except OSError:
            return

    def fileno(self) -> int:
        return self._sock.fileno()

    def receive_word(self, limit: int) -> bytes:
        """The bytes of a message, as they came; nothing at the end. Descriptors that came with it are dropped."""
        try:
            return self._sock.recv(limit)
        except ConnectionResetError:
            return self._sock.recv(limit)  # as in `receive`

    def receive(self, stalled: "Callable[[], None] | None" = None) -> "tuple[dict[str, Any] | None, int | None]":
        """(message, descriptor). The message is None once the child has executed or ended.

        Args:
            stalled: called each second in which nothing comes; what it raises ends the wait.
        """
        if stalled is not None:
            poll = select.poll()
            poll.register(self._sock.fileno(), select.POLLIN)
            while not poll.poll(LOOK_MILLISECONDS):
                stalled()
        try:
            data, ancillary = self._take()
        except ConnectionResetError:
            # it ended with a word of ours unread; the kernel says that first, and once: what it said itself comes now
            data, ancillary = self._take()
        fd: int | None = None
        for level, kind, payload in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                fds = array.array("i", payload)
                fd = fds[0] if fds else None
        return (loads(data) if data else None), fd

    def _take(self) -> "tuple[bytes, list[tuple[int, int, bytes]]]":
        return self._sock.recvmsg(_LIMIT, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)[:2]

    def close(self) -> None:
        self._sock.close()


class ChildSide:
    """The child's end."""

    __slots__ = ("_heard", "_sock")

    def __init__(self, sock: "_socket.socket") -> None:
        self._sock = sock
        self._heard = b""

    def fileno(self) -> int:
        return self._sock.fileno()

    def wait(self, word: bytes) -> None:
        """Wait until the parent has said `word`. A parent that is gone ends this process."""
        while word not in self._heard:
            said = self._sock.recv(16)
            if not said:
                os._exit(1)
            self._heard += said

    def heard(self, word: bytes) -> bool:
        """Whether the parent has said `word` before one that was waited for."""
        return word in self._heard

    def say_word(self, word: bytes) -> None:
        """Say what is no message; for `ParentSide.receive_word`."""
        self._sock.send(word, _socket.MSG_NOSIGNAL)

    def close(self) -> None:
        self._sock.close()

    def say(self, where: str, fd: int | None = None) -> None:
        data = dumps({"at": where}).encode()
        if fd is None:
            self._sock.send(data, _socket.MSG_NOSIGNAL)
        else:
            self._sock.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", [fd]))])

    def fail(self, error: BaseException) -> bool:
        """Report an error, shortened to what a datagram holds. False: nobody is there to hear it."""
        if isinstance(error, OSError) and not isinstance(error, WherryError):
            error = KernelError(type(error).__name__, error.errno or 0, str(error.filename or "") or None)
        wire = to_wire(error)
        wire["message"] = wire["message"][:16000]
        try:
            self._sock.send(dumps({"error": wire}).encode(), _socket.MSG_NOSIGNAL)
        except OSError:
            return False
        return True


def pair() -> "tuple[_socket.socket, _socket.socket]":
    """A connected pair, close-on-exec."""
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)


class Watch:
    """Notices a child that cannot go on because somebody has frozen its cgroup: for `ParentSide.receive`."""

    __slots__ = ("_cgroup", "_looks", "_seen")

    def __init__(self, cgroup: "Cgroup | None", looks: int = 0) -> None:
        """`looks`: how often at most; 0: for ever."""
        self._cgroup = cgroup
        self._looks = looks
        self._seen = 0

    def check(self) -> None:
        """Raises Conflict when it is frozen."""
        if self._cgroup is not None and self._cgroup.frozen():
            raise Conflict(f"container's cgroup unexpectedly frozen: {self._cgroup.path}")

    def __call__(self) -> None:
        """Raises Conflict when it is frozen, and was a second ago."""
        if self._looks:
            self._looks -= 1
            if not self._looks:
                raise WherryError("the container's first process does not end")
        if self._cgroup is None or not self._cgroup.frozen():
            self._seen = 0
            return
        self._seen += 1
        if self._seen > 1:
            self.check()


def raised(message: "dict[str, Any]") -> WherryError:
    """The error that a message carries."""
    return from_wire(message["error"])
