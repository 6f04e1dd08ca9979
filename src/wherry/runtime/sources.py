"""What a bind mount brings in, where that is more than a path: a descriptor, or a place in another mount namespace."""

import errno
import os

from wherry.errors import KernelError, NotSupported
from wherry.linux import mount as m
from wherry.linux.files import O_PATH, RESOLVE_BENEATH, open_in_root
from wherry.oci.mount import Mount
from wherry.runtime.elsewhere import clone_from
from wherry.runtime.idmaps import make_user_namespace
from wherry.runtime.step_mounts import overlay_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Source:
    """One opened source.

    Args:
        fd: the file or directory itself; or a mount namespace, where `path` says where in it.
        path: absolute path in that namespace; empty: `fd` is the thing itself.
        subpath: relative; what is mounted lies there, below the directory. A stranger writes to that directory: the
            path never leads out of it.
        overlay: what is mounted on `path`, in a namespace of its own, to be copied from there: an image.
        owners: lines of an id map (`<on disk> <shown> <how many>`) through which owners are shown; empty: as they are.
    """

    __slots__ = ("fd", "overlay", "owners", "path", "subpath")

    def __init__(
        self,
        fd: int,
        path: str = "",
        subpath: str = "",
        owners: "tuple[str, str]" = ("", ""),
        overlay: "Mount | None" = None,
    ) -> None:
        self.fd = fd
        self.overlay = overlay
        self.path = path
        self.subpath = subpath
        self.owners = owners

    @classmethod
    def from_json(cls, entry: "dict[str, Any]", fds: "dict[str, int]") -> "Source":
        """As a launch message has it, its descriptor by name."""
        owners = (entry.get("uid_map") or "", entry.get("gid_map") or "")
        path, subpath = entry.get("path") or "", entry.get("subpath") or ""
        layers = entry.get("overlay")
        if layers is not None:
            overlay = Mount(layers["destination"], layers["type"], layers["source"], tuple(layers["options"]))
            return cls(-1, path, subpath, owners, overlay)
        return cls(fds[entry["fd"]], path, subpath, owners)


def clone_source(source: Source, *, recursive: bool) -> int:
    """A detached copy of the mount, as a descriptor.

    Raises:
        KernelError: it is not there (any more).
        NotSupported: its owners cannot be shown otherwise.
    """
    tree = _clone(source, recursive)
    if any(source.owners):
        try:
            namespace = make_user_namespace(*source.owners)
            try:
                m.map_owners(tree, namespace, recursive=recursive)
            finally:
                os.close(namespace)
        except KernelError as error:
            os.close(tree)
            if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP):
                raise
            raise NotSupported(
                "id-mapped mounts are not supported by this kernel or by the file system of the source "
                f"(or of one mounted below it): {os.strerror(error.errno or 0).lower()}"
            ) from None
    return tree


def _clone(source: Source, recursive: bool) -> int:
    if source.overlay is not None:
        return clone_from(None, lambda: _of_image(source), "image")
    if not source.path:
        return _copy(source.fd, source.subpath, recursive)

    def copy() -> int:
        return _copy(os.open(source.path, O_PATH | os.O_DIRECTORY), source.subpath, recursive)

    return clone_from(source.fd, copy, "volume")


def _of_image(source: Source) -> int:
    assert source.overlay is not None
    flags, data = overlay_options(source.overlay.options)
    m.mount(source.overlay.source, source.path, source.overlay.type, flags | m.MS_RDONLY, data)
    top = os.open(source.path, O_PATH | os.O_DIRECTORY)
    # an image's own links are followed inside of it
    return m.clone_tree("", at=open_in_root(top, source.subpath, O_PATH))


def _copy(top: int, subpath: str, recursive: bool) -> int:
    if not subpath:
        return m.clone_tree("", at=top, recursive=recursive)
    below = open_in_root(top, subpath, O_PATH, resolve=RESOLVE_BENEATH)
    try:
        return m.clone_tree("", at=below, recursive=recursive)
    finally:
        os.close(below)
