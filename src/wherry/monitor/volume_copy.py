"""The worker that carries a volume away, brings one in, or makes a second of it.

What is in a volume, and what is in an archive, is a stranger's: everything is done by descriptor, in a process that has
given up its powers and sees no other directory.
"""

import os

from wherry.monitor.progress import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MAX_FILE = 1 << 62


def worker(args: "dict[str, Any]", fds: "dict[str, int]") -> "dict[str, Any]":
    """Do one.

    Args:
        args: `action` is `export`, `import` or `clone`; `path` where the content of a volume lies that is mounted in
            the namespace `mount`.
        fds: `source` and `target`, directories; `data`, the archive. For a mounted volume `mount` in place of `source`.

    Returns:
        Nothing. `export` and `import` tell that they have begun.

    Raises:
        KernelError, HostileInput, StoreCorrupt, Conflict: as `write_copy`, `read_copy` and `copy_tree`.
    """
    from wherry.linux import inodes
    from wherry.linux.libc import check, libc
    from wherry.linux.namespace import CLONE_NEWNS, setns
    from wherry.runtime.become import warm
    from wherry.snapshots.confine import confine
    from wherry.snapshots.copyin import Into, read_copy
    from wherry.snapshots.copyout import write_copy
    from wherry.snapshots.copytree import copy_tree
    from wherry.snapshots.inflate import Stream
    from wherry.snapshots.limits import Limits
    from wherry.snapshots.located import Located

    warm()
    action = args["action"]
    if action != "clone":
        report(fds["result"], {"begun": True})
    if action == "import":
        limits = Limits()
        stream = Stream(fds["data"], limits)
        confine(fds["target"], _MAX_FILE)
        read_copy(stream, fds["target"], None, Into(root=True), limits)
        stream.drain()
        check(libc.syncfs(fds["target"]), "syncfs")
        return {}
    inodes.prepare()  # the volume's namespace may show another /proc
    if "mount" in fds:
        setns(fds["mount"], CLONE_NEWNS)
        source = os.open(args["path"], _DIRECTORY)
    else:
        source = fds["source"]
    confine(source, _MAX_FILE)
    if action == "export":
        write_copy(Located("/", ".", os.fstat(source), directory=source), fds["data"])
    else:
        copy_tree(source, fds["target"])
        check(libc.syncfs(fds["target"]), "syncfs")
    return {}
