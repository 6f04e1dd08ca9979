"""Pseudo terminals (pty(7), ioctl_tty(2)): a pair from a given devpts, its size, taking one as controlling terminal."""

import errno
import fcntl
import os
import stat
import struct
import termios

from wherry.errors import HostileInput, KernelError
from wherry.linux.files import DEVPTS_SUPER_MAGIC, O_PATH, filesystem_magic, open_in_root

_TIOCGPTPEER = 0x5441
_TIOCSPTLCK = 0x40045431


def open_pair(root: int) -> "tuple[int, int]":
    """Make a terminal in the devpts at /dev/pts of the root directory `root`.

    The multiplexer is opened by descriptor and checked to be devpts' own, and the slave is the kernel's answer to the
    master, not a path: a container cannot put another file in the place of either (CVE-2025-52565).

    Returns:
        (master, slave).

    Raises:
        KernelError: there is no devpts.
        HostileInput: something else is in its place.
    """
    directory = open_in_root(root, "/dev/pts", O_PATH | os.O_DIRECTORY)
    try:
        master = open_in_root(directory, "ptmx", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_NOFOLLOW)
    finally:
        os.close(directory)
    try:
        status = os.fstat(master)
        if not stat.S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(5, 2):
            raise HostileInput("/dev/pts/ptmx is not the terminal multiplexer")
        if filesystem_magic(master) != DEVPTS_SUPER_MAGIC:
            raise HostileInput("/dev/pts is not a devpts file system")
        os.set_blocking(master, True)
        try:
            fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
            slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            raise KernelError("open terminal", error.errno or 0, "/dev/pts/ptmx") from None
    except BaseException:
        os.close(master)
        raise
    return master, slave


def set_size(fd: int, rows: int, columns: int) -> None:
    """TIOCSWINSZ. The programs on the terminal get SIGWINCH."""
    try:
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    except OSError as error:
        raise KernelError("resize terminal", error.errno or 0) from None


def get_size(fd: int) -> "tuple[int, int] | None":
    """(rows, columns) of a terminal; None if `fd` is none."""
    try:
        packed = fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8)
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EINVAL, errno.EBADF):
            return None
        raise KernelError("read terminal size", error.errno or 0) from None
    rows, columns, _, _ = struct.unpack("HHHH", packed)
    return rows, columns


def take(fd: int) -> None:
    """Make `fd` the controlling terminal of this session (TIOCSCTTY); the caller leads a session without one."""
    try:
        fcntl.ioctl(fd, termios.TIOCSCTTY, 0)
    except OSError as error:
        raise KernelError("take terminal", error.errno or 0) from None


def restore(fd: int, attributes: "list[object]") -> None:
    """Undo `rawmode.make_raw`; a terminal that is gone needs nothing."""
    try:
        termios.tcsetattr(fd, termios.TCSADRAIN, attributes)  # type: ignore[arg-type]
    except termios.error as error:
        if error.args and error.args[0] not in (errno.EIO, errno.ENOTTY, errno.EBADF):
            raise KernelError("restore terminal", error.args[0]) from None
