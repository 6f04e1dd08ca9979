"""The last system calls of a process that joins a container, which its filter must not refuse.

The filter is installed before the process exists, by one that still may (see `join`). What is left to do then is to
fork, and in the child to lead a session, take a terminal and set one limit. A profile may forbid each of them to the
program. So these calls carry a random token in an argument that the kernel ignores, and a few instructions before the
filter's own let them pass. The program cannot repeat them: its exec wipes the token out of its memory.
"""

import ctypes
import errno
import os
import struct
import sys

from wherry.errors import KernelError
from wherry.linux.clone import CLONE_PARENT, CLONE_PARENT_SETTID, CLONE_VFORK, CLONE_VM, fork_by
from wherry.linux.libc import libc

RLIMIT_NPROC = 6
_TIOCSCTTY = 0x540E
# clone, setsid, ioctl, prlimit64
_GENERIC = (220, 157, 29, 261)
_NUMBERS = {
    "x86_64": (56, 112, 16, 302),
    "aarch64": _GENERIC,
    "riscv64": _GENERIC,
    "loongarch64": _GENERIC,
    "armv7l": (120, 66, 54, 369),
    "ppc64le": (120, 66, 54, 325),
    "s390x": (120, 66, 54, 334),
}
_SHARING = CLONE_PARENT | CLONE_VM | CLONE_VFORK | CLONE_PARENT_SETTID
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW = 0x7FFF0000
_NUMBER_AT, _ARGUMENTS_AT = 0, 16
_TOKEN_AT = _ARGUMENTS_AT + 5 * 8
_LOW_WORD = 0 if sys.byteorder == "little" else 4
_TOKEN_BYTES = ctypes.sizeof(ctypes.c_long)


class LastCalls:
    """These calls, with one token.

    Raises:
        KernelError: ENOSYS: their numbers are not known on this machine.
    """

    __slots__ = ("_clone", "_flags_first", "_ioctl", "_prlimit", "_setsid", "_token")

    def __init__(self) -> None:
        machine = os.uname().machine
        if machine not in _NUMBERS:
            raise KernelError(f"join a container on {machine}", errno.ENOSYS)
        self._clone, self._setsid, self._ioctl, self._prlimit = _NUMBERS[machine]
        self._flags_first = machine != "s390x"  # there the stack comes first
        self._token = int.from_bytes(os.urandom(_TOKEN_BYTES), "little") | 1

    def passing(self, program: bytes) -> bytes:
        """Return a filter that lets these calls pass and is `program` in all else.

        The number of the call is looked at first: for all others the kernel sees that nothing else counts, and
        remembers the answer (seccomp's action cache).
        """
        flags_at = (_ARGUMENTS_AT if self._flags_first else _ARGUMENTS_AT + 8) + _LOW_WORD
        request_at = _ARGUMENTS_AT + 8 + _LOW_WORD
        code = (
            (_LOAD, 0, 0, _NUMBER_AT),
            (_EQUAL, 3, 0, self._clone),
            (_EQUAL, 9, 0, self._setsid),
            (_EQUAL, 4, 0, self._ioctl),
            (_EQUAL, 5, 12, self._prlimit),
            (_LOAD, 0, 0, flags_at),
            (_EQUAL, 5, 0, _SHARING),
            (_EQUAL, 4, 9, CLONE_PARENT),
            (_LOAD, 0, 0, request_at),
            (_EQUAL, 2, 7, _TIOCSCTTY),
            (_LOAD, 0, 0, request_at),
            (_EQUAL, 0, 5, RLIMIT_NPROC),
            (_LOAD, 0, 0, _TOKEN_AT + _LOW_WORD),
            (_EQUAL, 0, 3, self._token & 0xFFFFFFFF),
            (_LOAD, 0, 0, _TOKEN_AT + 4 - _LOW_WORD),
            (_EQUAL, 0, 1, self._token >> 32),
            (_RETURN, 0, 0, _ALLOW),
        )
        return b"".join(struct.pack("=HBBI", *line) for line in code) + program

    def fork(self) -> int:
        """Fork a child of the caller's parent (CLONE_PARENT). Returns 0 in it, else its pid as the caller sees it.

        Raises:
            KernelError: the call failed; there is no child.
        """
        return self._fork(CLONE_PARENT, 0)

    def pass_on(self) -> int:
        """Go on in a child of the caller's parent that has the caller's memory (CLONE_VM, CLONE_VFORK). The caller must
        not run again: see `hold_after_vfork`.

        Returns:
            The pid of the child, as the caller sees it.

        Raises:
            KernelError: the call failed; there is no child.
        """
        pid = ctypes.c_int(0)
        self._fork(_SHARING, ctypes.addressof(pid))
        return pid.value

    def _fork(self, flags: int, settid: int) -> int:
        first, second = (flags, 0) if self._flags_first else (0, flags)
        return fork_by(self._clone, first, second, settid, 0, 0, self._token, hooks=not settid)

    def lead_session(self) -> None:
        """setsid(2)."""
        self._call("setsid", self._setsid, 0, 0, 0, 0)

    def take_terminal(self, fd: int) -> None:
        """TIOCSCTTY (ioctl_tty(2)): make `fd` the controlling terminal of this session."""
        self._call("take terminal", self._ioctl, fd, _TIOCSCTTY, 0, 0)

    def limit_processes(self, soft: int, hard: int) -> None:
        """RLIMIT_NPROC of this process (prlimit(2)); -1: unlimited."""
        values = (ctypes.c_uint64 * 2)(soft & 0xFFFFFFFFFFFFFFFF, hard & 0xFFFFFFFFFFFFFFFF)
        self._call("set RLIMIT_NPROC", self._prlimit, 0, RLIMIT_NPROC, ctypes.addressof(values), 0)

    def _call(self, what: str, number: int, *arguments: int) -> None:
        words = [ctypes.c_long(word) for word in (number, *arguments, 0, self._token)]
        if libc.syscall(*words) < 0:
            raise KernelError(what, ctypes.get_errno())
