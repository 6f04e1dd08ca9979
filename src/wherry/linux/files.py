"""Files: atomic writes, reading what a hostile image offers, and path resolution that stays inside a root (openat2(2)).

`write_atomic` is for processes with an import budget (monitor, runtime); wherryd has a store of its own.
"""

import ctypes
import errno
import os

from wherry.errors import HostileInput, KernelError
from wherry.linux import inodes
from wherry.linux.libc import libc

O_PATH = os.O_PATH
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

PROC_SUPER_MAGIC = 0x9FA0
DEVPTS_SUPER_MAGIC = 0x1CD1
TMPFS_MAGIC = 0x01021994
SYSFS_MAGIC = 0x62656572
CGROUP2_SUPER_MAGIC = 0x63677270

_SYS_OPENAT2 = 437


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_openat2 = libc["syscall"]
_openat2.restype = ctypes.c_long
_openat2.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_OpenHow), ctypes.c_size_t)
_HOW_SIZE = ctypes.sizeof(_OpenHow)

_fstatfs = libc["fstatfs"]
_fstatfs.restype = ctypes.c_int
_fstatfs.argtypes = (ctypes.c_int, ctypes.c_void_p)


def write_atomic(path: str, data: bytes, mode: int = 0o600, durable: bool = True) -> None:
    """Replace the file `path` by one that holds `data`; a reader sees the old file or the new one, never a part.

    Args:
        path: target; its directory must exist.
        data: whole content.
        mode: permission bits of the new file, whatever the umask.
        durable: fsync the file and its directory. Without it the rename is atomic for readers, not for power loss.

    Raises:
        KernelError: a step failed; the temporary file is gone.
    """
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name}.{os.getpid()}.tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            try:
                os.fchmod(fd, mode)
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
                if durable:
                    os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        if durable:
            sync_directory(directory or ".")
    except OSError as error:
        raise KernelError("write", error.errno or 0, path) from None


def sync_directory(path: str) -> None:
    """fsync(2) a directory, so that names made or removed in it survive a power loss."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def open_in_root(root: int, path: str, flags: int, mode: int = 0, resolve: int = RESOLVE_IN_ROOT) -> int:
    """Open `path` as a process whose root is the directory `root` would (openat2(2)); magic links are refused.

    Args:
        root: descriptor of the directory that `/` and `..` stop at.
        path: absolute or relative; symbolic links in it are resolved inside `root`.
        flags: open(2) flags; O_CLOEXEC is added.
        mode: permission bits with O_CREAT.
        resolve: RESOLVE_* bits; RESOLVE_NO_MAGICLINKS is added.

    Raises:
        KernelError: with errno (ENOENT, ELOOP for a refused link, …).
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve | RESOLVE_NO_MAGICLINKS)
    encoded = os.fsencode(path)
    if b"\0" in encoded:
        raise KernelError("openat2", errno.EINVAL, path.replace("\0", "\\0"))
    for _ in range(64):  # EAGAIN: a rename raced with the walk of `..`; the caller asked for a path, not for a race
        fd: int = _openat2(_SYS_OPENAT2, root, encoded, how, _HOW_SIZE)
        if fd >= 0:
            return fd
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR):
            break
    raise KernelError("openat2", number, path)


def make_directories(root: int, path: str, mode: int = 0o755) -> int:
    """Open the directory `path` inside `root`, making what is missing of it. Returns an O_PATH descriptor.

    A symbolic link that leads nowhere is followed inside the root, and its target is made.

    Raises:
        KernelError: ENOTDIR where a file stands in the way, ELOOP for links that never end.
    """
    try:
        return open_in_root(root, path, O_PATH | os.O_DIRECTORY)
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
    parts = [part for part in path.split("/") if part not in ("", ".")]
    try:
        # mostly the last name alone is missing
        here = open_in_root(root, "/".join(parts[:-1]) or "/", O_PATH | os.O_DIRECTORY)
        try:
            os.mkdir(parts[-1], mode, dir_fd=here)
            return open_in_root(here, parts[-1], O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        finally:
            os.close(here)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EEXIST):
            raise KernelError("mkdir", error.errno or 0, path) from None
    for _ in range(40):
        here = os.dup(root)
        for index, part in enumerate(parts):
            prefix = "/".join(parts[: index + 1])
            try:
                found = open_in_root(root, prefix, O_PATH | os.O_DIRECTORY)
            except KernelError as error:
                if error.errno != errno.ENOENT:
                    os.close(here)
                    raise
                try:
                    os.mkdir(part, mode, dir_fd=here)
                    found = open_in_root(here, part, O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
                except FileExistsError:
                    # a link to nothing: go on with where it points
                    try:
                        target = os.readlink(part, dir_fd=here)
                    except OSError:
                        break  # a racer has exchanged or removed the link since: begin again
                    finally:
                        os.close(here)
                    base = [] if target.startswith("/") else parts[:index]
                    parts = base + [p for p in target.split("/") if p not in ("", ".")] + parts[index + 1 :]
                    break
                except OSError as failure:
                    os.close(here)
                    raise KernelError("mkdir", failure.errno or 0, path) from None
            os.close(here)
            here = found
        else:
            return here
    raise KernelError("mkdir", errno.ELOOP, path)


def make_file(root: int, path: str, mode: int = 0o755) -> int:
    """Open the file `path` inside `root` (O_PATH), making an empty one, and its directories, where there is none."""
    try:
        return open_in_root(root, path, O_PATH)
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
    parent, _, name = path.rstrip("/").rpartition("/")
    directory = make_directories(root, parent or "/")
    try:
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode, dir_fd=directory))
        return open_in_root(directory, name, O_PATH | os.O_NOFOLLOW)
    except OSError as error:
        raise KernelError("create", error.errno or 0, path) from None
    finally:
        os.close(directory)


def read_regular(path: str, limit: int, root: int | None = None) -> bytes:
    """Read a whole regular file that a stranger wrote.

    A FIFO, device or directory is refused without opening it, and a file over `limit` bytes is refused before it fills
    memory. Links are followed, magic ones (proc(5)) are not: they lead to whatever a process of ours has open.

    Args:
        path: file, resolved inside the root.
        limit: bytes.
        root: directory descriptor, or None for the caller's own root; then the path is absolute.

    Raises:
        KernelError: it cannot be opened (ENOENT when it is not there, ELOOP where a magic link is on the way).
        HostileInput: not a regular file, or too large.
    """
    top = os.open("/", O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) if root is None else root
    try:
        held = open_in_root(top, path, O_PATH)
    finally:
        if root is None:
            os.close(top)
    try:
        fd = inodes.read_held(held, path)
    except OSError as error:
        raise KernelError("open", error.errno or 0, path) from None
    try:
        status = os.fstat(fd)
        if status.st_size > limit:
            raise HostileInput(f"{path} is larger than {limit} bytes", path=path)
        pieces, left = [], limit + 1
        while left > 0:
            piece = os.read(fd, min(left, 1 << 16))
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
        if left <= 0:
            raise HostileInput(f"{path} is larger than {limit} bytes", path=path)
        return b"".join(pieces)
    finally:
        os.close(fd)


def filesystem_magic(fd: int) -> int:
    """Type of the file system that holds `fd`, as fstatfs(2) gives it (`PROC_SUPER_MAGIC`, …)."""
    buffer = ctypes.create_string_buffer(256)
    if _fstatfs(fd, buffer) < 0:
        raise KernelError("fstatfs", ctypes.get_errno())
    return ctypes.c_ulong.from_buffer(buffer).value
