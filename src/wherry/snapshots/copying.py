"""What `COPY`, `ADD` and `WORKDIR` do to a root: files copied, made and unpacked into it, by descriptor.

Runs in a short worker with a mount namespace of its own: the root is the step's layers with its new layer on top. When
that is mounted the worker confines itself as one that unpacks a layer does, with the step's root as its own. Paths
of the root are resolved as a process in it would (`openat2`, RESOLVE_IN_ROOT), those of a source inside the source;
neither leads out, whatever links are in them. Of a source only regular files and directories are opened (`inodes`). The
meaning of each argument is BuildKit's.
"""

import os
import stat
from binascii import a2b_base64
from errno import ENOTDIR, ENOTSUP, EPERM

from wherry.errors import HostileInput, InvalidArgument, KernelError, NotFound, WherryError
from wherry.linux import inodes
from wherry.linux.openat import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, open_in_root, openat2
from wherry.snapshots.confine import confine
from wherry.snapshots.mounted import join_layers, leave_host
from wherry.snapshots.ownership import Modes, Owner, look_up
from wherry.snapshots.selecting import select
from wherry.snapshots.treeview import DiskView, Excluded, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
_SKIPPED_ATTRIBUTES = ("trusted.overlay.", "security.selinux", "security.ima", "security.evm")
_PIECE = 1 << 20
_MAX_FILE = 1 << 62  # what a step may copy; what archives may hold has limits of its own
_NEW_PARENT = 0o755


def worker(args: "dict[str, Any]", fds: "dict[str, int]") -> "dict[str, Any]":
    """Carry out one step's file operations.

    Args:
        args: `root` (the mount as JSON; null: the descriptor `root`) and `at` (an empty directory to cover); `sources`,
            each `{"mount", "at"}` or `{"fd": name}`; `actions`: `{"mkdir": path, "mode", "owner"}`, `{"mkfile": path,
            "data" (base64), "chmod", "owner"}` or `{"copy": [patterns], "source": index, "dest", "owner", "chmod",
            "exclude", "parents", "unpack", "mine", "must"}`; `mine`: the source's files have no owner of their own;
            `must`: the instruction that fails where nothing fits.
        fds: the directories that sources name.

    Returns:
        nothing.

    Raises:
        NotFound: a source is not there; its `path` names it.
        InvalidArgument, HostileInput, KernelError: it cannot be done.
    """
    leave_host()
    root = join_layers(args["root"], args["at"]) if args["root"] else fds["root"]
    sources = [join_layers(one["mount"], one["at"]) if "mount" in one else fds[one["fd"]] for one in args["sources"]]
    if any(action.get("unpack") for action in args["actions"]):
        # what takes archives apart costs more to import than a small COPY; once confined, nothing can be imported
        from wherry.snapshots.adding import load_all

        load_all()
    confine(root, _MAX_FILE, left_host=True)
    os.umask(0)
    try:
        _carry_out(args["actions"], root, sources)
    except MemoryError:
        raise HostileInput("the files ask for more memory than a worker has") from None
    return {}


def _carry_out(actions: "list[dict[str, Any]]", root: int, sources: "list[int]") -> None:
    for action in actions:
        owner = look_up(root, action.get("owner") or "")
        if "mkdir" in action:
            _make_path(root, action["mkdir"], owner, int(action.get("mode") or _NEW_PARENT))
        elif "mkfile" in action:
            _make_file(root, action, owner)
        else:
            _Copy(root, sources[action["source"]], action, owner).run()


def _parts(path: str) -> "list[str]":
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return parts


def _make_path(root: int, path: str, owner: "Owner | None", mode: int = _NEW_PARENT) -> int:
    """Open a directory of the root, making what is missing with that owner and mode. The caller closes it."""
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=root)
    done = ""
    for part in _parts(path):
        done = f"{done}/{part}"
        try:
            found = open_in_root(root, done, os.O_RDONLY | os.O_DIRECTORY)
        except KernelError as error:
            if error.errno == ENOTDIR:
                os.close(here)
                raise InvalidArgument(f"cannot copy to non-directory: {done}", path=done) from None
            try:
                os.mkdir(part, mode, dir_fd=here)
            except FileExistsError:
                # a link to nothing: what it names is made, inside
                os.close(here)
                target = _link(root, done)
                if not target:
                    raise InvalidArgument(f"cannot copy to non-directory: {done}", path=done) from None
                base = target if target.startswith("/") else f"{done.rpartition('/')[0]}/{target}"
                os.close(_make_path(root, base, owner, mode))
                found = open_in_root(root, done, os.O_RDONLY | os.O_DIRECTORY)
                here = os.dup(found)
            else:
                found = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
                os.fchmod(found, mode)
                if owner is not None:
                    os.fchown(found, owner.uid, owner.gid)
        os.close(here)
        here = found
    return here


def _link(root: int, path: str) -> str:
    """What a symbolic link says; empty where there is none."""
    parent, _, name = path.rpartition("/")
    above = open_in_root(root, parent or "/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        found = os.stat(name, dir_fd=above, follow_symlinks=False)
        return os.readlink(name, dir_fd=above) if stat.S_ISLNK(found.st_mode) else ""
    finally:
        os.close(above)


def _is_directory(root: int, path: str) -> bool:
    try:
        os.close(open_in_root(root, path or "/", os.O_PATH | os.O_DIRECTORY))
    except OSError:
        return False
    return True


def _make_file(root: int, action: "dict[str, Any]", owner: "Owner | None") -> None:
    path = action["mkfile"]
    parent, _, name = path.rstrip("/").rpartition("/")
    above = _make_path(root, parent or "/", owner)
    try:
        _out_of_the_way(above, name, path)
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=above)
        try:
            data = memoryview(a2b_base64(action["data"]))
            while data:
                data = data[os.write(fd, data) :]
            if owner is not None:
                os.fchown(fd, owner.uid, owner.gid)
            os.fchmod(fd, Modes(action["chmod"]).of(0o644, False) if action.get("chmod") else 0o644)
        finally:
            os.close(fd)
    finally:
        os.close(above)


def _out_of_the_way(above: int, name: str, shown: str) -> None:
    """Remove what is no directory where a file is to be."""
    try:
        found = os.stat(name, dir_fd=above, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(found.st_mode):
        raise InvalidArgument(f"cannot replace to directory {shown} with file", path=shown)
    os.unlink(name, dir_fd=above)


class _Copy:
    """One `copy` action."""

    __slots__ = ("_action", "_excluded", "_links", "_modes", "_owner", "_root", "_source", "_view")

    def __init__(self, root: int, source: int, action: "dict[str, Any]", owner: "Owner | None") -> None:
        self._root = root
        self._source = source
        self._action = action
        self._owner = owner
        self._modes = Modes(action["chmod"]) if action.get("chmod") else None
        self._excluded = Excluded(action.get("exclude") or ())
        self._view = DiskView(source, mine=bool(action.get("mine")), bare=True)
        # files of the source with several names: where the first one went
        self._links: dict[tuple[int, int], tuple[int, str]] = {}

    def run(self) -> None:
        nothing = True
        try:
            for pattern in self._action["copy"]:
                for path in self._select(pattern):
                    nothing = False
                    self._one(path, pattern)
        finally:
            for fd, _ in self._links.values():
                os.close(fd)
        if nothing and self._action.get("must"):
            raise NotFound(f"{self._action['must']} failed: no source files were specified")

    def _select(self, pattern: str) -> "list[str]":
        return select(self._view, pattern.replace("/./", "/") if self._action.get("parents") else pattern)

    def _one(self, path: str, pattern: str) -> None:
        action, dest = self._action, self._action["dest"]
        real = resolve(self._view, path)
        entry = self._view.get(real)
        assert entry is not None
        name = path.rpartition("/")[2]
        if action.get("parents"):
            pivot = pattern.partition("/./")
            kept = path[len("/".join(_parts(pivot[0]))) :].lstrip("/") if pivot[1] else path
            above, _, name = kept.rpartition("/")
            self._parents(path, kept, dest)
            dest = f"{dest}/{above}"
            if entry.kind == "d":
                dest = f"{dest}/{name}"
            dest += "/"
        if entry.kind == "d":
            self._contents(real, dest)
            return
        if action.get("unpack") and entry.kind == "f" and self._unpacked(real, dest):
            return
        if dest.endswith("/") or _is_directory(self._root, dest):
            target = name
            fd = _make_path(self._root, dest, self._owner)
        else:
            above, _, target = dest.rpartition("/")
            final = self._final(dest)
            if final is not None:
                above, _, target = final.rpartition("/")
            fd = _make_path(self._root, above or "/", self._owner)
        parent, _, base = real.rpartition("/")
        source = openat2(self._source, parent or ".", os.O_RDONLY | os.O_DIRECTORY, _BENEATH)
        try:
            self._file(source, base, fd, target, f"{dest}")
        finally:
            os.close(source)
            os.close(fd)

    def _final(self, dest: str) -> str | None:
        """Where a link that stands at the destination leads; a file goes there, inside the root."""
        try:
            return resolve(DiskView(self._root, bare=True), dest)
        except WherryError:
            return None

    def _parents(self, path: str, kept: str, dest: str) -> None:
        """Make the directories above with the source's own modes (`--parents`)."""
        parts = kept.split("/")[:-1]
        skipped = path[: len(path) - len(kept)]
        done = ""
        for part in parts:
            done = f"{done}/{part}"
            if _is_directory(self._root, dest + done):
                continue
            entry = self._view.get(resolve(self._view, skipped + done))
            owner = self._owner or (Owner(entry.uid, entry.gid) if entry is not None else None)
            os.close(_make_path(self._root, dest + done, owner, entry.mode if entry is not None else _NEW_PARENT))

    def _contents(self, real: str, dest: str) -> None:
        """Copy what is in a directory; one that is made for it gets its time, but 0755 and `--chown`'s owner."""
        there = _is_directory(self._root, dest)
        fd = _make_path(self._root, dest, self._owner)
        source = openat2(self._source, real or ".", os.O_RDONLY | os.O_DIRECTORY, _BENEATH)
        try:
            self._below(source, fd, "", dest.rstrip("/"))
            if not there:
                changed = os.fstat(source).st_mtime_ns
                os.utime(fd, ns=(changed, changed))
        finally:
            os.close(source)
            os.close(fd)

    def _below(self, source: int, target: int, seen: str, shown: str) -> None:
        for name in sorted(os.listdir(source)):
            path = f"{seen}/{name}" if seen else name
            out = bool(self._excluded) and self._excluded(path)
            held = inodes.hold(name, source)
            try:
                found = os.fstat(held)
                if stat.S_ISDIR(found.st_mode):
                    self._directory(held, target, name, path, f"{shown}/{name}", out=out)
                elif not out:
                    self._held(held, found, name, target, name, f"{shown}/{name}")
            finally:
                os.close(held)

    def _directory(self, held: int, target: int, name: str, path: str, shown: str, *, out: bool) -> None:
        child = inodes.reopen(held, os.O_RDONLY | os.O_DIRECTORY, name)
        try:
            if out and not self._keeps(child, path):
                return
            into = self._enter(target, name, shown)
            try:
                self._below(child, into, path, shown)
                self._finish_directory(child, into)
            finally:
                os.close(into)
        finally:
            os.close(child)

    def _keeps(self, fd: int, seen: str) -> bool:
        """Whether an excluded directory has something that a later rule takes back."""
        for name in os.listdir(fd):
            path = f"{seen}/{name}"
            if not self._excluded(path):
                return True
            if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                child = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
                try:
                    if self._keeps(child, path):
                        return True
                finally:
                    os.close(child)
        return False

    @staticmethod
    def _enter(target: int, name: str, shown: str) -> int:
        try:
            os.mkdir(name, 0o700, dir_fd=target)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=target, follow_symlinks=False).st_mode):
                raise InvalidArgument(f"cannot copy to non-directory: {shown}", path=shown) from None
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=target)

    def _finish_directory(self, source: int, target: int) -> None:
        found = os.fstat(source)
        self._own(target, found)
        _copy_attributes(source, target)
        os.fchmod(target, self._mode(found))
        os.utime(target, ns=(found.st_mtime_ns, found.st_mtime_ns))

    def _mode(self, found: os.stat_result) -> int:
        mode = stat.S_IMODE(found.st_mode)
        return self._modes.of(mode, stat.S_ISDIR(found.st_mode)) if self._modes else mode

    def _own(self, target: int, found: os.stat_result) -> None:
        owner = self._owner
        if owner is not None:
            os.fchown(target, owner.uid, owner.gid)
        elif not self._action.get("mine"):
            os.fchown(target, found.st_uid, found.st_gid)

    def _file(self, source: int, name: str, target: int, into: str, shown: str) -> None:
        """Copy what is no directory."""
        held = inodes.hold(name, source)
        try:
            found = os.fstat(held)
            if stat.S_ISDIR(found.st_mode):
                raise HostileInput(f"{name!r} changed while it was copied", path=name)
            self._held(held, found, name, target, into, shown)
        finally:
            os.close(held)

    def _held(self, held: int, found: os.stat_result, name: str, target: int, into: str, shown: str) -> None:
        if stat.S_ISSOCK(found.st_mode):
            return
        try:
            self._make(held, found, name, target, into)
        except FileExistsError:
            _out_of_the_way(target, into, shown)
            self._make(held, found, name, target, into)

    def _make(self, held: int, found: os.stat_result, name: str, target: int, into: str) -> None:
        key = (found.st_dev, found.st_ino)
        if found.st_nlink > 1 and key in self._links:
            first, called = self._links[key]
            os.link(called, into, src_dir_fd=first, dst_dir_fd=target, follow_symlinks=False)
            return
        if stat.S_ISREG(found.st_mode):
            self._regular(held, name, target, into, found)
        else:
            self._special(held, target, into, found)
        if found.st_nlink > 1 and not self._action.get("mine"):
            self._links[key] = (os.dup(target), into)

    def _regular(self, held: int, name: str, target: int, into: str, found: os.stat_result) -> None:
        old = inodes.reopen(held, name=name)
        try:
            new = os.open(into, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=target)
            try:
                _pump(old, new)
                self._own(new, found)
                _copy_attributes(old, new)
                os.fchmod(new, self._mode(found))
                os.utime(new, ns=(found.st_mtime_ns, found.st_mtime_ns))
            finally:
                os.close(new)
        finally:
            os.close(old)

    def _special(self, held: int, target: int, into: str, found: os.stat_result) -> None:
        if stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink("", dir_fd=held), into, dir_fd=target)
        else:
            os.mknod(into, stat.S_IFMT(found.st_mode) | 0o600, found.st_rdev, dir_fd=target)
        uid, gid = (found.st_uid, found.st_gid) if not self._action.get("mine") else (0, 0)
        if self._owner is not None:
            uid, gid = self._owner.uid, self._owner.gid
        made = inodes.hold_made(into, target, found.st_mode, found.st_rdev)
        try:
            inodes.chown(made, uid, gid)
            if not stat.S_ISLNK(found.st_mode):
                inodes.chmod(made, self._mode(found))
            inodes.set_times(made, found.st_mtime_ns, found.st_mtime_ns)
        finally:
            os.close(made)

    def _unpacked(self, real: str, dest: str) -> bool:
        """Unpack an archive into the destination; False where the file is none."""
        from wherry.snapshots.adding import is_archive, unpack_into

        fd = inodes.read_held(openat2(self._source, real, inodes.HOLD, _BENEATH), real)
        try:
            if not is_archive(fd):
                return False
            into = _make_path(self._root, dest, self._owner)
            try:
                unpack_into(fd, into, self._owner)
            finally:
                os.close(into)
            return True
        finally:
            os.close(fd)


def _pump(old: int, new: int) -> None:
    while True:
        try:
            if not os.sendfile(new, old, None, _PIECE):
                return
        except OSError as error:
            raise KernelError("copy", error.errno or 0) from error


def _copy_attributes(source: int, target: int) -> None:
    try:
        names = os.listxattr(source)
    except OSError as error:
        if error.errno == ENOTSUP:
            return
        raise
    for name in names:
        if name.startswith(_SKIPPED_ATTRIBUTES):
            continue
        try:
            os.setxattr(target, name, os.getxattr(source, name))
        except OSError as error:
            if error.errno not in (ENOTSUP, EPERM):
                raise
