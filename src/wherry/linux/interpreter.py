"""A copy of our own interpreter that nobody can write to (CVE-2019-5736).

A process that enters a container leads, by /proc/<pid>/exe, to the file it was executed from. What leads there must be
neither the host's Python nor writable: a detached read-only clone of its mount, or on old kernels a sealed memfd.
"""

import errno
import fcntl
import os
import sys

from wherry.errors import KernelError
from wherry.linux.mount import MOUNT_ATTR_RDONLY, clone_tree, set_attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

_ADD_SEALS = 1033
_EVERY_SEAL = 0x1 | 0x2 | 0x4 | 0x8  # no more seals, shrinking, growing, writing
_ST_RDONLY = 1


def sealed_interpreter() -> int:
    """Descriptor of a read-only copy of `sys.executable`, for `execute_sealed` or execve(2) by descriptor.

    Raises:
        KernelError: neither way works.
    """
    path = os.path.realpath(sys.executable)
    try:
        tree = clone_tree(path)
        try:
            set_attributes(tree, MOUNT_ATTR_RDONLY)
        except KernelError:
            os.close(tree)
            raise
        return tree
    except KernelError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EINVAL):
            raise
    return _memory_copy(path)


def is_sealed() -> bool:
    """Whether this process was executed from a file that cannot be written through /proc/<pid>/exe."""
    try:
        return bool(os.statvfs("/proc/self/exe").f_flag & _ST_RDONLY) or os.readlink("/proc/self/exe").startswith(
            "/memfd:"
        )
    except OSError:
        return False


def execute_sealed(fd: int, arguments: "Sequence[str]", environment: "Mapping[str, str]") -> "NoReturn":
    """Execute the interpreter that `fd` holds. `arguments[0]` should be `sys.executable`: from it Python finds its
    library."""
    try:
        os.execve(fd, list(arguments), environment)
    except OSError as error:
        raise KernelError("execute the sealed interpreter", error.errno or 0) from None


def _memory_copy(path: str) -> int:
    try:
        source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            copy = os.memfd_create("wherry-python", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            while os.sendfile(copy, source, None, 1 << 24):
                continue
            fcntl.fcntl(copy, _ADD_SEALS, _EVERY_SEAL)
            return copy
        finally:
            os.close(source)
    except OSError as error:
        raise KernelError("copy the interpreter", error.errno or 0, path) from None
