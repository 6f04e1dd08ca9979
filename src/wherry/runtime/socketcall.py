"""socketcall(2) of 32-bit x86, whose SYS_SOCKET has its arguments in memory, where no filter sees them.

Debian's and Go's 32-bit programs make every socket by it. The profile refuses it, for it would open the families that
the profile closes. A few instructions before the filter's have the kernel ask instead (seccomp_unotify(2)), and the
monitor makes the socket. A process can have one such filter, so only those get it that may have a use for it.
"""

import os
import stat
import struct

NUMBER = 102
ARCHITECTURE = 0x40000003  # AUDIT_ARCH_I386
SYS_SOCKET = 1

_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_USER_NOTIF = 0x7FC00000
# the number of the call within socketcall is an int: the low word of the register
_ASK = b"".join(
    struct.pack("=HBBI", *line)
    for line in (
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 0, 5, ARCHITECTURE),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_EQUAL, 0, 3, NUMBER),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
        (_EQUAL, 0, 1, SYS_SOCKET),
        (_RETURN, 0, 0, _USER_NOTIF),
    )
)

_LOADERS = ("/lib/ld-linux.so.2", "/lib/ld-musl-i386.so.1")
_HEAD = 256  # of a script the kernel reads as much
_CLASS_AT, _CLASS_32, _MACHINE_AT, _EM_386 = 4, 1, 18, 3


def asking(program: bytes) -> bytes:
    """Return a filter that asks about SYS_SOCKET and is `program` in all else."""
    return _ASK + program


def concerns(program: str) -> bool:
    """Whether 32-bit x86 programs are likely in the root that this process is in.

    So it is if there is a loader for them, or if `program`, or the interpreter of that script, is one.

    Args:
        program: path of what is about to be executed.
    """
    if os.uname().machine != "x86_64":
        return False
    return any(os.path.lexists(path) for path in _LOADERS) or is_32_bit(program)


def is_32_bit(path: str) -> bool:
    """Whether a file is a program of 32-bit x86, or a script for one; False where it cannot be read."""
    head = _head(path)
    if head.startswith(b"#!"):
        words = head[2:].split(b"\n", 1)[0].split()
        head = _head(os.fsdecode(words[0])) if words else b""
    if not head.startswith(b"\x7fELF") or len(head) < _MACHINE_AT + 2:
        return False
    return head[_CLASS_AT] == _CLASS_32 and head[_MACHINE_AT] == _EM_386 and not head[_MACHINE_AT + 1]


def _head(path: str) -> bytes:
    """The first bytes of a regular file; nothing where it cannot be read."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return b""
        # it may have become another file since: a FIFO is not waited for, a terminal not taken
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            return os.read(fd, _HEAD)
        finally:
            os.close(fd)
    except (OSError, ValueError):
        return b""
