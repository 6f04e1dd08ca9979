"""Durable writes and removals: what a crash can interrupt leaves the old state or the new, never half of one.

A write is a temporary name, fsync, rename, fsync of the directory. A removal is a rename into the trash (which must be
on the same file system); what lies there is deleted whenever there is time.
"""

import os
import secrets

_TEMPORARY = ".tmp-"


def fsync_dir(path: str) -> None:
    """Make the entries of directory `path` durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_atomic(path: str, data: bytes, mode: int = 0o600, *, durable: bool = True) -> None:
    """Replace the file `path` by `data` as one step.

    Args:
        path: the file; its directory exists.
        data: the whole content.
        mode: permission bits.
        durable: also survive a power failure; costs two fsyncs.
    """
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f"{_TEMPORARY}{name}-{secrets.token_hex(4)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fchmod(fd, mode)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException:
        try:
            os.unlink(temporary)
        except FileNotFoundError:
            pass  # the rename was done, and what was interrupted came after it
        raise
    if durable:
        fsync_dir(directory or ".")


def sweep_temporary(directory: str, *, theirs: bool = False) -> None:
    """Remove what writes that were killed have left in `directory`; nobody may be writing there.

    Args:
        directory: flat; what lies below it is not looked at.
        theirs: also what a monitor (`linux.files.write_atomic`) left; it must be dead.
    """
    for name in os.listdir(directory):
        if name.startswith(_TEMPORARY) or (theirs and name.startswith(".") and name.endswith(".tmp")):
            os.unlink(os.path.join(directory, name))


def discard(path: str, trash: str) -> str | None:
    """Move `path` (file or tree) into `trash`: gone at once, deleted later.

    Returns:
        where it lies now, or None if it was not there.
    """
    target = os.path.join(trash, f"{os.path.basename(path)[:64]}-{secrets.token_hex(8)}")
    try:
        os.rename(path, target)
    except FileNotFoundError:
        if os.path.isdir(trash):
            return None
        os.makedirs(trash, 0o700, exist_ok=True)
        return discard(path, trash) if os.path.lexists(path) else None
    return target
