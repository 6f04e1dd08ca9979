"""Copy a tree from directory to directory: by descriptor, no link followed, with owners, modes, times and attributes.

The source may be a stranger's and may change meanwhile: a name of it is resolved once (`inodes`). The target is an
empty directory, or gets only names that are not there yet. Runs in forked workers.
"""

import os
import stat
from errno import EINVAL, ENODATA, ENOSYS, ENOTSUP, EPERM, EXDEV

from wherry.errors import HostileInput, KernelError
from wherry.linux import inodes

_MAX_DEPTH = 256
_PIECE = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_HELD_LINKS = 256  # directories held open for names that are still to come
# overlayfs's own are no part of what the tree says
_NOT_CARRIED = ("trusted.overlay.", "user.overlay.")


def copy_tree(source: int, target: int) -> int:
    """Copy what is in the directory `source` into the directory `target`, which gets the source's metadata too.

    Sockets are left out: nobody listens at a copy.

    Returns:
        How many entries were copied.

    Raises:
        HostileInput: the tree is nested more deeply than any archive may be.
        KernelError: something could not be read or written; what was copied stays.
    """
    try:
        copier = _Copier()
        try:
            copier.directory(source, target, 0)
        finally:
            copier.close()
        return copier.count
    except KernelError:
        raise
    except OSError as error:
        raise KernelError("copy", error.errno or 0, str(error.filename or "") or None) from error


class _Copier:
    __slots__ = ("_links", "count")

    def __init__(self) -> None:
        self.count = 0
        # files with several names: where the first was written
        self._links: dict[tuple[int, int], tuple[int, str]] = {}

    def close(self) -> None:
        for fd, _ in self._links.values():
            os.close(fd)

    def directory(self, source: int, target: int, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise HostileInput(f"a tree to copy is more than {_MAX_DEPTH} directories deep")
        for name in sorted(os.listdir(source)):
            try:
                held = inodes.hold(name, source)
            except FileNotFoundError:
                continue  # gone since the directory was read
            try:
                self._one(held, target, name, depth)
            finally:
                os.close(held)
            self.count += 1
        _finish(source, target, os.fstat(source))

    def _one(self, held: int, target: int, name: str, depth: int) -> None:
        found = os.fstat(held)
        if stat.S_ISDIR(found.st_mode):
            self._below(held, target, name, depth)
        elif stat.S_ISREG(found.st_mode):
            self._file(held, target, name, found)
        elif stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink("", dir_fd=held), name, dir_fd=target)
            self._finish_made(target, name, found)
        elif not stat.S_ISSOCK(found.st_mode):
            os.mknod(name, found.st_mode, found.st_rdev, dir_fd=target)
            self._finish_made(target, name, found)

    def _below(self, held: int, target: int, name: str, depth: int) -> None:
        below = inodes.reopen(held, _DIRECTORY, name)
        try:
            os.mkdir(name, 0o700, dir_fd=target)
            there = os.open(name, _DIRECTORY, dir_fd=target)
            try:
                self.directory(below, there, depth + 1)
            finally:
                os.close(there)
        finally:
            os.close(below)

    def _file(self, held: int, target: int, name: str, found: os.stat_result) -> None:
        key = (found.st_dev, found.st_ino)
        if found.st_nlink > 1 and key in self._links:
            directory, first = self._links[key]
            os.link(first, name, src_dir_fd=directory, dst_dir_fd=target, follow_symlinks=False)
            return
        old = inodes.reopen(held, name=name)
        try:
            new = os.open(name, _CREATE, 0o600, dir_fd=target)
            try:
                _copy_data(old, new, found.st_size)
                _finish(old, new, found)
            finally:
                os.close(new)
        finally:
            os.close(old)
        if found.st_nlink > 1:
            if len(self._links) >= _HELD_LINKS:
                # a file with many names becomes two; that is better than no descriptors for the rest
                oldest = next(iter(self._links))
                os.close(self._links.pop(oldest)[0])
            self._links[key] = (os.dup(target), name)

    @staticmethod
    def _finish_made(target: int, name: str, found: os.stat_result) -> None:
        made = inodes.hold_made(name, target, found.st_mode, found.st_rdev)
        try:
            inodes.chown(made, found.st_uid, found.st_gid)
            if not stat.S_ISLNK(found.st_mode):
                inodes.chmod(made, stat.S_IMODE(found.st_mode))
            inodes.set_times(made, found.st_atime_ns, found.st_mtime_ns)
        finally:
            os.close(made)


def _copy_data(old: int, new: int, size: int) -> None:
    """Copy a file; what the file system can share it shares, and holes stay holes."""
    at = 0
    while at < size:
        try:
            start = os.lseek(old, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == EINVAL:
                start = at
            else:
                break  # ENXIO: only a hole is left
        try:
            end = os.lseek(old, start, os.SEEK_HOLE)
        except OSError:
            end = size
        _copy_range(old, new, start, end)
        at = end
    os.ftruncate(new, max(size, os.fstat(new).st_size) if at > size else size)


def _copy_range(old: int, new: int, start: int, end: int) -> None:
    while start < end:
        try:
            copied = os.copy_file_range(old, new, min(end - start, 1 << 30), start, start)
        except OSError as error:
            if error.errno not in (EXDEV, EINVAL, ENOSYS, ENOTSUP, EPERM):
                raise
            data = os.pread(old, min(_PIECE, end - start), start)
            copied = os.pwrite(new, data, start) if data else 0
        if not copied:
            return
        start += copied


def _finish(source: int, target: int, found: os.stat_result) -> None:
    """Owner, attributes, mode and times, in the order in which one does not undo another."""
    os.fchown(target, found.st_uid, found.st_gid)
    try:
        names = os.listxattr(source)
    except OSError as error:
        if error.errno != ENOTSUP:
            raise
        names = []
    for name in names:
        if name.startswith(_NOT_CARRIED):
            continue
        try:
            os.setxattr(target, name, os.getxattr(source, name))
        except OSError as error:
            # gone meanwhile, or an attribute that this file system does not have
            if error.errno not in (ENODATA, ENOTSUP, EPERM):
                raise
    os.fchmod(target, stat.S_IMODE(found.st_mode))
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
