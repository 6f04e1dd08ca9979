"""An endpoint: one container's place in one network. A value; who has what is the network's to know."""

from collections.abc import Mapping
from typing import Any


class Endpoint:
    """One interface of one container.

    Args:
        id: 64 hexadecimal digits, new at each start.
        container_id: whose it is.
        network: name of the network.
        network_id: its id.
        bridge: the bridge that the host side joins.
        host_name: the host side's name, unique on the machine.
        name: the name inside (`eth0`).
        mac: its MAC address.
        address: its IPv4 address.
        prefix_length: of its subnet, in bits.
        gateway: its default gateway.
        mtu: in bytes.
    """

    __slots__ = (
        "address",
        "bridge",
        "container_id",
        "gateway",
        "host_name",
        "id",
        "mac",
        "mtu",
        "name",
        "network",
        "network_id",
        "prefix_length",
    )

    def __init__(
        self,
        *,
        id: str,  # noqa: A002
        container_id: str,
        network: str,
        network_id: str,
        bridge: str,
        host_name: str,
        name: str,
        mac: str,
        address: str,
        prefix_length: int,
        gateway: str,
        mtu: int,
    ) -> None:
        self.id = id
        self.container_id = container_id
        self.network = network
        self.network_id = network_id
        self.bridge = bridge
        self.host_name = host_name
        self.name = name
        self.mac = mac
        self.address = address
        self.prefix_length = prefix_length
        self.gateway = gateway
        self.mtu = mtu

    @property
    def cidr(self) -> str:
        """The address with its prefix length."""
        return f"{self.address}/{self.prefix_length}"

    def plan(self) -> dict[str, Any]:
        """What `network.sandbox.configure` needs, as JSON values."""
        return {
            "host_name": self.host_name,
            "name": self.name,
            "mac": self.mac,
            "mtu": self.mtu,
            "bridge": self.bridge,
            "addresses": [self.cidr],
            "gateway": self.gateway,
            "addresses6": [],
            "gateway6": "",
            "routes": [],
            "sysctls": {},
        }

    def settings(self) -> dict[str, Any]:
        """Docker's `EndpointSettings` (`NetworkSettings.Networks.<name>`)."""
        return {
            "IPAMConfig": None,
            "Links": None,
            "Aliases": None,
            "MacAddress": self.mac,
            "DriverOpts": None,
            "NetworkID": self.network_id,
            "EndpointID": self.id,
            "Gateway": self.gateway,
            "IPAddress": self.address,
            "IPPrefixLen": self.prefix_length,
            "IPv6Gateway": "",
            "GlobalIPv6Address": "",
            "GlobalIPv6PrefixLen": 0,
            "DNSNames": None,
        }

    def to_json(self) -> dict[str, Any]:
        """What `from_json` takes back."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Endpoint":
        """Rebuild an endpoint from `to_json`."""
        return cls(**{name: value[name] for name in cls.__slots__})
