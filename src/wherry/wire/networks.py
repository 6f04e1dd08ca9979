"""A network as Docker's API names it: what create, connect and disconnect ask for."""

from typing import Any

from msgspec import Struct, field


class IpamPool(Struct):
    """One entry of `IPAM.Config`; addresses as text."""

    subnet: str = field(default="", name="Subnet")
    ip_range: str = field(default="", name="IPRange")
    gateway: str = field(default="", name="Gateway")
    auxiliary: dict[str, str] | None = field(default=None, name="AuxiliaryAddresses")


class Ipam(Struct):
    """`IPAM` of a network."""

    driver: str = field(default="", name="Driver")
    options: dict[str, str] | None = field(default=None, name="Options")
    config: list[IpamPool] | None = field(default=None, name="Config")


class ConfigReference(Struct):
    """`ConfigFrom` of a network."""

    network: str = field(default="", name="Network")


class NetworkCreate(Struct):
    """The body of `POST /networks/create`."""

    name: str = field(default="", name="Name")
    check_duplicate: bool | None = field(default=None, name="CheckDuplicate")
    driver: str = field(default="", name="Driver")
    scope: str = field(default="", name="Scope")
    enable_ipv4: bool | None = field(default=None, name="EnableIPv4")
    enable_ipv6: bool | None = field(default=None, name="EnableIPv6")
    ipam: Ipam | None = field(default=None, name="IPAM")
    internal: bool = field(default=False, name="Internal")
    attachable: bool = field(default=False, name="Attachable")
    ingress: bool = field(default=False, name="Ingress")
    config_only: bool = field(default=False, name="ConfigOnly")
    config_from: ConfigReference | None = field(default=None, name="ConfigFrom")
    options: dict[str, str] | None = field(default=None, name="Options")
    labels: dict[str, str] | None = field(default=None, name="Labels")


class EndpointIpam(Struct, omit_defaults=True):
    """`IPAMConfig` of an endpoint: addresses that were asked for."""

    ipv4: str = field(default="", name="IPv4Address")
    ipv6: str = field(default="", name="IPv6Address")
    link_local: list[str] | None = field(default=None, name="LinkLocalIPs")


class EndpointWish(Struct):
    """What a create or connect request says of one endpoint (Docker's `EndpointSettings`)."""

    ipam: EndpointIpam | None = field(default=None, name="IPAMConfig")
    links: list[str] | None = field(default=None, name="Links")
    aliases: list[str] | None = field(default=None, name="Aliases")
    mac_address: str = field(default="", name="MacAddress")
    driver_opts: dict[str, str] | None = field(default=None, name="DriverOpts")
    gw_priority: int = field(default=0, name="GwPriority")
    network_id: str = field(default="", name="NetworkID")


class ConnectRequest(Struct):
    """The body of `POST /networks/{id}/connect`."""

    container: str = field(default="", name="Container")
    endpoint: EndpointWish | None = field(default=None, name="EndpointConfig")


class DisconnectRequest(Struct):
    """The body of `POST /networks/{id}/disconnect`."""

    container: str = field(default="", name="Container")
    force: bool = field(default=False, name="Force")


def ipam_shown(driver: str, options: dict[str, str] | None, pools: list[IpamPool] | None) -> dict[str, Any]:
    """Docker's `IPAM` object of a network that exists; empty parts of a pool are left out."""
    shown = None
    if pools is not None:
        shown = []
        for pool in pools:
            parts = {"IPRange": pool.ip_range, "Gateway": pool.gateway, "AuxiliaryAddresses": pool.auxiliary}
            shown.append({"Subnet": pool.subnet, **{key: value for key, value in parts.items() if value}})
    return {"Driver": driver, "Options": options, "Config": shown}
