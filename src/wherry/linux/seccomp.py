"""Installing a compiled system-call filter in the calling thread (seccomp(2)).

What can fail for want of memory or of an import is done in `prepare`, before a child enters a container's root.
"""

import ctypes

from wherry.errors import InvalidSpec, KernelError
from wherry.linux.libc import check, libc

INSTRUCTION = 8
MAX_INSTRUCTIONS = 4096
FLAG_TSYNC, FLAG_LOG, FLAG_SPEC_ALLOW = 1, 2, 4
# 5.0; 5.19: once a request was received, only a fatal signal ends the caller's wait
_FLAG_NEW_LISTENER, _FLAG_WAIT_KILLABLE_RECV = 8, 32

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_SET_MODE_FILTER = 1
_SYS_SECCOMP = {"x86_64": 317, "aarch64": 277, "riscv64": 277, "armv7l": 383, "s390x": 348, "ppc64le": 358}


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


class PreparedFilter:
    """A filter in memory, ready for one system call."""

    __slots__ = ("_code", "_flags", "_number", "_program")

    def __init__(self, program: bytes, flags: int = 0) -> None:
        import os

        count, rest = divmod(len(program), INSTRUCTION)
        if rest or not 0 < count <= MAX_INSTRUCTIONS:
            raise InvalidSpec(f"not a system-call filter: {len(program)} bytes")
        self._code = ctypes.create_string_buffer(program, len(program))
        self._program = _Program(count, ctypes.addressof(self._code))
        self._flags = flags
        self._number = _SYS_SECCOMP.get(os.uname().machine, -1)

    def install(self) -> int:
        """Confine the calling thread and what it executes; there is no way back.

        Needs CAP_SYS_ADMIN, or no_new_privs set before.

        Returns:
            what the kernel returns: a listener where the flags ask for one.

        Raises:
            KernelError: the kernel refuses it.
        """
        pointer = ctypes.byref(self._program)
        if self._flags and self._number >= 0:
            result = libc.syscall(
                ctypes.c_long(self._number), ctypes.c_long(_SET_MODE_FILTER), ctypes.c_long(self._flags), pointer
            )
        else:
            result = libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_MODE_FILTER), pointer, ctypes.c_ulong(0))
        return check(int(result), "install system-call filter")


def prepare_filter(program: bytes, flags: int = 0) -> PreparedFilter:
    """Check a program and hold it ready.

    Raises:
        InvalidSpec: it is no whole number of instructions, empty, or too long.
    """
    return PreparedFilter(program, flags)


def install_asking_filter(program: bytes) -> int | None:
    """Install a filter that answers some calls with SECCOMP_RET_USER_NOTIF (seccomp_unotify(2)).

    Returns:
        the listener, close-on-exec; None where nothing was installed: the kernel is older than 5.19, or a filter that
        this process has already has a listener, and there can be one.

    Raises:
        InvalidSpec: as `prepare_filter`.
    """
    flags = _FLAG_NEW_LISTENER | _FLAG_WAIT_KILLABLE_RECV
    try:
        return prepare_filter(program, flags).install()
    except KernelError:
        return None


def install_filter(program: bytes, flags: int = 0) -> None:
    """Prepare and install at once. Raises as both."""
    prepare_filter(program, flags).install()
