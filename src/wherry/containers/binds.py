"""Data from the host: `-v host:container[:options]`, `--mount type=bind` and `--tmpfs`, read and checked.

Named volumes are refused here until there are volumes; what an image declares as VOLUME stays in the container's own
read-write layer.
"""

import os
from typing import Any

from wherry.errors import InvalidArgument, NotSupported
from wherry.oci.mount import Mount
from wherry.wire.containers import HostConfig, MountPoint

_PROPAGATION = frozenset({"private", "rprivate", "shared", "rshared", "slave", "rslave"})
_IGNORED = frozenset({"z", "Z", "cached", "delegated", "consistent", "nocopy"})


class Bind:
    """One host path in a container.

    Args:
        source: absolute host path.
        target: absolute, normalised path in the container.
        read_only: whether writes are refused.
        propagation: mount propagation (`rprivate` unless asked).
        mode: the options as the user gave them (`ro,z`).
        create: whether a missing source is made as a directory (`-v` does, `--mount` does not).
    """

    __slots__ = ("create", "mode", "propagation", "read_only", "recursive", "source", "target")

    def __init__(
        self, source: str, target: str, *, read_only: bool, propagation: str, mode: str, create: bool, recursive: bool
    ) -> None:
        self.source = source
        self.target = target
        self.read_only = read_only
        self.propagation = propagation
        self.mode = mode
        self.create = create
        self.recursive = recursive

    def mount(self) -> Mount:
        """The mount to make."""
        options = ["rbind" if self.recursive else "bind", self.propagation, "ro" if self.read_only else "rw"]
        return Mount(self.target, "bind", self.source, tuple(options))

    def point(self) -> dict[str, Any]:
        """The entry of `Mounts` in inspect and list."""
        return {
            "Type": "bind",
            "Source": self.source,
            "Destination": self.target,
            "Mode": self.mode,
            "RW": not self.read_only,
            "Propagation": self.propagation,
        }

    def prepare(self) -> None:
        """Make a missing source directory, as `docker run -v` does, or refuse.

        Raises:
            InvalidArgument: the source is not there and must be.
        """
        if os.path.lexists(self.source):
            return
        if not self.create:
            raise InvalidArgument(
                f'invalid mount config for type "bind": bind source path does not exist: {self.source}'
            )
        try:
            os.makedirs(self.source, exist_ok=True)
        except OSError as error:
            raise InvalidArgument(
                f"error while creating mount source path '{self.source}': mkdir {self.source}: "
                f"{(error.strerror or str(error)).lower()}"
            ) from None


def parse_binds(host: HostConfig) -> list[Bind]:
    """Read `Binds` and the bind entries of `Mounts`.

    Raises:
        InvalidArgument: a malformed or duplicate entry, in dockerd's words.
        NotSupported: a named volume or another kind of mount that needs volumes.
    """
    binds = [_parse(text) for text in host.binds or []]
    binds += [_from_mount(point) for point in host.mounts or [] if point.type != "tmpfs"]
    seen: set[str] = set()
    memory = [_target(m.target, m) for m in host.mounts or [] if m.type == "tmpfs"]
    memory += [os.path.normpath(target) for target in host.tmpfs or {}]
    for target in [b.target for b in binds] + memory:
        if target in seen:
            raise InvalidArgument(f"Duplicate mount point: {target}")
        seen.add(target)
    return binds


def _parse(text: str) -> Bind:
    parts = text.split(":")
    if len(parts) == 1 and parts[0]:
        if not text.startswith("/"):
            raise InvalidArgument(
                f"invalid volume specification: '{text}': invalid mount config for type \"volume\": "
                f"invalid mount path: '{text}' mount path must be absolute"
            )
        raise NotSupported(f"volumes are not supported yet: {text}")
    if not parts[0]:
        raise InvalidArgument(f"invalid volume specification: '{text}'")
    if len(parts) > 3 or not parts[1]:
        raise InvalidArgument(f"invalid volume specification: '{text}'")
    source, target, mode = parts[0], parts[1], parts[2] if len(parts) == 3 else ""
    if not target.startswith("/"):
        raise InvalidArgument(
            f"invalid volume specification: '{text}': invalid mount config for type \"bind\": "
            f"invalid mount path: '{target}' mount path must be absolute"
        )
    target = os.path.normpath(target)
    if target == "/":
        raise InvalidArgument(
            f"invalid volume specification: '{text}': invalid mount config for type \"bind\": "
            "invalid specification: destination can't be '/'"
        )
    if not source.startswith("/"):
        raise NotSupported(f"named volumes are not supported yet: {text}")
    read_only, propagation = _mode(mode)
    return Bind(
        os.path.normpath(source),
        target,
        read_only=read_only,
        propagation=propagation,
        mode=mode,
        create=True,
        recursive=True,
    )


def _mode(mode: str) -> tuple[bool, str]:
    read_only, propagation, access, spreads = False, "rprivate", 0, 0
    for word in mode.split(",") if mode else []:
        if word in ("ro", "rw"):
            read_only, access = word == "ro", access + 1
        elif word in _PROPAGATION:
            propagation, spreads = word, spreads + 1
        elif word not in _IGNORED:
            raise InvalidArgument(f"invalid mode: {mode}")
    if access > 1 or spreads > 1:
        raise InvalidArgument(f"invalid mode: {mode}")
    return read_only, propagation


def _target(target: str, point: MountPoint) -> str:
    if not target:
        raise InvalidArgument(f'invalid mount config for type "{point.type}": field Target must not be empty')
    if not target.startswith("/"):
        raise InvalidArgument(
            f'invalid mount config for type "{point.type}": '
            f"invalid mount path: '{target}' mount path must be absolute"
        )
    return os.path.normpath(target)


def _from_mount(point: MountPoint) -> Bind:
    target = _target(point.target, point)
    if point.type != "bind":
        if point.type in ("volume", "image", "cluster", "npipe"):
            raise NotSupported(f"mounts of type {point.type} are not supported yet: {point.target}")
        raise InvalidArgument(f'invalid mount config for type "{point.type}": mount type unknown')
    if not point.source:
        raise InvalidArgument('invalid mount config for type "bind": field Source must not be empty')
    if not point.source.startswith("/"):
        raise InvalidArgument(
            f"invalid mount config for type \"bind\": invalid mount path: '{point.source}' mount path must be absolute"
        )
    options = point.bind_options or {}
    propagation = options.get("Propagation") or "rprivate"
    if propagation not in _PROPAGATION:
        raise InvalidArgument(f'invalid mount config for type "bind": invalid propagation mode: {propagation}')
    return Bind(
        os.path.normpath(point.source),
        target,
        read_only=point.read_only,
        propagation=propagation,
        mode="",
        create=bool(options.get("CreateMountpoint")),
        recursive=not options.get("NonRecursive"),
    )
