"""The root of a container in a user namespace: an overlay of id-mapped layers (Linux 5.19).

On the disk everything keeps the ids that it has in images; the container, whose root is nobody in particular on the
host, sees it as its own. The same layers serve containers with and without a user namespace.
"""

import errno
import os

from wherry.errors import KernelError, NotSupported
from wherry.linux import mount as m
from wherry.linux.files import O_PATH
from wherry.linux.libc import libc
from wherry.linux.process import prctl
from wherry.runtime.elsewhere import clone_from
from wherry.runtime.idmaps import make_user_namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.oci.mount import Mount


_PR_SET_SECUREBITS = 28
_SECBIT_NO_SETUID_FIXUP = 1 << 2  # the rights of root stay, whatever ids this process has


def mapped_overlay(mount: "Mount", place: str, uid_map: str, gid_map: str) -> int:
    """Mount an overlay whose layers are shown through id maps; detached, as a descriptor.

    Args:
        mount: as `Overlay.mounts` describes it: `lowerdir`, `upperdir` and `workdir`, which have one parent.
        place: a directory to work on, in a mount namespace of its own.
        uid_map: lines of `uid_map` of the container's user namespace.
        gid_map: the same for groups.

    Raises:
        NotSupported: the kernel, or the file system of the data root, has no id-mapped mounts.
        KernelError: another system call failed.
    """
    namespace = make_user_namespace(uid_map, gid_map)
    try:
        ids = (int(uid_map.split()[1]), int(gid_map.split()[1]))
        return clone_from(None, lambda: _build(mount, place, namespace, ids), "root")
    except KernelError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        raise NotSupported(
            "a user namespace needs id-mapped mounts, which this kernel or the file system of the data root "
            f"does not have: {error.message}"
        ) from None
    finally:
        os.close(namespace)


def _build(mount: "Mount", place: str, namespace: int, root_ids: "tuple[int, int]") -> int:
    lowers: list[str] = []
    upper = work = ""
    words = []
    for word in mount.options:
        if word.startswith("lowerdir="):
            lowers = word[9:].split(":")
        elif word.startswith("upperdir="):
            upper = word[9:]
        elif word.startswith("workdir="):
            work = word[8:]
        elif word not in ("ro", "rw"):
            words.append(word)
    # opened before the place is covered: they may lie in it
    trees = [(str(number), _mapped(lower, namespace)) for number, lower in enumerate(lowers)]
    words.append(f"lowerdir={':'.join(name for name, _ in trees)}")
    if upper:
        # upper and work must lie on one mount
        above = os.path.commonpath([os.path.dirname(upper), os.path.dirname(work)])
        trees.append(("data", _mapped(above, namespace)))
        words += [f"upperdir=data/{os.path.relpath(upper, above)}", f"workdir=data/{os.path.relpath(work, above)}"]
    m.mount("tmpfs", place, "tmpfs", 0, "mode=700")
    os.chdir(place)
    for name, tree in trees:
        os.mkdir(name, 0o700)
        target = os.open(name, O_PATH | os.O_DIRECTORY)
        m.attach(tree, target, shown=name)
        os.close(target)
        os.close(tree)
    os.mkdir("root", 0o755)
    # overlayfs makes its own files as who mounts it, and the layers know only the ids of the container
    prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, what="prctl PR_SET_SECUREBITS")
    libc.setfsgid(root_ids[1])
    libc.setfsuid(root_ids[0])
    m.mount(mount.source, "root", mount.type, 0, ",".join(words))
    return m.clone_tree("root")


def _mapped(source: str, namespace: int) -> int:
    tree = m.clone_tree(source)
    m.map_owners(tree, namespace)
    return tree
