"""Sockets for 32-bit programs: the monitor answers their socketcall(SYS_SOCKET), see `runtime/socketcall.py`.

For each request a fork of the monitor moves into the container's cgroup, reads the three arguments once, refuses the
families that the profile refuses, becomes the caller (network namespace, ids, capabilities), makes the socket, and has
the kernel put it into the caller. The caller's memory is never read again, so changing it in between changes nothing.
The fork, not the monitor, waits for memory that the container provides.
"""

import ctypes
import errno
import os
import select
import struct
import time

from wherry.errors import WherryError
from wherry.linux import seccomp_notify as notify
from wherry.linux.libc import libc
from wherry.linux.loop import IN
from wherry.linux.process import PR_SET_DUMPABLE, pidfd_send_signal, prctl
from wherry.linux.signals import SIGKILL
from wherry.monitor.child import become_child, fork
from wherry.monitor.children import watch_child
from wherry.oci.seccomp_profile import CLOSED_FAMILIES
from wherry.runtime import socketcall
from wherry.runtime.caller import Caller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from wherry.linux.loop import Loop

# of one listener at once: a container must not have the monitor fork without end
AT_ONCE = 4
SETTLE_SECONDS = 3.0
_SOCK_CLOEXEC = 0o2000000
_WORDS = struct.Struct("=3i")


class Socketcalls:
    """The requests of one filter: of process 1, or of an exec'd process, and of all that descend from it.

    Args:
        loop: the monitor's.
        enter: moves the calling process into the container's cgroup, beside the process whose id it gets.
        listener: of the filter; owned.
        on_end: called when nobody has the filter any more, and the listener is closed.
    """

    __slots__ = ("_enter", "_listener", "_loop", "_on_end", "_working")

    def __init__(
        self, loop: "Loop", enter: "Callable[[int], None]", listener: int, on_end: "Callable[[], None]"
    ) -> None:
        self._loop = loop
        self._enter = enter
        self._listener = listener
        self._on_end = on_end
        self._working: dict[int, notify.Request] = {}  # by the pidfd of the process that does it
        self._watch()

    def settle(self) -> None:
        """Wait until every request that was received is answered; new ones are not received before the loop goes on.
        What takes longer than `SETTLE_SECONDS` is given up."""
        deadline = time.monotonic() + SETTLE_SECONDS
        for pidfd, request in self._working.items():
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                pidfd_send_signal(pidfd, SIGKILL)
            notify.refuse(self._listener, request, errno.ENOBUFS)  # no answer to what was answered already

    def _watch(self) -> None:
        self._loop.watch(self._listener, IN, self._ready)

    def _ready(self, bits: int) -> None:
        if not bits & IN:
            # nobody has the filter any more
            self._loop.unwatch(self._listener)
            if not self._working:
                os.close(self._listener)
                self._on_end()
            return
        request = notify.receive(self._listener)
        if request is None:
            return
        try:
            pid = fork(lambda: _work(self._listener, request, self._enter))
        except OSError as error:
            notify.refuse(self._listener, request, error.errno or errno.EAGAIN)
            return
        pidfd = os.pidfd_open(pid)
        self._working[pidfd] = request
        if len(self._working) == AT_ONCE:
            self._loop.unwatch(self._listener)
        watch_child(self._loop, pid, pidfd, lambda code, number: self._worked(pidfd, code, number))

    def _worked(self, pidfd: int, code: int, number: int | None) -> None:
        request = self._working.pop(pidfd)
        self._watch()
        # it failed, or was killed: the caller must not wait for ever
        if code and notify.refuse(self._listener, request, errno.ENOBUFS) and number is None:
            raise WherryError("socketcall: the process that makes the socket failed")


def _work(listener: int, request: notify.Request, enter: "Callable[[int], None]") -> None:
    # with the caller's ids it must stay closed to the caller, also where both are in one pid namespace
    prctl(PR_SET_DUMPABLE, 0)
    become_child((listener,), "wherry-socket")
    number = _answer(listener, request, enter)
    if number:
        notify.refuse(listener, request, number)


def _answer(listener: int, request: notify.Request, enter: "Callable[[int], None]") -> int:
    """Make the socket and hand it over; or return the error number that the caller gets."""
    expected = (socketcall.NUMBER, socketcall.ARCHITECTURE, socketcall.SYS_SOCKET)
    if (request.number, request.architecture, request.arguments[0] & 0xFFFFFFFF) != expected:
        return errno.ENOSYS
    try:
        caller = Caller(request.thread)
        enter(caller.process)
    except OSError:
        if notify.waiting(listener, request):
            raise
        return errno.ESRCH
    try:
        words = caller.read(request.arguments[1] & 0xFFFFFFFF, _WORDS.size)
    except OSError:
        words = b""
    if not notify.waiting(listener, request):
        return errno.ESRCH  # it is gone: what was read may be another's
    if len(words) < _WORDS.size:
        return errno.EFAULT
    family, kind, protocol = _WORDS.unpack(words)
    if family in CLOSED_FAMILIES:
        return errno.EPERM
    caller.become()
    fd = libc.socket(family, kind | _SOCK_CLOEXEC, protocol)
    if fd < 0:
        return ctypes.get_errno()
    try:
        notify.answer_with_descriptor(listener, request, fd, close_on_exec=bool(kind & _SOCK_CLOEXEC))
    except OSError as error:
        return error.errno or errno.ENOBUFS
    return 0
