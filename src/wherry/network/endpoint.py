"""An endpoint: one container's place in one network. A value; who has what is the network's to know."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, convert, field, to_builtins

from wherry.errors import StoreCorrupt
from wherry.network.wishes import interface_sysctls


class Endpoint(Struct, kw_only=True):
    """One interface of one container; kept in `launch.json` while it lives, so a new field needs a default.

    `kind` is the driver's: `bridge`, `macvlan`, `ipvlan`. `bridge` is the bridge that the host side joins, or the link
    below a macvlan. `host_name` is the host side's name, unique on the machine (empty where there is none), `name` the
    one inside. Addresses are text, empty where there is none. What was asked for (`ipam`, `aliases`, `links`,
    `driver_opts`) is kept for those who look. `group` is the device group of the host side, by which the
    firewall knows the ports of a bridge.
    """

    id: str
    container_id: str
    network: str
    network_id: str
    bridge: str
    host_name: str
    name: str
    mac: str
    address: str
    prefix_length: int
    gateway: str
    mtu: int
    kind: str = "bridge"
    mode: str = ""
    default_bridge: bool = True
    internal: bool = False
    ipv6: bool = False
    address6: str = ""
    prefix_length6: int = 0
    gateway6: str = ""
    link_local: list[str] = field(default_factory=list)
    dns_names: list[str] = field(default_factory=list)
    aliases: list[str] | None = None
    links: list[str] | None = None
    ipam: dict[str, Any] | None = None
    driver_opts: dict[str, str] | None = None
    host_binding: str = ""
    priority: int = 0
    group: int = 0

    @property
    def cidr(self) -> str:
        """The IPv4 address with its prefix length, or empty."""
        return f"{self.address}/{self.prefix_length}" if self.address else ""

    @property
    def cidr6(self) -> str:
        """The IPv6 address with its prefix length, or empty."""
        return f"{self.address6}/{self.prefix_length6}" if self.address6 else ""

    def plan(self, *, default: bool = True, default6: bool = True) -> dict[str, Any]:
        """What `network.sandbox.configure` needs, as JSON values.

        Args:
            default: the container's IPv4 leaves through here.
            default6: its IPv6 does.
        """
        local = [_with_length(text) for text in self.link_local]
        return {
            "kind": self.kind,
            "mode": self.mode,
            "host_name": self.host_name,
            "name": self.name,
            "mac": self.mac,
            "mtu": self.mtu,
            "bridge": self.bridge,
            "network": self.network,
            "group": self.group,
            "addresses": [text for text in (self.cidr, *local) if text and ":" not in text],
            "gateway": self.gateway if default else "",
            "addresses6": [text for text in (self.cidr6, *local) if ":" in text],
            "gateway6": self.gateway6 if default6 else "",
            "routes": [],
            "sysctls": interface_sysctls(self.driver_opts, self.name),
        }

    def settings(self) -> dict[str, Any]:
        """Docker's `EndpointSettings` (`NetworkSettings.Networks.<name>`)."""
        return {
            "IPAMConfig": self.ipam,
            "Links": self.links,
            "Aliases": self.aliases,
            "MacAddress": self.mac,
            "DriverOpts": self.driver_opts,
            "GwPriority": self.priority,
            "NetworkID": self.network_id,
            "EndpointID": self.id,
            "Gateway": self.gateway,
            "IPAddress": self.address,
            "IPPrefixLen": self.prefix_length if self.address else 0,
            "IPv6Gateway": self.gateway6,
            "GlobalIPv6Address": self.address6,
            "GlobalIPv6PrefixLen": self.prefix_length6 if self.address6 else 0,
            "DNSNames": None if self.default_bridge else self.dns_names,
        }

    def to_json(self) -> dict[str, Any]:
        """What `from_json` takes back."""
        value: dict[str, Any] = to_builtins(self)
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Endpoint":
        """Rebuild an endpoint from `to_json`; of an older version, too.

        Raises:
            StoreCorrupt: it is no endpoint.
        """
        try:
            return convert(dict(value), cls)
        except ValueError as error:
            raise StoreCorrupt(f"a saved endpoint is damaged: {error}") from None


def _with_length(address: str) -> str:
    return address if "/" in address else f"{address}/{64 if ':' in address else 16}"
