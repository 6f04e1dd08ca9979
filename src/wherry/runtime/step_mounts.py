"""What a build step has mounted beside its root: a path inside layers of their own, and files that are only in memory.

Both are made inside the container's own mount namespace, at directories of ours that are covered nowhere else, and come
back as detached trees, to be bound like any other source.
"""

import os

from wherry.errors import InvalidSpec
from wherry.linux import mount as m
from wherry.linux.files import O_PATH, open_in_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from wherry.runtime.plan import MountStep

OPTION_PAGE = 4000  # mount(2) takes one page of options
_PIECE = 1 << 16


def bind_layers(step: "MountStep") -> int:
    """Mount the layers and return a detached tree of the path inside; links are resolved inside the layers.

    Raises:
        KernelError: there is no such path, or the layers cannot be mounted.
    """
    flags, data = overlay_options((*step.options.data, *(("ro",) if step.options.flags & m.MS_RDONLY else ())))
    m.mount(step.source, step.at, step.fstype, flags, data, shown=step.destination)
    top = os.open(step.at, O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    found = open_in_root(top, step.path, O_PATH)
    tree = m.clone_tree("", at=found)
    os.close(found)
    os.close(top)
    return tree


def bind_content(step: "MountStep", content: int) -> int:
    """Write a file into a file system in memory and return a detached tree of it.

    Args:
        step: its options are `mode` (octal), `uid` and `gid`.
        content: a descriptor; read by offset, so that every start of the step gets all of it.
    """
    words = dict(word.partition("=")[::2] for word in step.options.data)
    flags = m.MS_NOSUID | m.MS_NODEV | m.MS_NOEXEC
    m.mount("tmpfs", step.at, "tmpfs", flags, "mode=700", shown=step.destination)
    top = os.open(step.at, O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    fd = os.open("content", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=top)
    offset = 0
    while data := os.pread(content, _PIECE, offset):
        offset += os.write(fd, data)
    os.fchown(fd, int(words.get("uid") or 0), int(words.get("gid") or 0))
    os.fchmod(fd, int(words.get("mode") or "400", 8))
    os.close(fd)
    file = open_in_root(top, "content", O_PATH)
    tree = m.clone_tree("", at=file)
    m.set_attributes(tree, m.MOUNT_ATTR_RDONLY)
    os.close(file)
    os.close(top)
    return tree


def overlay_options(options: "Sequence[str]") -> "tuple[int, str]":
    """Flags and data of an overlay mount, which fit into the kernel's one page of options.

    Raises:
        InvalidSpec: they do not fit.
    """
    flags, words = 0, []
    for word in options:
        if word == "ro":
            flags |= m.MS_RDONLY
        elif word != "rw":
            words.append(word)
    data = ",".join(words)
    if len(os.fsencode(data)) > OPTION_PAGE:
        data = ",".join(short_lower(word) for word in words)
        if len(os.fsencode(data)) > OPTION_PAGE:
            raise InvalidSpec("the root has more layers than one mount can name")
    return flags, data


def short_lower(word: str) -> str:
    """`lowerdir=` by descriptor: 127 layers overflow the option page by path."""
    key, _, value = word.partition("=")
    if key != "lowerdir":
        return word
    # a layer's path never holds a colon: it is named by its digest
    return "lowerdir=" + ":".join(m.fd_path(os.open(path, O_PATH | os.O_DIRECTORY)) for path in value.split(":"))
