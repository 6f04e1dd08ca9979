"""A layer's tree while it is written: every file is made through the descriptor of its parent directory.

Parents are resolved as a process chrooted to the layer would resolve them (`openat2`, RESOLVE_IN_ROOT): a symbolic
link that the layer itself made is followed, and never out. That is what Docker's chrooted unpacker does. The last
component is never followed: what is made by name (a link, a device, a FIFO) is held, and finished as that inode
(`inodes`). Runs in forked workers.
"""

import os
import stat
from errno import ELOOP, ENOENT, ENOTDIR, ENOTSUP, EPERM

from wherry.errors import HostileInput
from wherry.linux import inodes
from wherry.linux.openat import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_XDEV, openat2
from wherry.snapshots.remove import remove_tree
from wherry.snapshots.tar import BLOCK, CHARACTER, FIFO, Entry
from wherry.snapshots.tarfields import shown

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_DIRECTORIES = 128  # held open for the files that follow: archives come directory by directory
_REMEMBERED = 65536  # directory times held back; more are written early, and read again when needed

OPAQUE = "trusted.overlay.opaque"
# What overlayfs keeps for itself; from a stranger it would redirect or hide directories (escaped forms included).
_RESERVED = (b"trusted.overlay.", b"user.overlay.")


class Tree:
    """Writes entries below a root directory.

    Args:
        root_fd: descriptor of the directory that entries are written below; stays open. A layer's is empty, and nobody
            else writes to it.
        within: (descriptor, prefix) where links are resolved, when that is more than the directory itself: in a
            container they are resolved as a process there would, into other mounts too; the prefix leads from the
            container's root to the directory.

    Paths are relative, without `.`, `..` or empty components (`path_of` makes them so); `b""` is the root.

    Raises (from every method):
        HostileInput: an entry cannot be made where it says, since another one is in the way.
        OSError: a system call failed.
    """

    __slots__ = ("_open", "_prefix", "_resolve", "_root", "_spilled", "_times", "_top")

    def __init__(self, root_fd: int, within: "tuple[int, bytes] | None" = None) -> None:
        self._root = root_fd
        self._top, self._prefix = within or (root_fd, b"")
        self._resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | (0 if within else RESOLVE_NO_XDEV)
        self._open: dict[bytes, int] = {b"": root_fd}
        self._times: dict[bytes, int] = {}
        self._spilled = False

    def close(self) -> None:
        """Close the directories that are held open."""
        for path, fd in self._open.items():
            if path:
                os.close(fd)
        self._open = {b"": self._root}

    # -- entries

    def file(self, parent: bytes, name: bytes) -> int:
        """Make an empty regular file and return its descriptor; `finish_file` comes after its data."""
        fd = self.parent(parent)
        try:
            return os.open(name, _CREATE, 0o600, dir_fd=fd)
        except FileExistsError:
            self._clear(fd, name)
            return os.open(name, _CREATE, 0o600, dir_fd=fd)

    @staticmethod
    def finish_file(fd: int, entry: Entry) -> None:
        """Set a file's owner, attributes, mode and time, in the order in which one does not undo another."""
        os.fchown(fd, entry.uid, entry.gid)
        if entry.xattrs:
            _set_xattrs(fd, entry)
        os.fchmod(fd, entry.mode)
        mtime = bounded(entry.mtime_ns)
        os.utime(fd, ns=(mtime, mtime))

    def directory(self, parent: bytes, name: bytes, entry: Entry) -> None:
        """Make a directory, or give the one that is there its metadata; the root's, where `name` is empty."""
        path = _joined(parent, name)
        if not name:
            fd = self._root
        else:
            above = self.parent(parent)
            self._make_directory(above, name)
            fd = self._open.get(path, -1)
            if fd < 0:
                fd = os.open(name, _DIRECTORY, dir_fd=above)
                self._keep(path, fd)
        os.fchown(fd, entry.uid, entry.gid)
        if entry.xattrs:
            _set_xattrs(fd, entry)
        os.fchmod(fd, entry.mode)
        self._times[path] = bounded(entry.mtime_ns)

    def symlink(self, parent: bytes, name: bytes, entry: Entry) -> None:
        """Make a symbolic link. Its target is text: what it means is decided by whoever follows it."""
        if not entry.linkname:
            raise _refused(parent, name, "is a symbolic link without a target")
        fd = self.parent(parent)
        try:
            os.symlink(entry.linkname, name, dir_fd=fd)
        except FileExistsError:
            self._clear(fd, name)
            os.symlink(entry.linkname, name, dir_fd=fd)
        self._finish_made(fd, name, entry, stat.S_IFLNK)

    def hardlink(self, parent: bytes, name: bytes, target_parent: bytes, target: bytes) -> None:
        """Give a file of this layer another name; a symbolic link is linked itself, never what it points to."""
        fd, source = self.parent(parent), self._existing(target_parent)
        if source < 0:
            raise _refused(parent, name, f"links to {shown(_joined(target_parent, target))!r}, which is not there")
        try:
            found = os.stat(target, dir_fd=source, follow_symlinks=False)
        except FileNotFoundError:
            found = None
        if found is None or _is_whiteout(found):
            raise _refused(parent, name, f"links to {shown(_joined(target_parent, target))!r}, which is not there")
        if stat.S_ISDIR(found.st_mode):
            raise _refused(parent, name, "is a hard link to a directory")
        try:
            os.link(target, name, src_dir_fd=source, dst_dir_fd=fd, follow_symlinks=False)
        except FileExistsError:
            there = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino):
                return
            # What is in the way goes; if the target was below it, the second try says so.
            self._clear(fd, name)
            self.hardlink(parent, name, target_parent, target)

    def special(self, parent: bytes, name: bytes, entry: Entry) -> None:
        """Make a device node or a FIFO; nobody opens it."""
        kind = {CHARACTER: stat.S_IFCHR, BLOCK: stat.S_IFBLK, FIFO: stat.S_IFIFO}[entry.type]
        device = 0 if entry.type == FIFO else os.makedev(entry.major, entry.minor)
        fd = self.parent(parent)
        try:
            os.mknod(name, kind | 0o600, device, dir_fd=fd)
        except FileExistsError:
            self._clear(fd, name)
            os.mknod(name, kind | 0o600, device, dir_fd=fd)
        self._finish_made(fd, name, entry, kind, device)

    def whiteout(self, parent: bytes, name: bytes) -> None:
        """Hide `name` of the layers below. A file of this layer stays: a directory of it becomes opaque."""
        fd = self.parent(parent)
        try:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=fd)
        except FileExistsError:
            if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                own = os.open(name, _DIRECTORY, dir_fd=fd)
                try:
                    os.setxattr(own, OPAQUE, b"y")
                finally:
                    os.close(own)

    def opaque(self, path: bytes) -> None:
        """Hide all that the layers below have in this directory."""
        os.setxattr(self.parent(path), OPAQUE, b"y")

    def finish(self) -> None:
        """Set the times of directories, which the files made in them had changed."""
        self._write_times()
        self.close()

    # -- directories

    def parent(self, path: bytes) -> int:
        """Return the descriptor of a directory of the layer, making it and its parents where they are missing."""
        fd = self._open.get(path)
        if fd is not None:
            return fd
        fd = self._existing(path)
        if fd < 0:
            above, _, name = path.rpartition(b"/")
            above_fd = self.parent(above)
            if not self._make_directory(above_fd, name, implied=True):
                raise _refused(above, name, "is not a directory, and other entries are below it")
            fd = os.open(name, _DIRECTORY, dir_fd=above_fd)
            os.fchmod(fd, 0o755)
            self._keep(path, fd)
        return fd

    def _existing(self, path: bytes) -> int:
        """Return the descriptor of a directory, -1 where there is none; one that is found is kept open."""
        fd = self._open.get(path)
        if fd is not None:
            return fd
        try:
            # The last component may be a link too, here: it is a parent of something.
            fd = openat2(self._top, self._prefix + path, os.O_RDONLY | os.O_DIRECTORY, self._resolve)
        except OSError as error:
            if error.errno in (ENOENT, ENOTDIR, ELOOP):
                return -1
            raise
        self._keep(path, fd)
        if self._spilled and path not in self._times:
            self._times[path] = os.fstat(fd).st_mtime_ns
        return fd

    def _make_directory(self, fd: int, name: bytes, *, implied: bool = False) -> bool:
        """Make `name` a directory; False where something stands there that an implied directory may not replace."""
        try:
            os.mkdir(name, 0o700, dir_fd=fd)
        except FileExistsError:
            there = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISDIR(there.st_mode):
                return True
            hidden = _is_whiteout(there)
            if implied and not hidden:
                return False
            self._clear(fd, name)
            os.mkdir(name, 0o700, dir_fd=fd)
            if hidden:
                # Deleted and made anew in one layer: what the layers below have in it stays hidden.
                own = os.open(name, _DIRECTORY, dir_fd=fd)
                try:
                    os.setxattr(own, OPAQUE, b"y")
                finally:
                    os.close(own)
        return True

    def _keep(self, path: bytes, fd: int) -> None:
        if len(self._open) >= _OPEN_DIRECTORIES:
            # The oldest half goes; the parents of what comes next are among the newest.
            for old in list(self._open)[1 : _OPEN_DIRECTORIES // 2]:
                os.close(self._open.pop(old))
        self._open[path] = fd
        if len(self._times) >= _REMEMBERED:
            # Those that are open may get more files: their times are kept for later.
            later = {path: self._times.pop(path) for path in self._open if path in self._times}
            self._write_times()
            self._times = later
            self._spilled = True

    def _clear(self, fd: int, name: bytes) -> None:
        """Remove what stands where an entry is to be made."""
        mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            remove_tree(fd, name)
        else:
            os.unlink(name, dir_fd=fd)
        if stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
            # Any path that is held open may have led through it. The caller still needs `fd`: it stays open under a
            # key that no path has, until the next time.
            for own in set(self._open.values()) - {fd, self._root}:
                os.close(own)
            self._open = {b"": self._root} if fd == self._root else {b"": self._root, b"/": fd}

    def _write_times(self) -> None:
        for path, mtime in self._times.items():
            try:
                fd = openat2(self._top, self._prefix + path, _DIRECTORY, self._resolve) if path else self._root
            except OSError as error:
                if error.errno in (ENOENT, ENOTDIR, ELOOP):
                    continue  # another entry has taken its place
                raise
            try:
                os.utime(fd, ns=(mtime, mtime))
            finally:
                if path:
                    os.close(fd)
        self._times.clear()

    @staticmethod
    def _finish_made(fd: int, name: bytes, entry: Entry, kind: int, device: int = 0) -> None:
        """Metadata of what cannot be opened: a link, a device, a FIFO."""
        made = inodes.hold_made(name, fd, kind, device)
        try:
            inodes.chown(made, entry.uid, entry.gid)
            if entry.xattrs:
                _set_xattrs(inodes.path(made), entry)
            if kind != stat.S_IFLNK:
                inodes.chmod(made, entry.mode)
            mtime = bounded(entry.mtime_ns)
            inodes.set_times(made, mtime, mtime)
        finally:
            os.close(made)


def path_of(name: bytes, max_depth: int) -> bytes:
    """Return an entry's name as a clean relative path: an absolute one starts at the root, `..` takes a component back.

    Raises:
        HostileInput: it leads out of the root, or is deeper than `max_depth`.
    """
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part in (b"", b"."):
            continue
        if part != b"..":
            parts.append(part)
        elif parts:
            parts.pop()
        elif not name.startswith(b"/"):
            raise HostileInput(f"archive entry {shown(name)!r} leads out of the archive", entry=shown(name))
    if len(parts) > max_depth:
        raise HostileInput(f"archive entry {shown(name)!r} is {len(parts)} directories deep", entry=shown(name))
    return b"/".join(parts)


def _set_xattrs(target: "int | bytes", entry: Entry) -> None:
    assert entry.xattrs
    for key, value in entry.xattrs.items():
        if key.startswith(_RESERVED):
            continue
        try:
            os.setxattr(target, key, value)
        except OSError as error:
            # A file system without this attribute; or `user.` on what may not carry one.
            if error.errno == ENOTSUP or (error.errno == EPERM and key.startswith(b"user.")):
                continue
            raise


def _is_whiteout(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def bounded(nanoseconds: int) -> int:
    """A time that every file system can hold; what is outside becomes the epoch, as in Docker."""
    return nanoseconds if 0 <= nanoseconds < 1 << 63 else 0


def _joined(parent: bytes, name: bytes) -> bytes:
    return parent + b"/" + name if parent and name else parent or name


def _refused(parent: bytes, name: bytes, reason: str) -> HostileInput:
    path = shown(_joined(parent, name))
    return HostileInput(f"archive entry {path!r} {reason}", entry=path)
