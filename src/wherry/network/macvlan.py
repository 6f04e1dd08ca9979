"""macvlan and ipvlan networks: containers that are on the host's own LAN, beside the host.

Nothing is made on the host but the link in the container's namespace, over a parent of the host's. The gateway is the
LAN's router; the firewall of this engine sees nothing of it, and the host and its containers do not reach each other
(the kernel's macvlan, not ours).
"""

import os
from typing import Any

from wherry.errors import Forbidden, InvalidArgument, NotSupported
from wherry.linux.netlink import Netlink
from wherry.linux.rtnetlink import add_child
from wherry.network import device, sandbox
from wherry.network.addressing import Addressed
from wherry.network.endpoint import Endpoint
from wherry.network.spec import NetworkSpec

MODES = {
    "macvlan": {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8},
    "ipvlan": {"l2": 0, "l3": 1, "l3s": 2},
}
_TRIAL_MAC = "02:42:00:00:00:01"
_DEFAULT_MODE = {"macvlan": "bridge", "ipvlan": "l2"}


def check_options(spec: NetworkSpec) -> None:
    """Check what only these drivers know.

    Raises:
        InvalidArgument: a mode that is none, a parent that is not there; in Docker's words.
        NotSupported: no parent was named (Docker takes a dummy link then).
        KernelError: the kernel makes no such link there.
    """
    modes = MODES[spec.driver]
    mode = _mode(spec)
    if mode not in modes:
        default = _DEFAULT_MODE[spec.driver]
        raise InvalidArgument(
            f"requested {spec.driver} mode '{mode}' is not valid, '{default}' mode is the {spec.driver} driver default"
        )
    if spec.internal:
        raise NotSupported(f"internal {spec.driver} networks are not supported")
    parent = spec.options.get("parent", "")
    if not parent:
        raise NotSupported(f"a {spec.driver} network needs a parent interface: -o parent=eth0")
    with Netlink() as netlink:
        below = device.find(netlink, parent)
        if below is None:
            raise InvalidArgument(f"invalid subinterface vlan name {parent}, example formatting is eth0.10")
        # not every kernel has both, and not every link takes children: tried now, not at the first start
        trial = sandbox.create_namespace()
        try:
            mac, kind, index = "" if spec.driver == "ipvlan" else _TRIAL_MAC, spec.driver, below.index
            child = add_child("trial0", kind=kind, mode=modes[mode], below=index, netns=trial, mac=mac, mtu=0)
            netlink.run([child])
        finally:
            os.close(trial)


def _mode(spec: NetworkSpec) -> str:
    return spec.options.get(f"{spec.driver}_mode") or _DEFAULT_MODE[spec.driver]


class ChildNetwork(Addressed):
    """A macvlan or ipvlan network."""

    @property
    def parent(self) -> str:
        """The host's link below."""
        return self.spec.options["parent"]

    def ensure(self) -> None:
        """Nothing is made, and without an MTU that was asked for a link has its parent's, as the kernel gives it.

        A parent that is gone shows at the start of a container.
        """

    def _make(self, **values: Any) -> Endpoint:
        if self.driver == "ipvlan":
            values["mac"] = ""  # all of them have the parent's
        return super()._make(**{**values, "bridge": self.parent, "mode": _mode(self.spec)})

    def sweep(self) -> list[str]:
        """Nothing is left on the host: its links go with the containers' namespaces."""
        return []

    def remove(self) -> None:
        """Nothing is to be removed.

        Raises:
            Forbidden: containers are on it.
        """
        if self._endpoints:
            raise Forbidden(f"error while removing network: network {self.name} id {self.id} has active endpoints")
