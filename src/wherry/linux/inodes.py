"""One file of a tree that somebody else may change meanwhile: looked at first, and then used as the same inode.

A name that is looked at (fstatat(2)) and then opened means two files if a container exchanges it in between: what was a
regular file is opened as a device, whose driver acts on open(2), outside the container's device rules. Here a name is
resolved once, with O_PATH, which opens nothing. What is done then (open for reading, chmod(2), attributes) is done to
the inode that is held, through its magic link in this process's `/proc/self/fd` (proc(5)).

The host's /proc serves that. A process that enters a stranger's root calls `prepare` before.
"""

import os
import stat

from wherry.errors import Conflict, HostileInput, KernelError

HOLD = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a lease that the container holds on the file (fcntl(2)) is not waited for
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

# this process's descriptors as a directory; a child has its own, and finds them by /proc again until it prepares
_own = -1


def _in_child() -> None:
    global _own
    _own = -1


os.register_at_fork(after_in_child=_in_child)


def prepare() -> None:
    """Keep `/proc/self/fd` at hand for the time when this process's root is a stranger's.

    It is kept as a mount of its own (open_tree(2)): from there no `..` leads to the rest of the host's /proc.

    Raises:
        KernelError: there is no /proc, or the caller may not mount.
    """
    global _own
    if _own < 0:
        from wherry.linux.mount import clone_tree

        _own = clone_tree("/proc/self/fd")


def prepare_briefly() -> int:
    """As `prepare`, for a process that will execute a stranger's program and calls `forget` long before. It takes a
    tenth of the time, and is no mount of its own.

    Returns:
        The descriptor.

    Raises:
        KernelError: there is no /proc.
    """
    global _own
    try:
        _own = os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError("open", error.errno or 0, "/proc/self/fd") from None
    return _own


def forget() -> None:
    """Close what `prepare_briefly` opened."""
    global _own
    if _own >= 0:
        os.close(_own)
    _own = -1


def hold(name: "str | bytes", directory: int) -> int:
    """Hold what the directory has by that name: a descriptor (O_PATH) of whatever it is, a symbolic link itself too.

    Raises:
        OSError: ENOENT and the like.
    """
    return os.open(name, HOLD, dir_fd=directory)


def reopen(held: int, flags: int = _READ, name: "str | bytes" = "") -> int:
    """Open the file that `held` holds. For a regular file or a directory: the caller has looked (fstat(2)).

    Args:
        flags: open(2) flags; O_CLOEXEC is added, O_NOFOLLOW is taken away, since a magic link is followed.
        name: what errors call it.

    Raises:
        OSError: as open(2).
    """
    flags = flags & ~os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        if _own >= 0:
            return os.open(b"%d" % held, flags, dir_fd=_own)
        return os.open(b"/proc/self/fd/%d" % held, flags)
    except OSError as error:
        raise OSError(error.errno, error.strerror, name or error.filename) from None


def read_held(held: int, name: "str | bytes") -> int:
    """Open the regular file that `held` holds for reading, and close `held` in any case.

    Raises:
        HostileInput: it is something else; that was not opened.
        OSError: it cannot be opened.
    """
    try:
        if not stat.S_ISREG(os.fstat(held).st_mode):
            raise HostileInput(f"{_shown(name)} is not a regular file", path=_shown(name))
        return reopen(held, _READ, name)
    finally:
        os.close(held)


def open_regular(name: "str | bytes", directory: int) -> int:
    """Open a regular file for reading. No link is followed, and nothing else is opened.

    Raises:
        HostileInput: it is something else.
        OSError: there is none, or it cannot be opened.
    """
    return read_held(hold(name, directory), name)


def path(held: int) -> bytes:
    """A path of what is held, for calls that take nothing else (xattr(7)); it must be followed, for a link too.

    In a process that called `prepare` it is relative, and the working directory changes: for processes with one thread.
    """
    if _own >= 0:
        os.fchdir(_own)
        return b"%d" % held
    return b"/proc/self/fd/%d" % held


def hold_made(name: "str | bytes", directory: int, mode: int, device: int = 0) -> int:
    """Hold what was just made by name where somebody else may exchange names: a link, a device, a FIFO.

    Args:
        mode: its type is what was made (S_IFLNK and the like).
        device: its number.

    Raises:
        Conflict: the name is another file's by now.
        OSError: it is gone.
    """
    held = hold(name, directory)
    found = os.fstat(held)
    # of two names one was there before
    if stat.S_IFMT(found.st_mode) != stat.S_IFMT(mode) or found.st_rdev != device or found.st_nlink != 1:
        os.close(held)
        raise Conflict(f"{_shown(name)} changed while it was made", path=_shown(name))
    return held


def chown(held: int, uid: int, gid: int) -> None:
    """fchownat(2) of what is held, of a symbolic link itself too."""
    name, directory = _named(held)
    os.chown(name, uid, gid, dir_fd=directory)


def chmod(held: int, mode: int) -> None:
    """fchmodat(2) of what is held. A symbolic link has no permissions to set."""
    name, directory = _named(held)
    os.chmod(name, mode, dir_fd=directory)


def set_times(held: int, accessed: int, modified: int) -> None:
    """utimensat(2) of what is held, of a symbolic link itself too; nanoseconds since the epoch."""
    name, directory = _named(held)
    os.utime(name, ns=(accessed, modified), dir_fd=directory)


def _named(held: int) -> "tuple[bytes, int | None]":
    if _own >= 0:
        return b"%d" % held, _own
    return b"/proc/self/fd/%d" % held, None


def _shown(name: "str | bytes") -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")
