"""A mount point of a container, as it is asked for, kept in `container.json`, mounted, and shown."""

from typing import Any

from msgspec import Struct

from wherry.oci.mount import Mount


class Point(Struct, omit_defaults=True):
    """One place in a container where something else is mounted than its root.

    `type` is `bind`, `volume`, `image` or `tmpfs` (one of `--mount`, which is only shown from here; `spec_mounts` makes
    it).
    """

    type: str
    target: str
    """Absolute, normalised path in the container."""
    source: str = ""
    """Of a bind the host's path; of an image its name as it was asked for."""
    name: str = ""
    """The volume's name; empty until the container is made, for one that nobody named."""
    anonymous: bool = False
    """Nobody named the volume: it goes with its container when that is asked for."""
    mode: str = ""
    """The options as the user gave them (`ro,z`)."""
    read_only: bool = False
    propagation: str = ""
    recursive: bool = True
    read_only_recursive: bool = True
    """Whether what is mounted below a read-only bind is read-only too."""
    create: bool = False
    """Whether a missing source of a bind is made as a directory (`-v` does, `--mount` only when told)."""
    copy: bool = True
    """Whether an empty volume is filled with what the image has at the target."""
    idmap: str = ""
    """Of a bind: `uid:gid` of the host, whose files are root's in the container."""
    subpath: str = ""
    labels: dict[str, str] | None = None
    """For a volume that is made with the container."""
    options: dict[str, str] | None = None
    """The same: options of the driver."""
    chain_ids: list[str] | None = None
    """Layers of an image, lowest first."""

    def options_of_mount(self) -> tuple[str, ...]:
        """mount(8) words of the bind mount that brings it in."""
        propagation = (self.propagation or "rprivate") if self.type == "bind" else "rprivate"
        read_only = ("rro" if self.read_only_recursive and self.recursive else "ro") if self.read_only else "rw"
        return ("rbind" if self.recursive else "bind", propagation, read_only)

    def bound(self, source: str) -> Mount:
        """The mount to make, of a directory or file that the host knows as `source`."""
        return Mount(self.target, "bind", source, self.options_of_mount())

    def shown(self, data: str) -> dict[str, Any]:
        """The entry of `Mounts` in inspect and list.

        Args:
            data: where the volume's content lies.
        """
        value: dict[str, Any] = {"Type": self.type}
        if self.type == "volume":
            value |= {"Name": self.name, "Source": data, "Destination": self.target, "Driver": "local"}
        else:
            value |= {"Source": self.source, "Destination": self.target}
        return {
            **value,
            "Mode": self.mode,
            "RW": not self.read_only,
            "Propagation": self.propagation,
        }
