"""Being told of changes in directories (inotify(7))."""

import ctypes
import os

from wherry.linux.libc import check, libc

IN_MODIFY = 0x00000002
IN_MOVED_TO = 0x00000080
IN_CREATE = 0x00000100
IN_DELETE = 0x00000200
IN_DELETE_SELF = 0x00000400

_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC


class Inotify:
    """A descriptor that is readable when something watched has changed; owns it."""

    __slots__ = ("fd",)

    def __init__(self) -> None:
        self.fd = check(libc.inotify_init1(_NONBLOCK_CLOEXEC), "inotify_init1")

    def watch(self, path: str, events: int) -> None:
        """Watch a file or directory; raises KernelError."""
        check(libc.inotify_add_watch(self.fd, ctypes.c_char_p(os.fsencode(path)), events), "inotify_add_watch", path)

    def clear(self) -> None:
        """Forget what has been reported: the caller looks for itself."""
        try:
            while os.read(self.fd, 65536):
                continue
        except BlockingIOError:
            return

    def close(self) -> None:
        os.close(self.fd)
