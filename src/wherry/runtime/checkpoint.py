"""Checkpoint and restore of a container by CRIU: what of it lives outside of the process tree, and is put back.

    the root                   an overlay, mounted for the restore as for a launch: criu's `--root`
    bind mounts, cgroups       external: named by where they are mounted, opened anew at the restore
    the network namespace      external: the sandbox makes it, with its links and addresses
    standard streams           pipes of the monitor; the restored process gets those of its own monitor
    cgroup                     not criu's to manage: it is born in the container's

All else (memory, /proc, tmpfs mounts and what is in them, ids, seccomp, signals, timers, sockets…) is criu's own.
A checkpoint is a directory of criu's images with `wherry.json`:

    {"v": 1, "container": id, "confinement": digest, "network": bool, "pipes": {"0"|"1"|"2": "pipe:[inode]"},
     "mounts": [[mount point, destination in the configuration, path below it]…]}

Who can write into it can become root by it, so it must be root's and nobody else's to write.
"""

import os
import stat
from hashlib import sha256
from json import dumps, loads

from wherry.errors import InvalidArgument, InvalidSpec, KernelError, NotSupported, WherryError
from wherry.linux import mount as m
from wherry.linux.files import O_PATH, make_directories, make_file, open_in_root, sync_directory, write_atomic
from wherry.linux.namespace import (
    CLONE_NEWCGROUP,
    CLONE_NEWNS,
    NAMESPACES,
    namespace_id,
    open_namespace,
    setns,
    unshare,
)
from wherry.linux.process import pidfd_open, start_time
from wherry.runtime import criu, rootfs
from wherry.runtime.execute import write_sysctls
from wherry.runtime.mounted import external_mounts
from wherry.runtime.plan import CGROUP, FILESYSTEM
from wherry.runtime.stdio import Launched
from wherry.runtime.step_mounts import overlay_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from wherry.runtime.cgroups.base import Cgroup
    from wherry.runtime.plan import Plan
    from wherry.runtime.stdio import Stdio

MANIFEST = "wherry.json"
VERSION = 1
_LIMIT = 1 << 20
# at a restore it is given, at a launch it may be made
_NETWORK = NAMESPACES["network"][0]
_KEY = "wherry-network"


def dump(
    plan: "Plan",
    pid: int,
    pipes: "Mapping[str, int]",
    images: str,
    *,
    program: "Sequence[str]",
    log: str,
    cgroup: "Cgroup",
    own_network: bool,
    seccomp: str,
) -> None:
    """Write the image of a frozen container into `images`, and leave it frozen.

    Args:
        plan: what it was launched with.
        pid: process 1.
        pipes: the monitor's ends of its standard streams, by the stream's number.
        images: an empty directory.
        program: the words that criu's command line begins with.
        log: where criu's log goes.
        cgroup: the container's, frozen.
        own_network: process 1 is in another network namespace than we.
        seccomp: what its filter is called; the same name is the same filter.

    Raises:
        WherryError: criu failed; the processes are as they were.
        NotSupported: a mount point that criu cannot be told of; no freezer.
    """
    _refuse(plan)
    freezer = cgroup.paths.get("freezer") or cgroup.paths.get("unified") or cgroup.paths.get("")
    if not freezer:
        raise NotSupported("checkpoint needs the freezer cgroup")
    mounts = external_mounts(plan.mounts, pid)
    words = ["--tree", str(pid), "--images-dir", images, "--work-dir", images, "--freeze-cgroup", freezer]
    words += ["--leave-running", *_COMMON]
    for point, _, _ in mounts:
        words += ["--external", f"mnt[{point}]:{point}"]
    if own_network:
        words += ["--external", f"net[{namespace_id('network', pid)[1]}]:{_KEY}"]
    criu.run(program, "dump", words, log=log)
    manifest = {
        "v": VERSION,
        "container": plan.container_id,
        "confinement": _confinement(plan, seccomp),
        "mounts": mounts,
        "network": own_network,
        "pipes": {name: os.readlink(f"/proc/self/fd/{fd}") for name, fd in pipes.items()},
    }
    write_atomic(f"{images}/{MANIFEST}", dumps(manifest).encode())
    _settle(images)


def _refuse(plan: "Plan") -> None:
    """Raise NotSupported for what cannot be put back."""
    if plan.process.terminal:
        raise NotSupported("checkpoint not support on containers with tty")
    if plan.new_user_namespace or "user" in plan.join:
        raise NotSupported("checkpoint is not supported for containers in a user namespace")
    if not plan.own_root:
        raise InvalidSpec("checkpoint needs a mount namespace of the container's own")


_COMMON = ("--manage-cgroups=ignore", "--file-locks")


def _settle(images: str) -> None:
    """Make all images durable, and root's alone."""
    for entry in os.scandir(images):
        fd = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchmod(fd, 0o600)
            os.fsync(fd)
        finally:
            os.close(fd)
    sync_directory(images)


def restore(
    plan: "Plan",
    stdio: "Stdio",
    images: str,
    *,
    program: "Sequence[str]",
    log: str,
    cgroup: "Cgroup",
    network: int | None,
    seccomp: str,
    concurrently: "Callable[[int], None]",
) -> Launched:
    """Bring a container back from `images`. Changes this process's mount namespace: it should do nothing else.

    Args:
        plan: as for a launch; its process counts for nothing.
        stdio: the streams of the new process 1.
        images: the checkpoint.
        program: the words that criu's command line begins with.
        log: where criu's log goes.
        cgroup: created here, removed again on failure.
        network: the network namespace to be in; None: the caller's.
        seccomp: what the filter of a launch would be called.
        concurrently: configures that namespace.

    Returns:
        Process 1; a child of this process's nearest subreaper, once this process has ended.

    Raises:
        InvalidArgument: no checkpoint, or not one of a container that is made like this one.
        WherryError: criu failed; nothing is left.
    """
    _refuse(plan)
    directory = _open(images)
    manifest = _read(directory)
    trees: dict[int, int] = {}
    try:
        _, trees = rootfs.open_sources(plan)
        _check_confinement(plan, seccomp, manifest)
        # criu and its tar are born in there too, and counted
        resources = dict(plan.resources or {})
        processes = resources.pop("pids", None)
        cgroup.create(resources)
        concurrently(0)
        if network is not None:
            _network_sysctls(plan, network)
        unshare(CLONE_NEWNS)
        m.make_all_slave()
        root, sources = _lay(plan, trees, cgroup, manifest["mounts"])
        pidfile = f"{plan.bundle}/restored.pid"
        words = ["--images-dir", m.fd_path(directory), "--work-dir", plan.bundle, "--pidfile", pidfile]
        words += ["--root", root, "--restore-detached", *_COMMON]
        for point, source in sources.items():
            words += ["--external", f"mnt[{point}]:{source}"]
        given = [directory]
        if manifest["network"] != (network is not None):
            raise InvalidArgument("the checkpoint is of a container with another kind of network")
        if network is not None:
            given.append(network)
            words += ["--inherit-fd", f"fd[{network}]:{_KEY}"]
        for name, key in manifest["pipes"].items():
            fd = (stdio.stdin, stdio.stdout, stdio.stderr)[int(name)]
            given.append(fd)
            words += ["--inherit-fd", f"fd[{fd}]:{key}"]
        # told to leave cgroups alone, criu leaves their namespace to us too
        namespace = bool(plan.new_namespaces & CLONE_NEWCGROUP)
        criu.run(
            program,
            "restore",
            words,
            log=log,
            inherit=given,
            cgroup=cgroup,
            namespace=namespace,
            no_new_privileges=plan.process.no_new_privileges,
        )
        if processes:
            cgroup.update({"pids": processes})
        with open(pidfile, encoding="ascii") as file:
            pid = int(file.read())
        if plan.root_readonly:
            _make_read_only(pid)
        return Launched(pid, pidfd_open(pid), start_time(pid))
    except BaseException:
        try:
            cgroup.kill()
            cgroup.remove()
        except WherryError as error:
            raise error from None
        raise
    finally:
        os.close(directory)
        for fd in trees.values():
            os.close(fd)


def _open(images: str) -> int:
    try:
        directory = os.open(images, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError("open", error.errno or 0, images) from None
    names = [".", *os.listdir(directory)]
    for name in names:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        plain = stat.S_ISREG(status.st_mode) or name == "."
        if not plain or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            os.close(directory)
            raise InvalidArgument(
                f"checkpoint {images} is not trusted: {name} must be a plain file that only root can write"
            )
    return directory


def _read(directory: int) -> "dict[str, Any]":
    try:
        fd = os.open(MANIFEST, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        with open(fd, "rb") as file:
            value = loads(file.read(_LIMIT))
        if value["v"] != VERSION:
            raise InvalidArgument(f"the checkpoint has format {value['v']}, this engine reads {VERSION}")
        mounts = [(str(point), str(of), str(path)) for point, of, path in value["mounts"]]
        pipes = {str(name): str(key) for name, key in value["pipes"].items() if name in ("0", "1", "2")}
        if any(not key.startswith("pipe:[") or not key[6:-1].isdigit() for key in pipes.values()):
            raise ValueError("pipes")
        texts = {name: str(value[name]) for name in ("container", "confinement")}
        return {"mounts": mounts, "pipes": pipes, "network": bool(value["network"]), **texts}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        os.close(directory)
        raise InvalidArgument(f"the checkpoint's {MANIFEST} cannot be read: {error}") from None
    except InvalidArgument:
        os.close(directory)
        raise


def _confinement(plan: "Plan", seccomp: str) -> str:
    """A digest of what the images bring back as it was, whatever the container that they are restored into asks for."""
    process, capabilities = plan.process, plan.process.capabilities
    bits = [getattr(capabilities, name) for name in capabilities.__slots__] if capabilities else None
    values = (
        [process.uid, process.gid, process.groups, process.username, process.group_names],
        [process.no_new_privileges, process.apparmor_profile, process.selinux_label, bits, seccomp],
        [plan.masked_paths, plan.readonly_paths, plan.root_readonly, plan.new_namespaces & ~_NETWORK],
        [[step.destination, step.kind, step.fstype, step.options.flags, step.data] for step in plan.mounts],
        [[node.path, node.mode, node.rdev] for node in plan.devices],
    )
    return sha256(repr(values).encode()).hexdigest()


def _check_confinement(plan: "Plan", seccomp: str, manifest: "dict[str, Any]") -> None:
    if manifest["container"] != plan.container_id and manifest["confinement"] != _confinement(plan, seccomp):
        raise InvalidArgument("the checkpoint is of a container that is confined in another way")


def _lay(
    plan: "Plan", trees: "Mapping[int, int]", cgroup: "Cgroup", mounts: "list[tuple[str, str, str]]"
) -> "tuple[str, dict[str, str]]":
    """Mount the root, and every external mount's source, at places of this mount namespace that criu can be told of.

    Returns:
        (path of the root, {mount point in the container: path of its source}).

    Raises:
        InvalidArgument: the checkpoint has a mount that the container has not.
    """
    # over the bundle, which has been read
    m.mount("tmpfs", plan.bundle, "tmpfs", m.MS_NOSUID | m.MS_NODEV, "mode=700")
    root = f"{plan.bundle}/root"
    os.mkdir(root)
    for mount in plan.root_mounts:
        flags, data = overlay_options(mount.options)
        m.mount(mount.source, root, mount.type, flags, data)
    top = os.open(root, O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    steps = {step.destination: (index, step) for index, step in enumerate(plan.mounts)}
    bases: dict[str, str] = {}
    sources: dict[str, str] = {}
    for number, (point, of, path) in enumerate(mounts):
        if of not in steps or steps[of][1].kind == FILESYSTEM:
            raise InvalidArgument(f"the checkpoint has a mount on {of}, which this container has not")
        index, step = steps[of]
        place = f"{plan.bundle}/{number}"
        if step.kind == CGROUP:
            _attach(_cgroup_tree(cgroup, path, step.options.flags), place)
        else:
            if index not in trees:
                raise InvalidArgument(f"the checkpoint has a mount on {of}, which cannot be made again")
            if of not in bases:
                bases[of] = f"{plan.bundle}/of-{index}"
                _set_attributes(step, trees[index])
                _attach(trees[index], bases[of])
            if path:
                _attach(_below(bases[of], path), place)
            else:
                place = bases[of]
        sources[point] = place
    _mount_points(plan, top, sources)
    os.close(top)
    return root, sources


def _attach(tree: int, place: str) -> None:
    if stat.S_ISDIR(os.fstat(tree).st_mode):
        os.mkdir(place)
    else:
        os.close(os.open(place, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    target = os.open(place, O_PATH | os.O_CLOEXEC)
    m.attach(tree, target, shown=place)
    os.close(target)


def _set_attributes(step: "Any", tree: int) -> None:
    options = step.options
    if options.recursive_add or options.recursive_clear:
        m.set_attributes(tree, options.recursive_add, options.recursive_clear, recursive=True, shown=step.destination)
    if options.add or options.clear:
        m.set_attributes(tree, options.add, options.clear, shown=step.destination)


def _below(base: str, path: str) -> int:
    """The mount at `path` inside of an attached one; no link of a volume leads out of it."""
    top = os.open(base, O_PATH | os.O_CLOEXEC)
    found = open_in_root(top, path, O_PATH)
    tree = m.clone_tree("", at=found)
    os.close(found)
    os.close(top)
    return tree


def _cgroup_tree(cgroup: "Cgroup", path: str, flags: int) -> int:
    for controller, directory in cgroup.paths.items():
        if path == (rootfs.hierarchy(directory, controller) if len(cgroup.paths) > 1 else ""):
            tree = m.clone_tree(directory)
            if flags & m.MS_RDONLY:
                m.set_attributes(tree, m.MOUNT_ATTR_RDONLY)
            return tree
    raise InvalidArgument(f"the checkpoint has the cgroup hierarchy {path!r}, this machine has not")


def _mount_points(plan: "Plan", root: int, sources: "Mapping[str, str]") -> None:
    """Make in the root what is mounted on, for a container that has never run."""
    destinations = [step.destination for step in plan.mounts]
    for destination in destinations:
        if any(destination.startswith(f"{other}/") for other in destinations):
            continue
        source = sources.get(destination)
        if source is None or os.path.isdir(source):
            os.close(make_directories(root, destination))
        else:
            os.close(make_file(root, destination))


def _make_read_only(pid: int) -> None:
    """Make the root of a restored process what it was: CRIU 3 brings it back writable, as it needed it itself."""
    back, target = open_namespace("mount"), open_namespace("mount", pid)
    try:
        setns(target, CLONE_NEWNS)
        try:
            root = os.open("/", O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                m.set_attributes(root, m.MOUNT_ATTR_RDONLY, shown="/")
            finally:
                os.close(root)
        finally:
            setns(back, CLONE_NEWNS)
    finally:
        os.close(back)
        os.close(target)


def _network_sysctls(plan: "Plan", network: int) -> None:
    """Those of the network namespace, which is new; the others are in the images."""
    values = tuple((path, value) for path, value in plan.sysctl if path.startswith("net/"))
    if not values:
        return
    back = open_namespace("network")
    setns(network, NAMESPACES["network"][0])
    try:
        write_sysctls(values)
    finally:
        setns(back, NAMESPACES["network"][0])
        os.close(back)
