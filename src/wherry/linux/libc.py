"""The C library by ctypes: one handle, one way to call, one way to fail.

Every wrapper of this package goes through `call` or `syscall`, so that an error always names the step that failed.
`use_errno` keeps errno out of the interpreter's way.
"""

import ctypes
import os

from wherry.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def check(result: int, what: str, path: str | None = None) -> int:
    """Return `result` if it is not negative, else raise `KernelError` with errno, naming `what` and `path`."""
    if result < 0:
        raise KernelError(what, ctypes.get_errno(), path)
    return result


def syscall(number: int, *args: "Any", what: str, path: str | None = None) -> int:
    """Make a raw system call. Integers are passed as `long`; strings are encoded as file names.

    Raises:
        KernelError: the call failed; `errno` says how.
    """
    return check(libc.syscall(ctypes.c_long(number), *[_long(a) for a in args]), what, path)


def _long(value: "Any") -> "Any":
    if isinstance(value, int):
        return ctypes.c_long(value)
    if isinstance(value, str):
        return ctypes.c_char_p(os.fsencode(value))
    return value
