"""Answering system calls that a filter hands to user space (seccomp_unotify(2)).

A request lives until it is answered or its caller dies; until then the caller stays in the call, and its thread id is
nobody else's. What was read of the caller counts only if `waiting` still says so afterwards.
"""

import errno
import fcntl
import os
import struct

from wherry.errors import KernelError

# struct seccomp_notif: id, pid, flags, and struct seccomp_data: nr, arch, instruction pointer, six arguments
_REQUEST = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")  # id, val, error, flags
_DESCRIPTOR = struct.Struct("=QIIII")  # id, flags, source, target, flags of the target
_RECEIVE, _SEND, _IS_VALID, _ADD_DESCRIPTOR = 0xC0502100, 0xC0182101, 0x40082102, 0x40182103
_AND_ANSWER = 2  # SECCOMP_ADDFD_FLAG_SEND


class Request:
    """One call that waits. `thread` is its caller as this process's pid namespace numbers it."""

    __slots__ = ("architecture", "arguments", "id", "number", "thread")

    def __init__(self, id_: int, thread: int, number: int, architecture: int, arguments: "tuple[int, ...]") -> None:
        self.id = id_
        self.thread = thread
        self.number = number
        self.architecture = architecture
        self.arguments = arguments


def receive(listener: int) -> Request | None:
    """Take the next request; to be called when the listener is readable. None: its caller is gone.

    Raises:
        KernelError: the call failed.
    """
    buffer = bytearray(_REQUEST.size)
    try:
        fcntl.ioctl(listener, _RECEIVE, buffer, True)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):
            return None
        raise KernelError("receive a system call", error.errno or 0) from None
    id_, thread, _flags, number, architecture, _pointer, *arguments = _REQUEST.unpack(buffer)
    return Request(id_, thread, number, architecture, tuple(arguments))


def waiting(listener: int, request: Request) -> bool:
    """Whether the caller is still in the call."""
    try:
        fcntl.ioctl(listener, _IS_VALID, struct.pack("=Q", request.id))
    except OSError:
        return False
    return True


def refuse(listener: int, request: Request, number: int) -> bool:
    """Have the call fail with an error number. False: it was answered already, or its caller is gone."""
    try:
        fcntl.ioctl(listener, _SEND, _RESPONSE.pack(request.id, 0, -number, 0))
    except OSError:
        return False
    return True


def answer_with_descriptor(listener: int, request: Request, fd: int, *, close_on_exec: bool) -> None:
    """Duplicate `fd` into the caller; its number there is what the call returns. A caller that is gone gets nothing.

    Raises:
        OSError: it cannot be had there, as for the caller's limit (EMFILE); the call is not answered.
    """
    flags = os.O_CLOEXEC if close_on_exec else 0
    try:
        fcntl.ioctl(listener, _ADD_DESCRIPTOR, _DESCRIPTOR.pack(request.id, _AND_ANSWER, fd, 0, flags))
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINPROGRESS):
            raise
