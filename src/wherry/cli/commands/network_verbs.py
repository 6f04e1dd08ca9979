"""Networks changed: `network create`, `rm`, `connect`, `disconnect`, `prune`."""

from wherry.cli.commands.common import agreed, show_deleted
from wherry.cli.failure import Failure
from wherry.cli.flags import Command, Flag, Invocation
from wherry.cli.output import err, line
from wherry.client.errors import ServerError
from wherry.client.http import quote
from wherry.errors import WherryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_WARNING = "WARNING! This will remove all custom networks not used by at least one container."


def _pair(text: str) -> "tuple[str, str]":
    name, separator, value = text.partition("=")
    if not separator:
        raise ValueError(f"invalid argument {text!r}: want name=value")
    return name, value


def _option(text: str) -> "tuple[str, str]":
    name, _, value = text.partition("=")
    return name, value


def _words(values: "Sequence[str]") -> "list[str]":
    return [word for text in values for word in text.split(",")]


def _pools(command: Invocation) -> "list[dict[str, Any]]":
    """Join subnets with the ranges, gateways and addresses that lie in them, as Docker's command does."""
    if not any(command[name] for name in ("subnet", "ip-range", "gateway", "aux-address")):
        return []
    from ipaddress import ip_address, ip_network

    def network(text: str) -> "Any":
        try:
            return ip_network(text, strict=False)
        except ValueError:
            raise Failure(f"invalid CIDR address: {text}") from None

    def address(text: str) -> "Any":
        try:
            return ip_address(text)
        except ValueError:
            raise Failure(f"no matching subnet for address {text}") from None

    subnets, ranges, gateways = (_words(command[name]) for name in ("subnet", "ip-range", "gateway"))
    if len(subnets) < len(ranges) or len(subnets) < len(gateways):
        raise Failure("every ip-range or gateway must have a corresponding subnet")
    pools: dict[str, dict[str, Any]] = {}
    for text in subnets:
        for other in pools:
            one, two = network(text), network(other)
            if one.version == two.version and one.overlaps(two):
                raise Failure("multiple overlapping subnet configuration is not supported")
        pools[text] = {"Subnet": text, "AuxiliaryAddresses": {}}

    def around(ip: "Any") -> "dict[str, Any] | None":
        return next((pool for text, pool in pools.items() if ip in network(text)), None)

    for text in ranges:
        pool = around(network(text).network_address)
        if pool is None:
            raise Failure(f"no matching subnet for range {text}")
        if "IPRange" in pool:
            raise Failure(
                f"cannot configure multiple ranges ({text}, {pool['IPRange']}) on the same subnet ({pool['Subnet']})"
            )
        pool["IPRange"] = text
    for text in gateways:
        pool = around(address(text))
        if pool is None:
            raise Failure(f"no matching subnet for gateway {text}")
        if "Gateway" in pool:
            raise Failure(
                f"cannot configure multiple gateways ({text}, {pool['Gateway']}) for the same subnet ({pool['Subnet']})"
            )
        pool["Gateway"] = text
    for name, text in command["aux-address"]:
        pool = around(address(text))
        if pool is None:
            raise Failure(f"no matching subnet for aux-address {text}")
        pool["AuxiliaryAddresses"][name] = text
    return list(pools.values())


def _create(command: Invocation) -> None:
    values = command.values
    body: dict[str, Any] = {
        "Name": values.args[0],
        "Driver": values["driver"],
        "Options": dict(values["opt"]),
        "IPAM": {
            "Driver": values["ipam-driver"],
            "Config": _pools(command),
            "Options": dict(values["ipam-opt"]),
        },
        "Internal": values["internal"],
        "Ingress": values["ingress"],
        "Attachable": values["attachable"],
        "ConfigOnly": values["config-only"],
        "Scope": values["scope"],
        "Labels": dict(values["label"]),
    }
    for name, key in (("ipv4", "EnableIPv4"), ("ipv6", "EnableIPv6")):
        if name in values.changed:
            body[key] = values[name]
    if values["config-from"]:
        body["ConfigFrom"] = {"Network": values["config-from"]}
    answer = command.client.call("POST", "/networks/create", body=body)
    if answer.get("Warning"):
        err(f"WARNING: {answer['Warning']}")
    line(answer["Id"])


def _rm(command: Invocation) -> None:
    failed = False
    for name in command.args:
        try:
            command.client.call("DELETE", f"/networks/{quote(name)}")
        except WherryError as error:
            if command["force"] and isinstance(error, ServerError) and error.status == 404:
                continue
            err(str(error))
            failed = True
            continue
        line(name)
    if failed:
        raise Failure("exit status 1")


def _connect(command: Invocation) -> None:
    values = command.values
    network, container = values.args
    options: dict[str, str] = {}
    for text in _words(values["driver-opt"]):
        name, found, value = text.partition("=")
        if not found or not name:
            raise Failure("invalid key/value pair format in driver options")
        options[name] = value
    endpoint: dict[str, Any] = {
        "IPAMConfig": {
            "IPv4Address": values["ip"],
            "IPv6Address": values["ip6"],
            "LinkLocalIPs": _words(values["link-local-ip"]),
        },
        "Links": values["link"] or None,
        "Aliases": _words(values["alias"]),
        "DriverOpts": options,
        "GwPriority": values["gw-priority"],
    }
    if values["mac-address"]:
        endpoint["MacAddress"] = values["mac-address"]
    command.client.call(
        "POST", f"/networks/{quote(network)}/connect", body={"Container": container, "EndpointConfig": endpoint}
    )


def _disconnect(command: Invocation) -> None:
    network, container = command.args
    command.client.call(
        "POST", f"/networks/{quote(network)}/disconnect", body={"Container": container, "Force": command["force"]}
    )


def _check(command: Invocation) -> int:
    container, port = [*command.args, ""][:2]
    findings = command.client.call("GET", "/wherry/v1/networks/check", {"container": container, "port": port or None})
    for finding in findings:
        line(f"{'ok  ' if finding['ok'] else 'FAIL'}  {finding['text']}")
    return 0 if all(finding["ok"] for finding in findings) else 1


def _prune(command: Invocation) -> None:
    if not command["force"] and not agreed(_WARNING):
        return
    filters = command.values.filters()
    report = command.client.call("POST", "/networks/prune", {"filters": filters or None})
    show_deleted("Deleted Networks:", report.get("NetworksDeleted"))


COMMANDS = {
    "network create": Command(
        "[OPTIONS] NETWORK",
        "Create a network",
        _create,
        (
            Flag("attachable", "", "bool", "Enable manual container attachment"),
            Flag(
                "aux-address",
                "",
                "map",
                "Auxiliary IPv4 or IPv6 addresses used by Network driver (default map[])",
                check=_pair,
            ),
            Flag("config-from", "", "string", "The network from which to copy the configuration"),
            Flag("config-only", "", "bool", "Create a configuration only network"),
            Flag("driver", "d", "string", 'Driver to manage the Network (default "bridge")', "bridge"),
            Flag("gateway", "", "strings", "IPv4 or IPv6 Gateway for the master subnet"),
            Flag("ingress", "", "bool", "Create swarm routing-mesh network"),
            Flag("internal", "", "bool", "Restrict external access to the network"),
            Flag("ip-range", "", "strings", "Allocate container ip from a sub-range"),
            Flag("ipam-driver", "", "string", 'IP Address Management Driver (default "default")', "default"),
            Flag("ipam-opt", "", "map", "Set IPAM driver specific options (default map[])", check=_pair),
            Flag("ipv4", "", "bool", "Enable or disable IPv4 address assignment (default true)", True),
            Flag("ipv6", "", "bool", "Enable or disable IPv6 address assignment"),
            Flag("label", "", "list", "Set metadata on a network", check=_option),
            Flag("opt", "o", "map", "Set driver specific options (default map[])", check=_option),
            Flag("scope", "", "string", "Control the network's scope"),
            Flag("subnet", "", "strings", "Subnet in CIDR format that represents a network segment"),
        ),
        arguments=(1, 1),
    ),
    "network rm": Command(
        "NETWORK [NETWORK...]",
        "Remove one or more networks",
        _rm,
        (Flag("force", "f", "bool", "Do not error if the network does not exist"),),
        arguments=(1, None),
        aliases=("network rm", "network remove"),
    ),
    "network connect": Command(
        "[OPTIONS] NETWORK CONTAINER",
        "Connect a container to a network",
        _connect,
        (
            Flag("alias", "", "strings", "Add network-scoped alias for the container"),
            Flag("driver-opt", "", "strings", "driver options for the network"),
            Flag(
                "gw-priority",
                "",
                "int",
                "Highest gw-priority provides the default gateway. Accepts positive and negative values.",
            ),
            Flag("ip", "", "string", 'IPv4 address (e.g., "172.30.100.104")'),
            Flag("ip6", "", "string", 'IPv6 address (e.g., "2001:db8::33")'),
            Flag("link", "", "list", "Add link to another container"),
            Flag("link-local-ip", "", "strings", "Add a link-local address for the container"),
            Flag("mac-address", "", "string", "MAC address of the interface", hidden=True),
        ),
        arguments=(2, 2),
    ),
    "network disconnect": Command(
        "[OPTIONS] NETWORK CONTAINER",
        "Disconnect a container from a network",
        _disconnect,
        (Flag("force", "f", "bool", "Force the container to disconnect from a network"),),
        arguments=(2, 2),
    ),
    "network check": Command(
        "CONTAINER [PORT[/PROTO]]",
        "Say in words why a container, or one of its ports, cannot be reached",
        _check,
        arguments=(1, 2),
    ),
    "network prune": Command(
        "[OPTIONS]",
        "Remove all unused networks",
        _prune,
        (
            Flag("filter", "", "filter", 'Provide filter values (e.g. "until=<timestamp>")'),
            Flag("force", "f", "bool", "Do not prompt for confirmation"),
        ),
    ),
}
