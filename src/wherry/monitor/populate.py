"""The worker that fills new volumes with what an image has where they are mounted.

The image is a stranger's: its root is mounted in a namespace of the worker's own, the targets are found as a process
inside would find them (CVE-2022-23648: a `VOLUME` with `..` or a link never reads the host), and nothing is imported
once the root is entered.
"""

import errno
import os

from wherry.errors import KernelError
from wherry.linux.files import open_in_root
from wherry.oci.mount import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def worker(args: "dict[str, Any]", fds: "dict[str, int]") -> "dict[str, Any]":
    """Fill volumes.

    Args:
        args: `root` is the mount that makes the image's root, `place` a directory to mount it on; `items` names for
            each volume its `target`, its `fd`, and `how`: `here` the descriptor is the content itself; `whole` and
            `entries`: it is the directory above `_data`, and what is ready takes its place, or goes into it.
        fds: by those names.

    Returns:
        `{"copied": entries}`.

    Raises:
        KernelError, HostileInput: as `copy_tree`.
    """
    from wherry.linux import mount as m
    from wherry.linux.libc import check, libc
    from wherry.linux.namespace import CLONE_NEWNS, unshare
    from wherry.runtime.step_mounts import overlay_options
    from wherry.snapshots.confine import confine
    from wherry.snapshots.copytree import copy_tree
    from wherry.snapshots.remove import remove_tree

    unshare(CLONE_NEWNS)
    m.make_all_slave()
    root_mount = args["root"]
    described = Mount("/", root_mount["type"], root_mount["source"], tuple(root_mount["options"]))
    flags, data = overlay_options(described.options)
    m.mount(described.source, args["place"], described.type, flags | m.MS_RDONLY, data)
    root = os.open(args["place"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    confine(root, 1 << 62)
    copied = 0
    for item in args["items"]:
        source = _source(root, item["target"])
        if source < 0:
            continue
        top = fds[item["fd"]]
        if item["how"] == "here":
            if not os.listdir(top):
                copied += copy_tree(source, top)
                check(libc.syncfs(top), "syncfs")
        else:
            os.mkdir("_fill", 0o700, dir_fd=top)
            try:
                fill = os.open("_fill", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
                copied += copy_tree(source, fill)
                check(libc.syncfs(fill), "syncfs")
                _put(top, fill, whole=item["how"] == "whole")
            finally:
                remove_tree(top, b"_fill")
        os.close(source)
    return {"copied": copied}


def _source(root: int, target: str) -> int:
    """The image's directory at the target; -1 where there is none."""
    try:
        return open_in_root(root, target, os.O_RDONLY | os.O_DIRECTORY)
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES):
            return -1
        raise


def _put(top: int, fill: int, *, whole: bool) -> None:
    data = os.open("_data", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
    try:
        if os.listdir(data):
            return  # somebody else was quicker: it is not empty any more
        if whole:
            # rename(2) puts a directory in the place of an empty one
            os.rename("_fill", "_data", src_dir_fd=top, dst_dir_fd=top)
            return
        status = os.fstat(fill)
        for name in os.listdir(fill):
            os.rename(name, name, src_dir_fd=fill, dst_dir_fd=data)
        os.fchown(data, status.st_uid, status.st_gid)
        os.fchmod(data, status.st_mode & 0o7777)
        os.utime(data, ns=(status.st_atime_ns, status.st_mtime_ns))
    finally:
        os.close(data)
