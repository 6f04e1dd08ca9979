"""Build a container's root, in the child, inside its own mount namespace.

Targets are descriptors found by openat2 RESOLVE_IN_ROOT, so that no link of an image, and no racer on a shared volume,
moves a mount elsewhere (CVE-2021-30465, CVE-2019-19921). Descriptors stay open until exec: closing each costs a call.
"""

import errno
import os
import stat

from wherry.errors import HostileInput, InvalidSpec, KernelError
from wherry.linux import inodes
from wherry.linux import mount as m
from wherry.linux.files import (
    O_PATH,
    PROC_SUPER_MAGIC,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_SYMLINKS,
    filesystem_magic,
    make_directories,
    make_file,
    open_in_root,
)
from wherry.runtime.devices import DEVICE_ATTRIBUTES, is_null
from wherry.runtime.plan import BIND, CGROUP, CONTENT, LAYERS, SHM, MountStep
from wherry.runtime.shared_memory import clone_shared_memory
from wherry.runtime.sources import clone_source
from wherry.runtime.step_mounts import OPTION_PAGE, bind_content, bind_layers, overlay_options, short_lower

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from wherry.runtime.plan import Plan

_TMPFS_MODE = 0o1777  # what the kernel gives one that is not told otherwise

# what tools like lxcfs lay over /proc; everything else there is how confinement is switched off (CVE-2019-16884)
_PROC_FILES = frozenset(
    {
        "/proc/cpuinfo",
        "/proc/diskstats",
        "/proc/loadavg",
        "/proc/meminfo",
        "/proc/net/dev",
        "/proc/slabinfo",
        "/proc/stat",
        "/proc/swaps",
        "/proc/sys/kernel/ns_last_pid",
        "/proc/sys/crypto/fips_enabled",
        "/proc/uptime",
    }
)


def open_sources(plan: "Plan") -> "tuple[int | None, dict[int, int]]":
    """Open, in the parent and before any namespace is made, what will be moved in: the root and the bind sources.

    Returns:
        (detached tree of the root or None where the child mounts it, {index in plan.mounts: detached tree}).

    Raises:
        KernelError: a source is not there; Docker's words for a bind.
    """
    root: int | None = None
    trees: dict[int, int] = {}
    try:
        if not plan.root_mounts:
            root = m.clone_tree(plan.root_path, recursive=True)
        elif plan.new_user_namespace or "user" in plan.join:
            # its layers belong to ids that the user namespace does not know
            from wherry.runtime.mapped_root import mapped_overlay  # no monitor carries it for nothing

            root = mapped_overlay(plan.root_mounts[0], plan.bundle, plan.uid_map, plan.gid_map)
        for index, step in enumerate(plan.mounts):
            if step.kind == SHM and plan.shared_memory is not None:
                trees[index] = clone_shared_memory(plan.shared_memory)
            elif step.destination in plan.sources:
                trees[index] = clone_source(plan.sources[step.destination], recursive=step.options.recursive)
            elif step.kind == BIND:
                try:
                    trees[index] = m.clone_tree(step.source, recursive=step.options.recursive)
                except KernelError as error:
                    if error.errno == errno.ENOENT:
                        raise InvalidSpec(
                            f'error mounting "{step.source}" to rootfs at "{step.destination}": '
                            f"bind source path does not exist: {step.source}"
                        ) from None
                    raise
    except BaseException:
        close_sources(root, trees)
        raise
    return root, trees


def close_sources(root: int | None, trees: "Mapping[int, int]") -> None:
    """Let go of what `open_sources` opened."""
    for fd in trees.values():
        os.close(fd)
    if root is not None:
        os.close(root)


def attach_root(plan: "Plan", tree: int | None) -> int:
    """Put the root in this namespace, not yet entered. Returns its descriptor."""
    if tree is not None:
        # on top of "/": the one place that every namespace has, and that needs no right to walk to
        m.set_attributes(tree, propagation=m.MS_SLAVE, recursive=True)
        top = os.open("/", O_PATH | os.O_DIRECTORY)
        m.attach(tree, top, shown=plan.root_path)
        return tree
    # the bundle directory exists, and is covered in this namespace only
    for mount in plan.root_mounts:
        flags, data = overlay_options(mount.options)
        m.mount(mount.source, plan.bundle, mount.type, flags, data)
    root = os.open(plan.bundle, O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if plan.hooks["createContainer"]:
        # hooks run before the root is entered, and may want the bundle
        m.attach(root, os.open("/", O_PATH | os.O_DIRECTORY), shown=plan.bundle)
    return root


def make_mounts(
    plan: "Plan",
    root: int,
    trees: "Mapping[int, int]",
    cgroup_paths: "Callable[[], Mapping[str, str]]",
) -> "list[MountStep]":
    """Make the mounts of the plan, in its order, but what `finish_mounts` does.

    Args:
        plan: the plan.
        root: its root's descriptor.
        trees: from `open_sources`.
        cgroup_paths: waits until the container is in its cgroup.

    Returns:
        Cgroup mounts that nothing else lies below: the parent is still making the cgroup, and there is other work.
    """
    late: list[MountStep] = []
    for index, step in enumerate(plan.mounts):
        try:
            if step.kind in (BIND, SHM):
                _bind(root, step, trees[index])
            elif step.kind == CGROUP:
                if _below(step.destination, plan):
                    _cgroup(root, step, cgroup_paths())
                else:
                    late.append(step)
            elif step.kind == LAYERS:
                _bind(root, step, bind_layers(step))
            elif step.kind == CONTENT:
                _bind(root, step, bind_content(step, plan.contents[step.source]))
            else:
                _filesystem(root, step)
        except KernelError as error:
            where = f'error mounting "{step.source}" to rootfs at "{step.destination}"'
            raise KernelError(f"{where}: {error.call}", error.errno or 0) from None
    return late


def finish_mounts(
    plan: "Plan", root: int, late: "Sequence[MountStep]", cgroup_paths: "Callable[[], Mapping[str, str]]"
) -> None:
    """Make the mounts that `make_mounts` has left, and then what was to be read-only: mount points, and the working
    directory, were made in it until now."""
    for step in late:
        _cgroup(root, step, cgroup_paths())
    for step in plan.mounts:
        if step.fstype == "tmpfs" and step.options.flags & m.MS_RDONLY:
            m.set_attributes(open_in_root(root, step.destination, O_PATH), m.MOUNT_ATTR_RDONLY)


def _below(destination: str, plan: "Plan") -> bool:
    """Whether something of the plan lies below a mount, which must then be there first."""
    prefix = destination + "/"
    paths = [step.destination for step in plan.mounts] + [node.path for node in plan.devices]
    return any(f"{path}/".startswith(prefix) and path != destination for path in paths) or any(
        f"{path}/".startswith(prefix) for path in (*plan.masked_paths, *plan.readonly_paths, plan.process.cwd)
    )


def hide(root: int, masked: "Sequence[str]", readonly: "Sequence[str]") -> None:
    """Cover masked paths and make read-only ones so; paths that are not there need nothing.

    A file is covered by the container's own null device, a directory by an empty tmpfs; all covers are read-only, so
    that who may change a mode or an owner finds nothing to change it on.
    """
    empty = null = -1
    for path in masked:
        target = _find(root, path)
        if target is None:
            continue
        if stat.S_ISDIR(os.fstat(target).st_mode):
            if empty < 0:
                m.mount("tmpfs", m.fd_path(target), "tmpfs", _MASK_FLAGS, "nr_blocks=1,nr_inodes=1", shown=path)
                empty = open_in_root(root, path, O_PATH)
            else:
                m.attach(m.clone_tree("", at=empty), target, shown=path)
            continue
        if null < 0:
            null = _null(root)
        cover = m.clone_tree("", at=null)
        m.set_attributes(cover, DEVICE_ATTRIBUTES, shown=path)
        m.attach(cover, target, shown=path)
    for path in readonly:
        target = _find(root, path)
        if target is None:
            continue
        tree = m.clone_tree("", at=target, recursive=True)
        m.set_attributes(tree, m.MOUNT_ATTR_RDONLY, recursive=True, shown=path)
        m.attach(tree, target, shown=path)


def _null(root: int) -> int:
    """The null device that covers files: the container's own where it is one, told by its number and not by its name
    (CVE-2025-31133), else the host's."""
    for top, path in ((root, "dev/null"), (-1, "/dev/null")):
        try:
            fd = open_in_root(top, path, O_PATH | os.O_NOFOLLOW) if top >= 0 else os.open(path, O_PATH | os.O_NOFOLLOW)
        except KernelError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                continue
            raise
        if is_null(os.fstat(fd)):
            return fd
    raise HostileInput("/dev/null of the host is not the null device")


def enter(root: int) -> None:
    """Make `root` the root, and let go of the old one: from here on no path leads outside."""
    os.fchdir(root)
    m.pivot_root(".", ".")
    # the old root lies on top of the new one now, and "." finds it
    m.umount(".")
    os.chdir("/")


def finish_root(plan: "Plan") -> None:
    """The root's own attributes, last: propagation, then read-only."""
    if plan.root_propagation is None and not plan.root_readonly:
        return
    fd = os.open("/", O_PATH | os.O_DIRECTORY)
    if plan.root_propagation is not None:
        kind, recursive = plan.root_propagation
        m.set_attributes(fd, propagation=kind, recursive=recursive, shown="/")
    if plan.root_readonly:
        m.set_attributes(fd, m.MOUNT_ATTR_RDONLY, shown="/")


_MASK_FLAGS = m.MS_RDONLY | m.MS_NOSUID | m.MS_NODEV | m.MS_NOEXEC


def _find(root: int, path: str) -> int | None:
    try:
        return open_in_root(root, path, O_PATH)
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise


def _bind(root: int, step: MountStep, tree: int) -> None:
    options = step.options
    if stat.S_ISDIR(os.fstat(tree).st_mode):
        target = make_directories(root, step.destination)
    else:
        target = make_file(root, step.destination)
    if filesystem_magic(target) == PROC_SUPER_MAGIC:
        _check_over_proc(step, tree)
    if options.recursive_add or options.recursive_clear:
        m.set_attributes(tree, options.recursive_add, options.recursive_clear, recursive=True, shown=step.destination)
    first: tuple[int, bool] | None = options.propagation[0] if options.propagation else None
    if first and not first[1] and (options.add or options.clear):
        m.set_attributes(tree, options.add, options.clear, first[0], shown=step.destination)
    else:
        if options.add or options.clear:
            m.set_attributes(tree, options.add, options.clear, shown=step.destination)
        if first:
            m.set_attributes(tree, propagation=first[0], recursive=first[1], shown=step.destination)
    for kind, recursive in options.propagation[1:]:
        m.set_attributes(tree, propagation=kind, recursive=recursive, shown=step.destination)
    if stat.S_ISDIR(os.fstat(tree).st_mode) != stat.S_ISDIR(os.fstat(target).st_mode):
        # the kernel says EINVAL; these are the words of the older mount(2)
        raise KernelError(f"mount {step.source}:{step.destination}", errno.ENOTDIR)
    m.attach(tree, target, shown=step.destination)


def _check_over_proc(step: MountStep, tree: int) -> None:
    if filesystem_magic(tree) == PROC_SUPER_MAGIC and step.destination == "/proc":
        return
    if step.destination not in _PROC_FILES:
        raise InvalidSpec(f'"{step.destination}" cannot be mounted because it is inside /proc')


def _filesystem(root: int, step: MountStep) -> None:
    flags, data = step.options.flags, step.data
    if step.fstype == "overlay" and len(os.fsencode(data)) > OPTION_PAGE:
        data = ",".join(short_lower(word) for word in data.split(","))
    mode = -1
    if step.fstype == "tmpfs" and "mode=" not in data:
        # as the directory that it covers; the kernel's 1777 where there was none
        covered = _find(root, step.destination)
        mode = stat.S_IMODE(os.fstat(covered).st_mode) if covered is not None else -1
    if step.plain:
        target = _plain_directory(root, step.destination)
    else:
        target = make_directories(root, step.destination)
        if filesystem_magic(target) == PROC_SUPER_MAGIC:
            raise InvalidSpec(f'"{step.destination}" cannot be mounted because it is inside /proc')
    source = -1
    if step.fstype == "tmpfs":
        flags &= ~m.MS_RDONLY
        if step.options.copy_up:
            source = open_in_root(target, ".", os.O_RDONLY | os.O_DIRECTORY)
    m.mount(step.source, m.fd_path(target), step.fstype, flags, data, shown=step.destination)
    if source >= 0:
        copy_up(source, open_in_root(root, step.destination, os.O_RDONLY | os.O_DIRECTORY))
    elif mode not in (-1, _TMPFS_MODE):
        os.chmod(m.fd_path(open_in_root(root, step.destination, O_PATH)), mode)
    for kind, recursive in step.options.propagation:
        m.set_attributes(open_in_root(root, step.destination, O_PATH), propagation=kind, recursive=recursive)


def _plain_directory(root: int, destination: str) -> int:
    try:
        return open_in_root(root, destination, O_PATH | os.O_DIRECTORY, resolve=RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS)
    except KernelError as error:
        if error.errno == errno.ENOENT:
            os.close(make_directories(root, destination))
            return open_in_root(
                root, destination, O_PATH | os.O_DIRECTORY, resolve=RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS
            )
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise HostileInput(f'"{destination}" must be an ordinary directory to be mounted on') from None
        raise


def _cgroup(root: int, step: MountStep, paths: "Mapping[str, str]") -> None:
    target = make_directories(root, step.destination)
    flags = step.options.flags
    unified = paths.get("", "")
    if unified and len(paths) == 1:
        try:
            m.mount("cgroup", m.fd_path(target), "cgroup2", flags, "", shown=step.destination)
        except KernelError as error:
            # a user namespace without a cgroup namespace of its own may not: it gets its own directory
            if error.errno not in (errno.EPERM, errno.EBUSY):
                raise
            _bind_cgroup(unified, target, flags, step.destination)
        return
    mode = flags & ~m.MS_RDONLY
    m.mount("tmpfs", m.fd_path(target), "tmpfs", mode, "mode=755", shown=step.destination)
    top = open_in_root(root, step.destination, O_PATH | os.O_DIRECTORY)
    made: dict[str, str] = {}
    for controller, path in paths.items():
        # the mount point has the name of the hierarchy's own directory on the host: "cpu,cpuacct", "systemd", "unified"
        name = hierarchy(path, controller)
        if name not in made:
            os.mkdir(name, 0o755, dir_fd=top)
            there = open_in_root(top, name, O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
            _bind_cgroup(path, there, flags, f"{step.destination}/{name}")
            made[name] = path
        if controller and controller != name and not controller.startswith("name="):
            try:
                os.symlink(name, controller, dir_fd=top)
            except FileExistsError:
                continue
    if flags & m.MS_RDONLY:
        m.set_attributes(top, m.MOUNT_ATTR_RDONLY)


def hierarchy(path: str, controller: str) -> str:
    """The name of the directory below a container's /sys/fs/cgroup that a hierarchy of v1 is mounted on."""
    parts = path.split("/")
    return parts[4] if path.startswith("/sys/fs/cgroup/") and len(parts) > 4 else controller or "unified"


def _bind_cgroup(path: str, target: int, flags: int, shown: str) -> None:
    tree = m.clone_tree(path)
    wanted = m.MOUNT_ATTR_NOSUID | m.MOUNT_ATTR_NODEV | m.MOUNT_ATTR_NOEXEC
    if flags & m.MS_RDONLY:
        wanted |= m.MOUNT_ATTR_RDONLY
    m.set_attributes(tree, wanted, propagation=m.MS_SLAVE, shown=shown)
    m.attach(tree, target, shown=shown)


def copy_up(source: int, target: int) -> None:
    """Copy the tree at `source` into the fresh tmpfs at `target`: files, directories and links, with owner and mode."""
    for name in os.listdir(source):
        held = inodes.hold(name, source)  # the place may be in a volume, where others write
        status = os.fstat(held)
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink("", dir_fd=held), name, dir_fd=target)
        elif stat.S_ISDIR(status.st_mode):
            os.mkdir(name, 0o700, dir_fd=target)
            below = inodes.reopen(held, os.O_RDONLY | os.O_DIRECTORY, name)
            there = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=target)
            copy_up(below, there)
            os.close(below)
            os.close(there)
        elif stat.S_ISREG(status.st_mode):
            old = inodes.reopen(held, name=name)
            new = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=target)
            while os.sendfile(new, old, None, 1 << 20):
                continue
            os.close(old)
            os.close(new)
        else:
            os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target)
        os.close(held)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target)
    status = os.fstat(source)
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
