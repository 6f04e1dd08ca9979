"""Device files, links and the console of a container, made in the child before its root is entered."""

import errno
import fcntl
import os
import stat

from wherry.errors import HostileInput, KernelError
from wherry.linux import mount as m
from wherry.linux.files import O_PATH, make_directories, open_in_root
from wherry.linux.terminal import open_pair, set_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from wherry.runtime.plan import DeviceNode, Plan

# for what is bound and not made: a device can be used on a read-only mount, its mode, owner and times cannot be changed
DEVICE_ATTRIBUTES = m.MOUNT_ATTR_RDONLY | m.MOUNT_ATTR_NOSUID | m.MOUNT_ATTR_NOEXEC
_NULL = os.makedev(1, 3)


def open_device_sources(plan: "Plan") -> "dict[str, int]":
    """In a user namespace mknod(2) is refused: there the host's device files are bind mounted. Opened in the parent."""
    if not plan.new_user_namespace and "user" not in plan.join:
        return {}
    found = {}
    for node in plan.devices:
        if not stat.S_ISFIFO(node.mode):
            fd = os.open(node.path, O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            status = os.fstat(fd)
            if status.st_rdev != node.rdev or stat.S_IFMT(status.st_mode) != stat.S_IFMT(node.mode):
                raise KernelError(f"device {node.path} differs on the host", errno.ENODEV)
            found[node.path] = m.clone_tree("", at=fd)
            os.close(fd)
            m.set_attributes(found[node.path], DEVICE_ATTRIBUTES, shown=node.path)
    return found


def is_null(status: os.stat_result) -> bool:
    """Whether this is the null device."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == _NULL


def own_null() -> None:
    """Where standard streams are the host's null device, put the container's own in its place: through a descriptor
    its owner could change the mode and the owner of the host's. Called in the container, before rights are dropped.

    What is called /dev/null here may be anything: it is looked at first, and where it is not the null device one is
    made in a file system that is mounted nowhere. A user namespace may not, but there the host's inode has an owner
    that nobody in it is.
    """
    for fd in range(3):
        try:
            status = os.fstat(fd)
        except OSError:
            continue  # closed by the caller
        if not is_null(status):
            continue
        flags = fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK) | os.O_CLOEXEC
        replacement = _null_here(flags)
        if replacement >= 0:
            os.dup2(replacement, fd, inheritable=True)
            os.close(replacement)


def _null_here(flags: int) -> int:
    try:
        here = os.stat("/dev/null", follow_symlinks=False)
        if is_null(here):
            fd = os.open("/dev/null", flags | os.O_NOFOLLOW | os.O_NOCTTY)
            if is_null(os.fstat(fd)):
                return fd
            os.close(fd)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.ENXIO):
            raise KernelError("open /dev/null", error.errno or 0) from None
    tree = m.new_filesystem("tmpfs", "tmpfs", ("nr_inodes=2",))
    try:
        os.mknod("null", 0o020666, _NULL, dir_fd=tree)
        return os.open("null", flags, dir_fd=tree)
    except PermissionError:
        return -1
    finally:
        os.close(tree)


def make_devices(plan: "Plan", root: int, sources: "Mapping[str, int]") -> None:
    """Make the plan's device files and the usual links of /dev. The umask is 0."""
    if not plan.devices:
        return
    directories = {"/dev": make_directories(root, "/dev")}
    for node in plan.devices:
        parent, _, name = node.path.rpartition("/")
        directory = directories.get(parent)
        if directory is None:
            directory = directories[parent] = make_directories(root, parent or "/")
        if node.path in sources:
            _bind_device(directory, name, sources[node.path], node.path)
        else:
            _make_device(directory, name, node)
    for target, name in plan.links:
        try:
            os.symlink(target, name, dir_fd=directories["/dev"])
        except FileExistsError:
            _replace_link(target, name, directories["/dev"])


def _make_device(directory: int, name: str, node: "DeviceNode") -> None:
    try:
        os.mknod(name, node.mode, node.rdev, dir_fd=directory)
    except FileExistsError:
        # an image without a /dev mount of its own: the node is kept if it is what was asked for, else replaced
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_IFMT(status.st_mode) == stat.S_IFMT(node.mode) and status.st_rdev == node.rdev:
            return
        if stat.S_ISDIR(status.st_mode):
            raise HostileInput(f"{node.path} is a directory") from None
        os.unlink(name, dir_fd=directory)
        os.mknod(name, node.mode, node.rdev, dir_fd=directory)
    except OSError as error:
        raise KernelError("mknod", error.errno or 0, node.path) from None
    if node.uid or node.gid:
        os.chown(name, node.uid, node.gid, dir_fd=directory, follow_symlinks=False)


def _bind_device(directory: int, name: str, source: int, path: str) -> None:
    try:
        os.close(
            os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0, dir_fd=directory)
        )
    except FileExistsError:
        if stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            raise HostileInput(f"{path} is a symbolic link") from None
    m.attach(source, open_in_root(directory, name, O_PATH | os.O_NOFOLLOW), shown=path)


def _replace_link(target: str, name: str, directory: int) -> None:
    try:
        if os.readlink(name, dir_fd=directory) == target:
            return
        os.unlink(name, dir_fd=directory)
    except OSError:
        if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            return  # an image's own directory, with no tmpfs over it, stays the image's
        os.unlink(name, dir_fd=directory)
    os.symlink(target, name, dir_fd=directory)


def make_console(root: int, size: "tuple[int, int] | None") -> "tuple[int, int]":
    """Make the container's terminal in its own devpts, and mount it at /dev/console.

    The slave is mounted by descriptor on a file that is made, or found, without following a link (CVE-2025-52565).

    Returns:
        (master, slave).
    """
    master, slave = open_pair(root)
    if size and size != (0, 0):
        set_size(master, size[0], size[1])
    directory = make_directories(root, "/dev")
    try:
        os.close(os.open("console", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o620, dir_fd=directory))
    except FileExistsError:
        if stat.S_ISLNK(os.stat("console", dir_fd=directory, follow_symlinks=False).st_mode):
            raise HostileInput("/dev/console is a symbolic link") from None
    target = open_in_root(directory, "console", O_PATH | os.O_NOFOLLOW)
    m.attach(m.clone_tree("", at=slave), target, shown="/dev/console")
    return master, slave
