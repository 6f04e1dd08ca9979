"""Joined layers as one archive: the worker `rootfs`."""

from wherry.snapshots.archive import write_archive
from wherry.snapshots.confine import confine_reader
from wherry.snapshots.mounted import join_layers, leave_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def rootfs_worker(args: "dict[str, Any]", fds: "dict[str, int]") -> "dict[str, Any]":
    """Write joined layers as one archive.

    Args:
        args: `root` (the mount as JSON; null: the directory `root`), `at` (an empty directory to cover), `newest`
            (nanoseconds or null).
        fds: `out`, a pipe or file.

    Returns:
        the fields of `archive.Written`.
    """
    leave_host()
    root = join_layers(args["root"], args["at"]) if args["root"] else fds["root"]
    confine_reader()
    return write_archive(root, fds["out"], whiteouts=False, newest=args.get("newest")).to_json()
