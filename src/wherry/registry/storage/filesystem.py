"""Values as files below one directory.

A key is a path below the root. `tmp/` holds what is being written, `locks/` the files that flock(2) locks. Paths are
opened with openat2(2): no symbolic link is followed, nothing above the root is reached. A write is a temporary name,
fsync, rename, fsync of the directory; links are hard links.

`steps` is called before every system call that changes the disk, with the name of the step and the key: tests make it
raise, or end the process.
"""

import ctypes
import errno
import fcntl
import os
import secrets
import stat as stat_bits
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Self

from wherry.errors import Conflict, KernelError, StoreCorrupt
from wherry.linux.libc import libc
from wherry.linux.openat import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from wherry.registry.errors import OutOfSpace
from wherry.registry.storage.driver import Missing, Stat, check_key

TEMPORARY: Final = "tmp"
_INSIDE: Final = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
_WRITEBACK: Final = 8 << 20
_SYNC_FILE_RANGE_WRITE: Final = 2

_sync_file_range = libc["sync_file_range"]
_sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_sync_file_range.restype = ctypes.c_int

Steps = Callable[[str, str], None]


def _no_step(step: str, key: str) -> None:  # noqa: ARG001 — the signature of the seam
    return


@contextmanager
def _translated(what: str, key: str) -> Iterator[None]:
    """Errors of the operating system become the project's."""
    try:
        yield
    except OSError as error:
        raise _translate(error, what, key) from error


def _translate(error: OSError, what: str, key: str) -> Exception:
    if error.errno == errno.ENOENT:
        return Missing(f"no such value: {key}")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutOfSpace("no space left on the registry's storage")
    if isinstance(error, KernelError):
        return error
    return KernelError(what, error.errno or 0, key)


def _to_stat(st: os.stat_result) -> Stat:
    version = f"{st.st_ino:x}.{st.st_mtime_ns:x}.{st.st_size:x}"
    return Stat(st.st_size, st.st_mtime_ns, version, f"{st.st_dev:x}.{st.st_ino:x}", st.st_nlink)


class _OpenFile:
    """A descriptor that is owned."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read_at(self, offset: int, count: int) -> bytes:
        return os.pread(self._fd, count, offset)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class FileReader(_OpenFile):
    """An open file; see `Reader`."""

    __slots__ = ("size", "stat")

    def __init__(self, fd: int, stat: Stat) -> None:
        super().__init__(fd)
        self.stat = stat
        self.size = stat.size

    def fileno(self) -> int:
        return self._fd


class FileWriter(_OpenFile):
    """A file that grows, locked against other writers; see `Writer`."""

    def __init__(self, driver: "Filesystem", key: str, fd: int, size: int) -> None:
        self._driver = driver
        super().__init__(fd)
        self._key = key
        self._started = size  # up to where writeback was begun
        self.size = size

    def write(self, data: "bytes | bytearray | memoryview") -> None:
        view = memoryview(data)
        with _translated("write", self._key):
            self._driver.steps("append.write", self._key)
            while view:
                done = os.pwrite(self._fd, view, self.size)
                self.size += done
                view = view[done:]
        if self.size - self._started >= _WRITEBACK:
            # begun now, it need not be waited for in `sync`; a hint, whose failure fsync will tell
            _sync_file_range(self._fd, self._started, self.size - self._started, _SYNC_FILE_RANGE_WRITE)
            self._started = self.size

    def truncate(self, size: int) -> None:
        with _translated("ftruncate", self._key):
            os.ftruncate(self._fd, size)
        self.size = size

    def sync(self) -> None:
        with _translated("fsync", self._key):
            self._driver.steps("append.sync", self._key)
            os.fsync(self._fd)

    def commit(self, target: str) -> None:
        self.sync()
        with _translated("rename", target):
            self._driver.steps("commit.utime", target)
            os.utime(self._fd)
        self._driver.rename(self._key, target)
        self.close()

    def cancel(self) -> None:
        self._driver.delete(self._key)
        self.close()


class Filesystem:
    """The driver; see `Driver`.

    Args:
        root: the directory; made if it is not there.
        steps: called before each change of the disk.
    """

    def __init__(self, root: str, steps: Steps = _no_step) -> None:
        self.root = os.path.abspath(root)
        self.steps = steps
        for directory in (self.root, f"{self.root}/{TEMPORARY}", f"{self.root}/locks"):
            os.makedirs(directory, 0o700, exist_ok=True)
        self._fd = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Give up the root."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            self.close()

    def stat(self, key: str) -> Stat | None:
        try:
            st = os.stat(check_key(key), dir_fd=self._fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _translate(error, "stat", key) from error
        return _to_stat(st) if stat_bits.S_ISREG(st.st_mode) else None

    def _open(self, key: str, flags: int, mode: int = 0) -> int:
        return openat2(self._fd, check_key(key), flags, _INSIDE, mode)

    def open(self, key: str) -> FileReader:
        with _translated("open", key):
            fd = self._open(key, os.O_RDONLY | os.O_NONBLOCK)
            try:
                st = os.fstat(fd)
                if not stat_bits.S_ISREG(st.st_mode):
                    raise Missing(f"no such value: {key}")
                return FileReader(fd, _to_stat(st))
            except BaseException:
                os.close(fd)
                raise

    def read(self, key: str, limit: int) -> tuple[bytes, Stat]:
        with self.open(key) as reader:
            if reader.size > limit:
                raise StoreCorrupt(f"{key} has {reader.size} bytes, more than {limit}")
            data = b""
            while len(data) < reader.size:
                more = reader.read_at(len(data), reader.size - len(data))
                if not more:
                    raise StoreCorrupt(f"{key} is shorter than its size")
                data += more
            return data, reader.stat

    def put(self, key: str, data: bytes) -> Stat:
        temporary = f"{TEMPORARY}/{secrets.token_hex(8)}"
        with _translated("put", key):
            self.steps("put.open", key)
            fd = self._open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                try:
                    self.steps("put.write", key)
                    view = memoryview(data)
                    while view:
                        view = view[os.write(fd, view) :]
                    # the kernel's clock ticks in milliseconds, and inode numbers are used again: two replacements in
                    # one tick must not look alike
                    now = time.time_ns()
                    os.utime(fd, ns=(now, now))
                    self.steps("put.sync", key)
                    os.fsync(fd)
                    stat = _to_stat(os.fstat(fd))
                finally:
                    os.close(fd)
                self.rename(temporary, key)
            except BaseException:
                self._unlink(temporary)
                raise
        return stat

    def rename(self, source: str, target: str) -> None:
        """Move a file durably; the directory of `target` is made if it is not there."""
        with _translated("rename", target):
            parent = self._parent(target)
            try:
                self.steps("rename", target)
                os.rename(source, os.path.basename(target), src_dir_fd=self._fd, dst_dir_fd=parent)
                self.steps("rename.sync", target)
                os.fsync(parent)
            finally:
                os.close(parent)

    def create(self, key: str) -> FileWriter:
        with _translated("create", key):
            os.close(self._parent(key))
            self.steps("create", key)
            fd = self._open(key, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return FileWriter(self, key, fd, 0)

    def append(self, key: str) -> FileWriter:
        with _translated("append", key):
            fd = self._open(key, os.O_RDWR)
            try:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise Conflict(f"{key} is being written") from None
                st = os.fstat(fd)
                if st.st_nlink == 0 or self._inode(key) != st.st_ino:
                    raise Missing(f"no such value: {key}")  # committed or cancelled while we waited for nothing
                return FileWriter(self, key, fd, st.st_size)
            except BaseException:
                os.close(fd)
                raise

    def _inode(self, key: str) -> int:
        try:
            return os.stat(key, dir_fd=self._fd, follow_symlinks=False).st_ino
        except FileNotFoundError:
            return -1

    def link(self, source: str, target: str) -> None:
        check_key(source)
        with _translated("link", target):
            parent = self._parent(target)
            try:
                self.steps("link", target)
                name = os.path.basename(target)
                try:
                    os.link(source, name, src_dir_fd=self._fd, dst_dir_fd=parent, follow_symlinks=False)
                except FileExistsError:
                    # replaced as one step, as every value is
                    temporary = f"{TEMPORARY}/{secrets.token_hex(8)}"
                    os.link(source, temporary, src_dir_fd=self._fd, dst_dir_fd=self._fd, follow_symlinks=False)
                    os.rename(temporary, name, src_dir_fd=self._fd, dst_dir_fd=parent)
                    self._unlink(temporary)  # rename(2) does nothing where both are the same file
                self.steps("link.sync", target)
                os.fsync(parent)
            finally:
                os.close(parent)

    def touch(self, key: str) -> None:
        with _translated("utime", key):
            self.steps("touch", key)
            os.utime(check_key(key), dir_fd=self._fd, follow_symlinks=False)

    def delete(self, key: str) -> bool:
        check_key(key)
        with _translated("unlink", key):
            self.steps("delete", key)
            return self._unlink(key)

    def _unlink(self, key: str) -> bool:
        try:
            os.unlink(key, dir_fd=self._fd)
        except FileNotFoundError:
            return False
        return True

    def list(self, prefix: str) -> list[str]:
        try:
            fd = self._open(prefix, os.O_RDONLY | os.O_DIRECTORY)
        except KernelError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return []
            raise
        try:
            return sorted(os.listdir(fd))
        finally:
            os.close(fd)

    def prune(self, prefix: str) -> None:
        for name in self.list(prefix):
            self.prune(f"{prefix}/{name}")
        try:
            self.steps("prune", prefix)
            os.rmdir(prefix, dir_fd=self._fd)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.ENOTDIR):
                raise _translate(error, "rmdir", prefix) from error

    def _parent(self, key: str) -> int:
        """Open the directory of `key`, made durably if it is not there; the caller closes it."""
        parent = os.path.dirname(check_key(key))
        if not parent:
            return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._fd)
        try:
            return self._open(parent, os.O_RDONLY | os.O_DIRECTORY)
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
        above = self._parent(parent)
        try:
            self.steps("mkdir", parent)
            try:
                os.mkdir(os.path.basename(parent), 0o755, dir_fd=above)
            except FileExistsError:
                pass  # somebody else was faster
            self.steps("mkdir.sync", parent)
            os.fsync(above)
        finally:
            os.close(above)
        return self._open(parent, os.O_RDONLY | os.O_DIRECTORY)

    @contextmanager
    def exclusive(self, key: str) -> Iterator[None]:
        with _translated("lock", key):
            fd = self._open(key, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def sweep(self, before: int) -> int:
        freed = 0
        for name in self.list(TEMPORARY):
            stat = self.stat(f"{TEMPORARY}/{name}")
            if stat is not None and stat.modified < before and self._unlink(f"{TEMPORARY}/{name}"):
                freed += stat.size if stat.links == 1 else 0
        return freed
