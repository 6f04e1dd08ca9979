"""Layers on disk, and the overlay mount that joins them.

    snapshots/<hex of the chain id>/fs          the layer's tree, with overlayfs's whiteouts
    snapshots/<hex of the chain id>/meta.json   {"v": 1, "chain_id", "parent", "diff_id", "size"}, and, where the blob
                                                is gone, "tree": digest of the archive of the tree
    ingest/layer-<random>/fs                    a layer that is being written
    trash/<hex>.<random>                        one that was removed, until it is deleted

A layer is there when its directory is: it is written in `ingest/`, made durable and renamed. The directories above
`fs` can be entered by their owner only, so that no other user of the machine reaches a setuid program in a layer
(CVE-2021-41091); `fs` itself has the mode of the layer's root, which is what containers see as `/`.
"""

import json
import os
import stat
from errno import EEXIST, ENOENT, ENOSPC, ENOTEMPTY

from wherry.errors import InvalidArgument, KernelError, NewerSchema, StoreCorrupt
from wherry.linux import fileflags
from wherry.linux.libc import check, libc
from wherry.oci.mount import Mount
from wherry.paths import Roots
from wherry.snapshots.remove import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SCHEMA = 1
_META_LIMIT = 64 * 1024
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
# Set whatever the kernel's defaults are: with any of them on, a layer is no plain tree that can be carried away.
_OPTIONS = ("index=off", "redirect_dir=off", "metacopy=off")


class Staged:
    """A layer whose tree is written and not yet synced: what `commit_all` makes visible."""

    __slots__ = ("chain_id", "diff_id", "parent", "size", "tree")

    def __init__(self, tree: str, chain_id: str, size: int, diff_id: str | None, parent: str | None) -> None:
        self.tree = tree
        self.chain_id = chain_id
        self.size = size
        self.diff_id = diff_id
        self.parent = parent


class Overlay:
    """The layers of one data root.

    Args:
        roots: where they lie; the directories are made when they are missing.

    Chain ids are `sha256:<64 hex>`; whatever else is given where one is expected is a ValueError.
    """

    __slots__ = ("_roots",)

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        for path in (roots.snapshots, roots.ingest, roots.trash):
            os.makedirs(path, mode=0o700, exist_ok=True)
        # each tree is made there, under a name of its own, before it is a layer
        fileflags.spread(roots.ingest)

    def path(self, chain_id: str) -> str:
        """Return the directory that holds the layer's tree, whether or not it exists."""
        return f"{self._directory(chain_id)}/fs"

    def exists(self, chain_id: str) -> bool:
        """Tell whether the layer is there, whole."""
        return os.path.isdir(self._directory(chain_id))

    def stage(self) -> str:
        """Make an empty directory (mode 0755) for a layer's tree, in a private one of its own, and return it.

        Raises:
            KernelError: a system call failed; nothing is left.
        """
        while True:
            staging = f"{self._roots.ingest}/layer-{os.urandom(8).hex()}"
            try:
                os.mkdir(staging, 0o700)
                os.mkdir(f"{staging}/fs", 0o755)
                os.chmod(f"{staging}/fs", 0o755)
            except FileExistsError:
                continue
            except OSError as error:
                self.abandon(f"{staging}/fs")
                raise KernelError("stage layer", error.errno or 0, staging) from error
            return f"{staging}/fs"

    def commit(
        self, staging: str, chain_id: str, size: int, *, diff_id: str | None = None, parent: str | None = None
    ) -> str:
        """Make a staged layer visible, durably, and return its tree. Where the layer exists, the staged one is dropped.

        Args:
            staging: what `stage` returned, the tree in it written and synced (`apply_layer` does).
            chain_id: name of the layer on top of its parents.
            size: bytes of its files.
            diff_id: digest of its archive.
            parent: chain id of the layer below, None for the lowest.

        Raises:
            KernelError: a system call failed; the staged layer is still there.
        """
        layer = Staged(staging, chain_id, size, diff_id, parent)
        target, private = self._directory(chain_id), self._staged(staging)
        try:
            self._write_meta(layer, sync=True)
            _fsync(staging)
            _fsync(private)
            self._show(layer)
            _fsync(self._roots.snapshots)
        except KernelError:
            raise
        except OSError as error:
            raise KernelError("commit layer", error.errno or 0, target) from error
        return f"{target}/fs"

    def commit_all(self, layers: "Sequence[Staged]") -> None:
        """Make staged layers visible that nobody synced: one sync of their file system makes all durable before it.

        What else was written to that file system before the call is durable too when it returns.

        Raises:
            KernelError: a system call failed; the layers from that one on are still staged.
        """
        self.settle(layers)
        try:
            for layer in layers:
                self._show(layer)
            if layers:
                _fsync(self._roots.snapshots)
        except KernelError:
            raise
        except OSError as error:
            raise KernelError("commit layers", error.errno or 0, self._roots.snapshots) from error

    def settle(self, layers: "Sequence[Staged]") -> None:
        """Make staged layers durable that nobody synced, and what else was written to their file system.

        Raises:
            KernelError: a system call failed.
        """
        try:
            for layer in layers:
                self._write_meta(layer, sync=False)
            fd = os.open(self._roots.ingest, os.O_RDONLY | os.O_DIRECTORY)
            try:
                check(libc.syncfs(fd), "syncfs", self._roots.ingest)
            finally:
                os.close(fd)
        except OSError as error:
            raise KernelError("write layers", error.errno or 0, self._roots.ingest) from error

    def _write_meta(self, layer: Staged, *, sync: bool) -> None:
        meta: dict[str, object] = {
            "v": _SCHEMA,
            "chain_id": layer.chain_id,
            "parent": layer.parent,
            "diff_id": layer.diff_id,
            "size": layer.size,
        }
        _write_json(f"{self._staged(layer.tree)}/meta.json", meta, sync=sync)

    def _show(self, layer: Staged) -> None:
        """Give a layer, which is durable, its name."""
        try:
            os.rename(self._staged(layer.tree), self._directory(layer.chain_id))
        except OSError as error:
            # rename(2) replaces an empty directory only: a layer that is there stays.
            if error.errno not in (EEXIST, ENOTEMPTY):
                raise
            self.abandon(layer.tree)

    def replace(self, layer: Staged) -> None:
        """Put a staged layer, which is durable (`settle`), in the place of the one of its name, which is removed.

        Both are exchanged in one step: whoever looks finds the one or the other.

        Raises:
            KernelError: a system call failed; the staged layer is still there.
        """
        target = self._directory(layer.chain_id)
        _exchange(self._staged(layer.tree), target)
        try:
            _fsync(self._roots.snapshots)
        except OSError as error:
            raise KernelError("replace layer", error.errno or 0, target) from error
        self.abandon(layer.tree)

    def record_tree(self, chain_id: str, digest: str) -> None:
        """Write down what the archive of a layer's tree hashes to: all that it can be compared with without its blob.

        Raises:
            StoreCorrupt, NewerSchema: as `meta`.
            KernelError: a system call failed; what was written before stays.
        """
        meta = {**self.meta(chain_id), "tree": digest}
        staging = self.stage()
        try:
            path = f"{self._staged(staging)}/meta.json"
            _write_json(path, meta, sync=True)
            os.rename(path, f"{self._directory(chain_id)}/meta.json")
            _fsync(self._directory(chain_id))
        except OSError as error:
            raise KernelError("describe layer", error.errno or 0, chain_id) from error
        finally:
            self.abandon(staging)

    def abandon(self, staging: str) -> None:
        """Remove a staged layer with whatever is in it; that it is gone is no error.

        A worker that was just killed may still write in it: what it adds lies in the trash.

        Raises:
            KernelError: something in it could not be removed.
        """
        self._discard(os.path.basename(self._staged(staging)))

    def remove(self, chain_id: str) -> str | None:
        """Take a layer away: it is renamed into the trash, where `empty_trash` deletes it.

        Returns:
            Its path there, or None where there was no such layer.

        Raises:
            KernelError: it could not be renamed.
        """
        source = self._directory(chain_id)
        target = f"{self._roots.trash}/{_hex(chain_id)}.{os.urandom(4).hex()}"
        try:
            os.rename(source, target)
            _fsync(self._roots.snapshots)
        except OSError as error:
            if error.errno == ENOENT:
                return None
            raise KernelError("remove layer", error.errno or 0, source) from error
        return target

    def empty_trash(self) -> None:
        """Delete what `remove` put into the trash, layers only.

        Raises:
            KernelError: something in it could not be removed.
        """
        for name in os.listdir(self._roots.trash):
            if _is_hex(name.partition(".")[0]):
                _remove(self._roots.trash, name)

    def clean(self) -> None:
        """Take away the staged layers that a crash left behind. For start-up: no engine may be writing one.

        A worker of the engine that was killed may: each goes into the trash first, where it may be written to its end.

        Raises:
            KernelError: one could not be renamed.
        """
        for name in os.listdir(self._roots.ingest):
            if name.startswith("layer-"):
                self._discard(name)

    def _discard(self, name: str) -> None:
        """Rename a staged layer into the trash and delete it there; what cannot be deleted now is later."""
        try:
            os.rename(f"{self._roots.ingest}/{name}", f"{self._roots.trash}/{name}")
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != ENOSPC:
                raise KernelError("remove layer", error.errno or 0, f"{self._roots.ingest}/{name}") from error
            # the trash has no room for one more name: then where it lies
            _remove(self._roots.ingest, name)
            return
        try:
            _remove(self._roots.trash, name)
        except KernelError as error:
            if error.errno not in (ENOENT, ENOTEMPTY):
                raise

    def walk(self) -> "Iterator[str]":
        """Give the chain id of every layer, in no order."""
        for name in os.listdir(self._roots.snapshots):
            if _is_hex(name):
                yield f"sha256:{name}"

    def size(self, chain_id: str) -> int:
        """Return the bytes of the layer's files, as they were when it was committed.

        Raises:
            StoreCorrupt: the layer is not there, or what is written about it cannot be read.
            NewerSchema: a newer version wrote it.
        """
        size = self.meta(chain_id).get("size")
        if type(size) is not int:
            raise StoreCorrupt(f"layer {chain_id}: meta.json names no size", chain_id=chain_id)
        return size

    def meta(self, chain_id: str) -> "dict[str, object]":
        """Return what was written about the layer: `chain_id`, `parent`, `diff_id`, `size`, `v`, perhaps `tree`.

        Raises:
            StoreCorrupt, NewerSchema: as `size`.
        """
        path = f"{self._directory(chain_id)}/meta.json"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                meta = json.loads(os.read(fd, _META_LIMIT))
            finally:
                os.close(fd)
        except (OSError, ValueError) as error:
            raise StoreCorrupt(f"layer {chain_id}: meta.json: {error}", chain_id=chain_id) from None
        if not isinstance(meta, dict) or meta.get("chain_id") != chain_id or type(meta.get("v")) is not int:
            raise StoreCorrupt(f"layer {chain_id}: meta.json is not about this layer", chain_id=chain_id)
        if meta["v"] > _SCHEMA:
            raise NewerSchema(f"layer {chain_id} was written by a newer version", chain_id=chain_id)
        return meta

    def check(self, chain_id: str) -> None:
        """Verify that the layer is whole as far as can be told without its archive.

        Raises:
            StoreCorrupt, NewerSchema: it is not.
        """
        self.size(chain_id)
        if not os.path.isdir(self.path(chain_id)):
            raise StoreCorrupt(f"layer {chain_id} has no tree", chain_id=chain_id)
        mode = stat.S_IMODE(os.stat(self._directory(chain_id)).st_mode)
        if mode & 0o077:
            raise StoreCorrupt(f"layer {chain_id} can be entered by others (mode {mode:04o})", chain_id=chain_id)

    def mounts(
        self, chain_ids: "Sequence[str]", upper: str | None, work: str | None, *, read_only: bool = False
    ) -> list[Mount]:
        """Describe the mount that joins layers to a root. Nothing is mounted here.

        The caller sees to it that no two live mounts have the same upper directory: the kernel only warns.

        Args:
            chain_ids: the image's chain ids, lowest layer first.
            upper: directory that takes what is written; None gives a root that nothing can write to.
            work: empty directory of the same file system, for the kernel.
            read_only: mount it so that nothing can be written, with the upper directory's content.

        Returns:
            One `overlay` mount at `/`; each lower directory is an option `lowerdir=` joined by colons, newest first.

        Raises:
            StoreCorrupt: a layer is not there.
            InvalidArgument: a path holds what separates overlayfs's options.
            ValueError: an upper directory without a work directory.
        """
        lowers = []
        for chain_id in reversed(chain_ids):
            if not self.exists(chain_id):
                raise StoreCorrupt(f"layer {chain_id} is not there", chain_id=chain_id)
            lowers.append(self.path(chain_id))
        if not lowers:
            # An image without layers is an empty directory; overlayfs wants at least one below.
            lowers.append(self._empty("fs"))
        for path in (*lowers, upper or "", work or ""):
            if any(special in path for special in ":,\\"):
                raise InvalidArgument(f"an overlay cannot have a path with a colon, comma or backslash: {path}")
        options = ["ro"] if read_only or upper is None else []
        if upper is None:
            # The kernel takes a root without an upper directory from two lower ones on.
            if len(lowers) == 1:
                lowers.append(self._empty("below"))
            options += [f"lowerdir={':'.join(lowers)}"]
        else:
            if work is None:
                raise ValueError("an upper directory needs a work directory")
            options += [f"lowerdir={':'.join(lowers)}", f"upperdir={upper}", f"workdir={work}"]
        return [Mount("/", "overlay", "overlay", (*options, *_OPTIONS))]

    def trees(self, chain_ids: "Sequence[str]", upper: str) -> list[str]:
        """The directories that make up a container's root, uppermost first: what a mount that only reads is made of.

        Args:
            chain_ids: the image's chain ids, lowest layer first.
            upper: the container's own directory.
        """
        below = [self.path(chain_id) for chain_id in reversed(chain_ids)]
        # the kernel takes a root without an upper directory from two lower ones on
        return [upper, *(below or [self._empty("below")])]

    def _empty(self, name: str) -> str:
        """Make a directory that stays empty; two of them, since no directory can be in an overlay twice."""
        above = f"{self._roots.snapshots}/empty"
        os.makedirs(above, mode=0o700, exist_ok=True)
        os.makedirs(f"{above}/{name}", mode=0o755, exist_ok=True)
        return f"{above}/{name}"

    def _staged(self, tree: str) -> str:
        """Return the private directory above a staged tree, sure that it is one of ours."""
        staging, _, last = tree.rpartition("/")
        above, _, name = staging.rpartition("/")
        if last != "fs" or above != self._roots.ingest or not name.startswith("layer-"):
            raise ValueError(f"not a staged layer: {tree!r}")
        return staging

    def _directory(self, chain_id: str) -> str:
        return f"{self._roots.snapshots}/{_hex(chain_id)}"


def _exchange(one: str, other: str) -> None:
    done = libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    check(done, "exchange layers", other)


def _write_json(path: str, value: "dict[str, object]", *, sync: bool) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(fd, json.dumps(value).encode() + b"\n")
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)


def _hex(chain_id: str) -> str:
    algorithm, _, name = chain_id.partition(":")
    if algorithm != "sha256" or not _is_hex(name):
        raise ValueError(f"not a chain id: {chain_id!r}")
    return name


def _is_hex(name: str) -> bool:
    return len(name) == 64 and not name.strip("0123456789abcdef")


def _fsync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _remove(directory: str, name: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        remove_tree(fd, name)
    finally:
        os.close(fd)
