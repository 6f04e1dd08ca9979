"""What the verbs need of others, as Protocols: `engine/` hands the real ones in."""

from collections.abc import Sequence
from typing import Any, Protocol

from wherry.oci.mount import Mount
from wherry.sandbox.ports import Monitor


class Image(Protocol):
    """An image as `images.Images.resolve` gives it."""

    id: str
    chain_ids: list[str]
    names: list[str]
    size: int
    raw_config: bytes


class SandboxNetwork(Protocol):
    """What one sandbox holds of the network: addresses, published ports, and how both are shown."""

    def plan(self) -> dict[str, Any]:
        """The `network` part of a launch."""

    def fds(self) -> dict[str, int]:
        """Descriptors that go along with it (port reservations, a namespace to join)."""

    def files(self) -> dict[str, str]:
        """Contents of `hosts`, `hostname` and `resolv.conf`, by name."""

    async def prepare(self) -> None:
        """Get everything ready that must be there before its links; nothing of it waits for the monitor."""

    async def hand_over(self, monitor: Monitor) -> None:
        """Give the monitor what was too much for its launch."""

    def started(self) -> None:
        """The monitor has its copies: close ours."""

    def settings(self) -> dict[str, Any]:
        """Docker's `NetworkSettings`."""

    def to_json(self) -> dict[str, Any]:
        """What `restore` needs after a crash."""

    async def publish(self) -> None:
        """Make published ports reachable."""

    async def release(self) -> None:
        """Give addresses and ports back."""


class Layers(Protocol):
    """The snapshots, as `snapshots.overlay.Overlay` gives them."""

    def path(self, chain_id: str) -> str:
        """The directory of a layer's tree."""

    def trees(self, chain_ids: Sequence[str], upper: str) -> list[str]:
        """The directories that make up a container's root, uppermost first."""

    def mounts(
        self, chain_ids: Sequence[str], upper: str | None, work: str | None, *, read_only: bool = False
    ) -> list[Mount]: ...
