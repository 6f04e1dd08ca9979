"""The worker behind `docker cp`: it enters a container's mount view, gives up its powers, and works by descriptors.

A running container's view is its mount namespace; one that does not run gets a view made, in a namespace of the
worker's own. Either way the container's root is this process's root before anything of it is looked at: no link, no
racer and no mount of the container leads to the host (CVE-2018-15664, CVE-2021-41089, CVE-2026-41568). Nothing is
imported after that, no library is loaded and no program executed: archives are inflated in this process
(CVE-2019-14271, CVE-2026-41567).
"""

import os
from errno import ENOTDIR

from wherry.errors import InvalidArgument, KernelError
from wherry.linux import inodes
from wherry.linux.files import open_in_root
from wherry.linux.identity import read_accounts, resolve
from wherry.monitor.progress import report
from wherry.snapshots.confine import confine
from wherry.snapshots.copyin import Into, read_copy
from wherry.snapshots.copyout import write_copy
from wherry.snapshots.inflate import Stream
from wherry.snapshots.limits import Limits
from wherry.snapshots.located import describe, is_window, locate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MAX_FILE = 1 << 62


def worker(args: "dict[str, Any]", fds: "dict[str, int]") -> "dict[str, Any]":
    """Do one copy.

    Args:
        args: `action` is `stat`, `get` or `put`; `path` as the user gave it. Where the container does not run, `view`
            describes what to mount (`root_mounts`, `mounts`, `sources`, `place`). For `put`: `keep_kinds`,
            `read_only` (the root is), and `owner`, a user as `--user` has it, or empty.
        fds: `mount`, the namespace of a container that runs, and `user` where it has one of its own; `data`, where the
            archive goes to or comes from; and those of the view.

    Returns:
        `{"stat": …}` for `stat`, nothing else to tell for the others. `get` tells `stat` as progress before the first
        byte; `put` tells that it has begun.

    Raises:
        KernelError: with the errno of what is wrong with the path.
        InvalidArgument: the place cannot take an archive, in dockerd's words.
        HostileInput, StoreCorrupt: the archive.
    """
    action = args["action"]
    limits = Limits()
    stream = None
    if action == "put":
        report(fds["result"], {"begun": True})
        # the first bytes name what inflates them, which is loaded now
        stream = Stream(fds["data"], limits)
    _enter(args, fds)
    confine(None, _MAX_FILE)
    root = os.open("/", _DIRECTORY)
    try:
        if stream is not None:
            return _put(args, root, stream, limits)
        found = locate(root, args["path"])
        told = {"stat": describe(root, found)}
        if action == "stat":
            return told
        report(fds["result"], told)
        write_copy(found, fds["data"])
        return {}
    except MemoryError:
        raise InvalidArgument("the archive asks for more memory than a worker has") from None


def _enter(args: "dict[str, Any]", fds: "dict[str, int]") -> None:
    from wherry.linux.namespace import CLONE_NEWNS, CLONE_NEWUSER, setns
    from wherry.runtime.become import warm

    warm()
    inodes.prepare()  # what is /proc from here on is the container's
    if "user" in fds:
        # ids are then the container's, and rights those of its root
        setns(fds["user"], CLONE_NEWUSER)
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    if "mount" in fds:
        setns(fds["mount"], CLONE_NEWNS)
    else:
        _make_view(args["view"], fds)


def _make_view(view: "dict[str, Any]", fds: "dict[str, int]") -> None:
    """Mount a container's root and its data, and make that this process's root."""
    from wherry.linux.mount import make_all_slave
    from wherry.linux.namespace import CLONE_NEWNS, unshare
    from wherry.oci.mount import Mount
    from wherry.oci.runtime_config import parse
    from wherry.runtime import rootfs
    from wherry.runtime.plan import plan_container
    from wherry.runtime.sources import Source

    config = parse(
        {
            "ociVersion": "1.2.0",
            "root": {"path": "rootfs"},
            "process": {"args": ["-"], "cwd": "/"},
            "mounts": view["mounts"],
            "linux": {"namespaces": [{"type": "mount"}]},
        }
    )
    plan = plan_container(
        config,
        view["place"],
        root_mounts=[
            Mount(entry["destination"], entry["type"], entry["source"], tuple(entry["options"]))
            for entry in view["root_mounts"]
        ],
        sources={target: Source.from_json(entry, fds) for target, entry in view["sources"].items()},
    )
    _, trees = rootfs.open_sources(plan)
    unshare(CLONE_NEWNS)
    make_all_slave()
    root = rootfs.attach_root(plan, None)
    rootfs.make_mounts(plan, root, trees, dict)
    rootfs.enter(root)


def _put(args: "dict[str, Any]", root: int, stream: Stream, limits: Limits) -> "dict[str, Any]":
    path = args["path"]
    try:
        target = open_in_root(root, path, _DIRECTORY)
    except KernelError as error:
        if error.errno != ENOTDIR:
            raise
        raise InvalidArgument("extraction point is not a directory") from None
    if is_window(target):
        raise InvalidArgument(f"{path} belongs to the kernel: nothing can be copied there")
    on_root = os.fstat(target).st_dev == os.fstat(root).st_dev
    if os.fstatvfs(target).f_flag & os.ST_RDONLY or (on_root and args.get("read_only")):
        what = "container rootfs" if on_root else "mounted volume"
        raise InvalidArgument(f"{what} is marked read-only")
    owner = _owner(root, args.get("owner") or "")
    # a path of the container's, found from its root again for every directory that an archive names
    prefix = os.fsencode(path.strip("/") + "/" if path.strip("/") else "")
    read_copy(stream, target, (root, prefix), Into(owner, bool(args.get("keep_kinds")), shown_at=path), limits)
    stream.drain()
    return {}


def _owner(root: int, text: str) -> "tuple[int, int] | None":
    """Numbers of a user, read from the container's own files, which are hostile."""
    if not text:
        return None
    found = resolve(text, read_accounts("/etc/passwd", root), read_accounts("/etc/group", root))
    return found.uid, found.gid
