"""Layers mounted where only one short worker sees them: in a mount namespace of its own, which ends with it.

For what must see the joined tree (copying into a root, reading a root that others stand on). The host's mount table
never shows any of it.
"""

import os

from wherry.linux.mount import fd_path, make_all_slave, mount
from wherry.linux.namespace import CLONE_NEWNS, unshare
from wherry.linux.openat import openat2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_READ_ONLY = 1


def leave_host() -> None:
    """Give the calling process (a short worker) a mount namespace of its own.

    Raises:
        KernelError: the kernel refuses.
    """
    unshare(CLONE_NEWNS)
    make_all_slave()


def join_layers(value: "dict[str, Any]", at: str) -> int:
    """Mount what `Overlay.mounts` described, over an empty directory.

    Args:
        value: the mount as JSON.
        at: a directory of ours; covered in this namespace only.

    Returns:
        descriptor of the joined root.

    Raises:
        KernelError: it cannot be mounted.
    """
    flags, words, held = 0, [], []
    try:
        for word in value["options"]:
            key, _, text = word.partition("=")
            if word == "ro":
                flags |= _READ_ONLY
            elif key == "lowerdir":
                # by descriptor: the paths of 127 layers do not fit into the kernel's one page of options
                held += [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in text.split(":")]
                words.append("lowerdir=" + ":".join(fd_path(fd) for fd in held))
            else:
                words.append(word)
        mount(value["source"], at, value["type"], flags, ",".join(words))
    finally:
        for fd in held:
            os.close(fd)
    return openat2(-100, at, os.O_RDONLY | os.O_DIRECTORY, 0)
