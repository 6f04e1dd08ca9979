"""Docker's `NetworkSettings` and `EndpointSettings`, whole: clients read keys that are empty here."""

from typing import Any

_REPEATED = (
    "EndpointID",
    "Gateway",
    "GlobalIPv6Address",
    "GlobalIPv6PrefixLen",
    "IPAddress",
    "IPPrefixLen",
    "IPv6Gateway",
    "MacAddress",
)


def endpoint_settings(**values: Any) -> dict[str, Any]:
    """Docker's `EndpointSettings`, empty but for `values`."""
    return {
        "IPAMConfig": None,
        "Links": None,
        "Aliases": None,
        "MacAddress": "",
        "DriverOpts": None,
        "GwPriority": 0,
        "NetworkID": "",
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": None,
        **values,
    }


def network_settings(
    *, networks: dict[str, Any], ports: dict[str, Any], default: dict[str, Any] | None = None, key: str = ""
) -> dict[str, Any]:
    """Docker's `NetworkSettings`; the default bridge's endpoint is repeated at the top, as dockerd does."""
    first = default or endpoint_settings()
    return {
        "Bridge": "",
        "SandboxID": "",
        "SandboxKey": key,
        "Ports": ports,
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        **{name: first[name] for name in _REPEATED},
        "Networks": networks,
    }
